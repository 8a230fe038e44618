"""The mailer against a real SMTP server: encrypted or not at all, and settings that cannot be."""

import ssl

import pytest
import trustme

from licensesvc.services.mail.mailer import MailDelayed, mail_server
from licensesvc.settings import Settings, SettingsError, load
from tests.support_mail import Inbox, RefusesTls, a_mail, a_mailer, serving


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture
def server_tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def inbox():
    return Inbox()


async def test_a_mail_is_encrypted_with_starttls(inbox, server_tls, client_tls):
    async with serving(inbox, tls_context=server_tls) as port:
        await a_mailer(port, "smtp", tls=client_tls).send(a_mail())

    assert inbox.encrypted == [True]


async def test_a_mail_is_encrypted_with_tls(inbox, server_tls, client_tls):
    async with serving(inbox, tls=server_tls) as port:
        await a_mailer(port, "smtps", tls=client_tls).send(a_mail())

    assert len(inbox.mails) == 1


async def test_nothing_is_sent_in_clear_to_a_server_without_starttls(inbox, client_tls):
    async with serving(inbox) as port:
        with pytest.raises(MailDelayed):
            await a_mailer(port, "smtp", tls=client_tls).send(a_mail())

    assert inbox.mails == []


async def test_nothing_is_sent_in_clear_to_a_server_that_refuses_starttls(inbox, server_tls, client_tls):
    async with serving(inbox, kind=RefusesTls, tls_context=server_tls) as port:
        with pytest.raises(MailDelayed):
            await a_mailer(port, "smtp", "user:p%40ss@", tls=client_tls).send(a_mail())

    assert (inbox.mails, inbox.users) == ([], [])


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
async def test_nothing_is_sent_to_a_server_that_nobody_vouches_for(inbox, server_tls, scheme):
    options = {"tls": server_tls} if scheme == "smtps" else {"tls_context": server_tls}
    async with serving(inbox, **options) as port:
        with pytest.raises(MailDelayed):
            await a_mailer(port, scheme).send(a_mail())

    assert inbox.mails == []


@pytest.mark.parametrize(("password", "sent"), [("p%40ss", 1), ("wrong", 0)])
async def test_the_server_is_told_user_and_password(inbox, server_tls, client_tls, password, sent):
    options = {"tls_context": server_tls, "authenticator": inbox.authenticate, "auth_required": True}
    async with serving(inbox, **options) as port:
        mailer = a_mailer(port, "smtp", f"user:{password}@", tls=client_tls)
        if sent:
            await mailer.send(a_mail())
        else:
            with pytest.raises(MailDelayed, match="535"):
                await mailer.send(a_mail())

    assert len(inbox.mails) == sent


@pytest.mark.parametrize(
    "value",
    ["http://x", "smtp://", "smtp://host:99999", "smtp://host/path", "smtp://a@b@c", "smtp://ho st", "localhost:25",
     "smtp://host\n", "smtps://user:pass word@host"],
)  # fmt: skip
def test_a_mail_server_that_cannot_be_is_refused_at_the_start(tmp_path, value):
    with pytest.raises(SettingsError) as refused:
        load({"data_dir": str(tmp_path)}, {"LICENSESVC_SMTP_URL": value})

    assert value not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://mail.example", ("mail.example", 587, "starttls", None, None)),
        ("smtps://u:p%40%2F@mail.example", ("mail.example", 465, "tls", "u", "p@/")),
        ("smtp+plain://127.0.0.1:2525", ("127.0.0.1", 2525, "none", None, None)),
    ],
)
def test_a_mail_server_is_read_from_its_url(url, expected):
    assert Settings(smtp_url=url).smtp_url == url
    assert load({}, {"LICENSESVC_SMTP_URL": url}).smtp_url == url
    server = mail_server(url)
    assert (server.host, server.port, server.security, server.username, server.password) == expected
    assert "p@" not in repr(server)


@pytest.mark.parametrize("value", ["seller", "a@b c", "A <a@b>\r\n", "a@b\nBcc: c@d", "@x"])
def test_a_sender_that_cannot_be_is_refused_at_the_start(tmp_path, value):
    with pytest.raises(SettingsError):
        load({"data_dir": str(tmp_path)}, {"LICENSESVC_MAIL_FROM": value})
