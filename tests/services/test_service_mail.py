"""Codes by mail through a real SMTP server: tried again or given up, naming nobody."""

import pytest

from licensesvc.domain.errors import IllegalLicenseState, NoMailAddress, StaleVersion
from licensesvc.domain.instants import DAY, MINUTE
from licensesvc.domain.order import OrderFacts, OrderType
from licensesvc.services.licenses import change_license
from licensesvc.services.licenses.change_license import Target
from licensesvc.services.licenses.issue_license import open_code
from licensesvc.services.mail.mail_code import Language, compose, queue_code
from licensesvc.services.mail.mailer import MailDelayed, Undeliverable
from licensesvc.services.orders.receive_order import receive_line
from licensesvc.services.outbox_worker import OutboxWorker
from licensesvc.storage import licenses
from licensesvc.storage.orders import Buyer
from tests.support_edges import change, rows
from tests.support_mail import ADDRESS, NAME, SENDER, Inbox, a_mail, a_mailer, serving


@pytest.fixture
def inbox():
    return Inbox()


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
