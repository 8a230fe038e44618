"""Codes by mail through a real SMTP server: encrypted or not at all, tried again or given up, naming nobody."""

import asyncio
import email
import email.policy
import ssl
from contextlib import asynccontextmanager

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, syntax

from licensesvc.domain.errors import IllegalLicenseState, NoMailAddress, StaleVersion
from licensesvc.domain.instants import DAY, MINUTE
from licensesvc.domain.order import OrderFacts, OrderType
from licensesvc.services import change_license
from licensesvc.services.change_license import Target
from licensesvc.services.issue_license import open_code
from licensesvc.services.mail_code import Language, compose, queue_code
from licensesvc.services.mailer import Mail, MailDelayed, Mailer, Undeliverable, mail_server
from licensesvc.services.outbox_worker import OutboxWorker
from licensesvc.services.receive_order import receive_line
from licensesvc.settings import Settings, SettingsError, load
from licensesvc.storage import licenses
from licensesvc.storage.orders import Buyer
from tests.support_edges import change, rows

ADDRESS = "canary.buyer@example.com"
NAME = "name-canary"
SENDER = "licenses@seller.example"


class Inbox:
    """Keeps what it accepts; answers as it is told."""

    def __init__(self):
        self.mails = []
        self.rcpt = "250 OK"
        self.data = "250 OK"
        self.encrypted = []
        self.users = []

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802
        if self.rcpt.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.rcpt

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        if self.data.startswith("250"):
            self.mails.append((envelope, email.message_from_bytes(envelope.content, policy=email.policy.default)))
            self.encrypted.append(session.ssl is not None)
        return self.data

    def authenticate(self, server, session, envelope, mechanism, auth_data):
        self.users.append((auth_data.login, auth_data.password))
        return AuthResult(success=auth_data.password == b"p@ss", handled=False)


class RefusesTls(SMTP):
    """Offers STARTTLS and then will not do it."""

    @syntax("STARTTLS")
    async def smtp_STARTTLS(self, _arg):  # noqa: N802
        await self.push("454 TLS not available due to temporary reason")


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


@asynccontextmanager
async def serving(inbox, *, kind=SMTP, tls=None, tls_context=None, **options):
    """The port of a mail server."""
    loop = asyncio.get_running_loop()
    connections = []

    def connect():
        connections.append(kind(inbox, hostname="mail.example", loop=loop, tls_context=tls_context, **options))
        return connections[-1]

    server = await loop.create_server(connect, "localhost", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in connections:
            if connection.transport is not None:
                connection.transport.close()
        await server.wait_closed()


def a_mailer(port, scheme="smtp+plain", user="", tls=None):
    return Mailer(mail_server(f"{scheme}://{user}localhost:{port}"), SENDER, tls=tls)


def a_mail(**changed):
    fields = {"key": "lic_1.1", "to": ADDRESS, "subject": "s", "text": "t\n", "at": 1_795_000_000_000, **changed}
    return Mail(**fields)


@pytest.fixture
async def bought(rt, shop):
    facts = OrderFacts(order_id="CS7", order_type=OrderType.NEW, marketplace_product_id="OFFI100")
    buyer = Buyer(customer_id="cust-7", name=NAME, email=ADDRESS)
    line = await rt.db.write(
        lambda tx: receive_line(tx, rt, shop.connection, facts, buyer=buyer, source="test", by="test")
    )
    return line.license.view.public_id


async def queued(rt, license_id, language=None, version=None):
    if version is None:
        version = (await rt.db.read(lambda tx: licenses.by_public_id(tx, license_id))).view.version
    target = Target(license_id=license_id, version=version, by="tok_1", reason="lost")
    return await rt.db.write(lambda tx: queue_code(tx, rt, target, language))


async def outbox_row(rt):
    return await rt.db.read(lambda tx: tx.one("SELECT * FROM outbox ORDER BY id DESC LIMIT 1"))


async def everything_but_buyers(rt):
    """The text of every table that must not hold personal data."""

    async def dump(tx):
        found = []
        for table in ("outbox", "audit_events", "messages", "license_documents", "orders"):
            found += [str([str(value) for value in row]) for row in await tx.all(f"SELECT * FROM {table}")]  # noqa: S608
        return "\n".join(found)

    return await rt.db.read(dump)


@pytest.mark.parametrize("language", Language)
async def test_the_buyer_gets_the_code_once(rt, bought, inbox, language):
    await queued(rt, bought, language)
    await queued(rt, bought, language)  # an impatient second click
    async with serving(inbox) as port:
        worker = OutboxWorker(rt, None, a_mailer(port))
        assert await worker.work_once() == 1
        assert await worker.work_once() == 0

    [(envelope, mail)] = inbox.mails
    loaded = await rt.db.read(lambda tx: licenses.by_public_id(tx, bought))
    code = await rt.db.read(lambda tx: open_code(tx, rt, loaded))
    assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, [ADDRESS])
    assert (mail["from"], mail["to"], mail["auto-submitted"]) == (SENDER, ADDRESS, "auto-generated")
    assert code in mail.get_content()
    assert NAME in mail.get_content()
    assert "CS7" in mail["subject"]
    assert ("许可证" in mail["subject"]) is (language is Language.CHINESE)
    assert (await outbox_row(rt))["done_at"] is not None
    kept = await everything_but_buyers(rt)
    assert "canary" not in kept
    assert code not in kept
    assert await rows(rt, "outbox") == [1]


async def test_without_a_language_the_site_decides(rt, bought, inbox):
    await queued(rt, bought)
    async with serving(inbox) as port:
        await OutboxWorker(rt, None, a_mailer(port)).work_once()

    assert "许可证" in inbox.mails[0][1]["subject"]


@pytest.mark.parametrize(("stage", "answer"), [("rcpt", "450 <{}> busy"), ("data", "451 {} later"), ("rcpt", "421 {}")])
async def test_a_temporary_refusal_is_tried_again_until_it_works(rt, clock, bought, inbox, stage, answer):
    setattr(inbox, stage, answer.format(ADDRESS))
    await queued(rt, bought)
    async with serving(inbox) as port:
        worker = OutboxWorker(rt, None, a_mailer(port))
        await worker.work_once()
        waiting = await outbox_row(rt)
        assert (waiting["attempts"], waiting["given_up_at"], waiting["done_at"]) == (1, None, None)
        assert clock.now < waiting["due_at"] <= clock.now + MINUTE
        setattr(inbox, stage, "250 OK")
        clock.now = waiting["due_at"]
        await worker.work_once()

    assert len(inbox.mails) == 1
    assert "canary" not in await everything_but_buyers(rt)


async def test_a_mail_is_given_up_after_a_day(rt, clock, bought, inbox):
    inbox.rcpt = "450 later"
    await queued(rt, bought)
    async with serving(inbox) as port:
        worker = OutboxWorker(rt, None, a_mailer(port))
        await worker.work_once()
        clock.now += DAY
        await worker.work_once()

    assert (await outbox_row(rt))["given_up_at"] == clock.now


@pytest.mark.parametrize(("stage", "answer"), [("rcpt", "550 <{}> unknown"), ("data", "554 {} spam")])
async def test_a_permanent_refusal_is_final_and_quotes_nobody(rt, bought, inbox, caplog, stage, answer):
    setattr(inbox, stage, answer.format(ADDRESS))
    await queued(rt, bought)
    async with serving(inbox) as port:
        await OutboxWorker(rt, None, a_mailer(port)).work_once()

    given_up = await outbox_row(rt)
    assert (given_up["attempts"], given_up["given_up_at"] is not None) == (1, True)
    assert answer[:3] in given_up["last_error"]
    assert "canary" not in await everything_but_buyers(rt)
    assert "canary" not in caplog.text


async def test_a_mail_server_that_is_away_is_tried_again(rt, bought, inbox):
    await queued(rt, bought)
    async with serving(inbox) as port:
        pass
    await OutboxWorker(rt, None, a_mailer(port)).work_once()
    first = await outbox_row(rt)
    assert (first["attempts"], first["given_up_at"]) == (1, None)


async def test_without_a_mail_server_the_mail_waits(rt, bought):
    await queued(rt, bought)
    await OutboxWorker(rt, None).work_once()

    assert "smtp_url" in (await outbox_row(rt))["last_error"]


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


HOSTILE = [
    "a\r\nBcc: everybody@example.com",
    "a\nSubject: other",
    "a\u2028b",
    "\u202egnp.exe",
    "x" * 5_000,
    "$code ${order} $$",
    ".\r\n.\r\nMAIL FROM:<x@example.com>",
    "\x00\x1b[31m",
    "",
]


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_name_adds_no_header_no_line_and_no_command(inbox, name):
    for language in Language:
        subject, text = compose(language, name=name, product=name or "Widget", order="CS1", code="LS-1", seats=1)
        async with serving(inbox) as port:
            await a_mailer(port).send(a_mail(subject=subject, text=text))
        envelope, mail = inbox.mails[-1]
        assert envelope.rcpt_tos == [ADDRESS]
        assert sorted(mail.keys()) == sorted(
            ["From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "Content-Type",
             "Content-Transfer-Encoding", "MIME-Version"]
        )  # fmt: skip
        plain, _ = compose(language, name="n", product="p", order="CS1", code="LS-1", seats=1)
        assert len(subject) <= len(plain) + 100
        assert len(mail.get_content().splitlines()) == 9


@pytest.mark.parametrize(
    "address",
    ["a@b\r\nBcc: c@d", "a b@example.com", "@example.com", "a@", "a", "a@b@c", "a@exa mple.com", "<a@example.com>",
     "a@example.com,b@example.com", "ä@example.com", "a@" + "x" * 64 + ".com", "", "\u202ea@example.com", '"a b"@x.com'],
)  # fmt: skip
async def test_an_address_that_is_none_is_refused_before_anything_is_queued(rt, bought, address):
    await change(rt, "UPDATE buyers SET email = $1", address)

    with pytest.raises(NoMailAddress) as refused:
        await queued(rt, bought)

    assert len(address) < 3 or address not in str(refused.value)
    assert await rows(rt, "outbox") == [0]


async def test_a_license_without_a_known_buyer_is_told_so(rt, shop):
    received = await shop.sell("CS1")

    with pytest.raises(NoMailAddress):
        await queued(rt, received.license.view.public_id)


async def test_what_changed_while_the_mail_waited_is_respected(rt, bought, inbox):
    before = await queued(rt, bought)
    target = Target(license_id=bought, version=before.view.version, by="tok_1", reason="refund")
    await rt.db.write(lambda tx: change_license.revoke(tx, rt, target))
    async with serving(inbox) as port:
        await OutboxWorker(rt, None, a_mailer(port)).work_once()

    assert inbox.mails == []
    assert (await outbox_row(rt))["given_up_at"] is not None
    with pytest.raises(IllegalLicenseState):
        await queued(rt, bought)
    with pytest.raises(StaleVersion):
        await queued(rt, bought, version=before.view.version)


async def test_erased_while_the_mail_waited_means_no_mail(rt, bought, inbox):
    await queued(rt, bought)
    await change(rt, "UPDATE buyers SET email = NULL")
    async with serving(inbox) as port:
        await OutboxWorker(rt, None, a_mailer(port)).work_once()

    assert inbox.mails == []
    assert (await outbox_row(rt))["given_up_at"] is not None


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


async def test_the_control_the_worker_gives_up_only_what_is_undeliverable(rt, bought):
    """The control of this harness: a mailer that always says no for good, and one that does for now."""

    class Always:
        def __init__(self, error):
            self.error = error

        async def send(self, _mail):
            raise self.error

    for error, given_up in ((Undeliverable("x"), True), (MailDelayed("x"), False)):
        await queued(rt, bought)
        await OutboxWorker(rt, None, Always(error)).work_once()
        assert ((await outbox_row(rt))["given_up_at"] is not None) is given_up
