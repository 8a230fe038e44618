"""Links by mail through a real SMTP server: one link a mail however often it is tried, no token in clear, each link revocable."""

import asyncio
import re
from dataclasses import replace
from functools import partial

import pytest

from licensesvc.domain.errors import InvalidParameter, NoMailAddress, NotFound
from licensesvc.domain.instants import DAY, MINUTE
from licensesvc.domain.order import OrderFacts, OrderType
from licensesvc.services.buyer.buyer_links import MAX_LIVE, follow_link, revoke_buyer_link
from licensesvc.services.mail.mail_code import Language
from licensesvc.services.mail.mail_link import OUTBOX_KIND, MailBuyerLink, compose, queue_link
from licensesvc.services.mail.mailer import MailDelayed
from licensesvc.services.orders.receive_order import receive_line
from licensesvc.services.outbox_worker import OutboxWorker
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.services.upkeep.erase_buyer import EraseBuyer, erase_buyer
from licensesvc.services.upkeep.sealed_values import unopenable
from licensesvc.storage import buyer_links, buyers, outbox, supervision
from licensesvc.storage.orders import Buyer
from licensesvc.storage.port import StorageUnavailable
from tests.services.test_service_mail import HOSTILE, outbox_row
from tests.support_edges import change, rows
from tests.support_mail import ADDRESS, NAME, SENDER, Inbox, a_mail, a_mailer, serving

PUBLIC = "https://licenses.example/shop/"
LINK = re.compile(r"https://licenses\.example/shop/buyer/(\S+)")


@pytest.fixture
def inbox():
    return Inbox()


@pytest.fixture
async def case_id(rt, shop):
    facts = OrderFacts(order_id="CS7", order_type=OrderType.NEW, marketplace_product_id="OFFI100")
    buyer = Buyer(customer_id="cust-7", name=NAME, email=ADDRESS)
    line = await rt.db.write(
        lambda tx: receive_line(tx, rt, shop.connection, facts, buyer=buyer, source="test", by="test")
    )
    return line.case.public_id


async def queued(rt, case_id, **wish):
    return await rt.db.write(lambda tx: queue_link(tx, rt, case_id, MailBuyerLink(**wish), by="tok_1"))


async def links(rt, case_id):
    async def of_case(tx):
        return await buyer_links.of_case(tx, (await supervision.by_public_id(tx, case_id)).id)

    return await rt.db.read(of_case)


async def opens(rt, token) -> bool:
    try:
        await rt.db.read(lambda tx: follow_link(tx, rt, token))
    except NotFound:
        return False
    return True


async def work(rt, port) -> int:
    return await OutboxWorker(rt, None, a_mailer(port), public_url=PUBLIC).work_once()


async def everything(rt) -> str:
    """The text of every table that the mail passes through."""

    async def dump(tx):
        found = []
        for table in ("outbox", "audit_events", "buyer_links", "idempotency_keys"):
            for row in await tx.all(f"SELECT * FROM {table}"):  # noqa: S608
                found += [value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in row]
        return "\n".join(found)

    return await rt.db.read(dump)


async def kinds(rt) -> list[str]:
    found = await rt.db.read(lambda tx: tx.all("SELECT kind FROM audit_events ORDER BY chain, seq"))
    return [row["kind"] for row in found if row["kind"].startswith("supervision.link")]


def token_in(mail) -> str:
    (token,) = LINK.findall(mail.get_content())
    return token


@pytest.mark.parametrize("language", Language)
async def test_the_buyer_gets_a_link_that_opens_the_case(rt, case_id, inbox, language):
    first = await queued(rt, case_id, language=language, days=7)
    again = await queued(rt, case_id, language=language, days=7)  # an impatient second click
    async with serving(inbox) as port:
        assert await work(rt, port) == 1
        assert await work(rt, port) == 0

    [(envelope, mail)] = inbox.mails
    token = token_in(mail)
    _, case = await rt.db.read(lambda tx: follow_link(tx, rt, token))
    (link,) = await links(rt, case_id)
    assert (first.public_id, case.public_id) == (again.public_id, case_id)
    assert (envelope.mail_from, envelope.rcpt_tos, mail["auto-submitted"]) == (SENDER, [ADDRESS], "auto-generated")
    assert NAME in mail.get_content()
    assert "2026-11-25 19:06 (Asia/Shanghai)" in mail.get_content()
    assert "CS7" in mail["subject"]
    assert ("交付进度" in mail["subject"]) is (language is Language.CHINESE)
    assert (link.public_id, link.mailed_at, link.sealed_token) == (first.public_id, rt.clock(), None)
    assert (await outbox_row(rt))["done_at"] is not None
    assert await kinds(rt) == ["supervision.link_made", "supervision.link_mailed"]
    kept = await everything(rt)
    assert "canary" not in kept
    assert token not in kept
    assert (await audit_database(rt)).clean


async def test_without_a_language_the_site_decides(rt, case_id, inbox):
    await queued(rt, case_id)
    async with serving(inbox) as port:
        await work(rt, port)

    assert "交付进度" in inbox.mails[0][1]["subject"]


@pytest.mark.parametrize(("stage", "answer"), [("rcpt", "450 <{}> busy"), ("data", "451 {} later"), ("rcpt", "421 {}")])
async def test_after_a_failure_the_same_link_is_sent_again(rt, clock, case_id, inbox, stage, answer):
    setattr(inbox, stage, answer.format(ADDRESS))
    await queued(rt, case_id)
    async with serving(inbox) as port:
        await work(rt, port)
        waiting = await outbox_row(rt)
        assert (waiting["attempts"], waiting["given_up_at"], waiting["done_at"]) == (1, None, None)
        assert clock.now < waiting["due_at"] <= clock.now + MINUTE
        (before,) = await links(rt, case_id)
        assert before.mailed_at is None
        setattr(inbox, stage, "250 OK")
        clock.now = waiting["due_at"]
        await work(rt, port)

    (after,) = await links(rt, case_id)
    assert (after.token_hash, after.mailed_at) == (before.token_hash, clock.now)
    assert await opens(rt, token_in(inbox.mails[0][1]))
    assert "canary" not in await everything(rt)


async def test_a_mail_that_was_sent_but_not_written_down_goes_out_again_the_same(rt, clock, case_id, inbox):
    """The process, or its database, dies between the server's 250 and our commit."""

    class Dies:
        """A database whose next write fails."""

        def __init__(self, db):
            self.read = db.read
            self._write, self._left = db.write, 1

        async def write(self, verb):
            if self._left:
                self._left -= 1
                raise StorageUnavailable("gone")
            return await self._write(verb)

    await queued(rt, case_id)
    async with serving(inbox) as port:
        await work(replace(rt, db=Dies(rt.db)), port)
        assert (await outbox_row(rt))["done_at"] is None
        clock.now = (await outbox_row(rt))["due_at"]
        await work(rt, port)

    (_, first), (_, second) = inbox.mails
    assert (token_in(first), first["message-id"]) == (token_in(second), second["message-id"])
    assert len(await links(rt, case_id)) == 1
    assert await kinds(rt) == ["supervision.link_made", "supervision.link_mailed"]


async def test_a_mail_that_was_sent_and_written_down_is_only_closed(rt, case_id, inbox):
    """The process dies between writing down that the mail is sent and closing the work."""
    link = await queued(rt, case_id)
    await rt.db.write(lambda tx: buyer_links.mailed(tx, link.public_id, rt.clock()))
    async with serving(inbox) as port:
        await work(rt, port)

    assert inbox.mails == []
    assert (await outbox_row(rt))["done_at"] is not None


@pytest.mark.parametrize("answer", ["550 <{}> unknown", "450 later"])
async def test_a_link_whose_mail_failed_is_known_and_can_be_revoked(rt, clock, case_id, inbox, answer):
    inbox.rcpt = answer.format(ADDRESS)
    await queued(rt, case_id)
    async with serving(inbox) as port:
        await work(rt, port)
        clock.now += DAY
        await work(rt, port)

    (link,) = await links(rt, case_id)
    assert (await outbox_row(rt))["given_up_at"] is not None
    assert (link.live(clock.now), link.sealed_token is None) == (True, False)
    await rt.db.write(lambda tx: revoke_buyer_link(tx, rt, link.public_id, by="op"))
    (revoked,) = await links(rt, case_id)
    assert (revoked.live(clock.now), revoked.sealed_token, revoked.mailed_at) == (False, None, None)
    assert "canary" not in await everything(rt)


async def test_work_that_was_given_up_sends_the_same_link_when_it_is_tried_again(rt, case_id, inbox):
    inbox.rcpt = "550 unknown"
    link = await queued(rt, case_id)
    async with serving(inbox) as port:
        await work(rt, port)
        other = await queued(rt, case_id)  # what was given up stands in nobody's way
        inbox.rcpt = "250 OK"
        assert await rt.db.write(lambda tx: outbox.revive(tx, 1, rt.clock()))
        await work(rt, port)

    found = set()
    for _, mail in inbox.mails:
        opened, _ = await rt.db.read(partial(follow_link, rt=rt, token=token_in(mail)))
        found.add(opened.public_id)
    assert found == {link.public_id, other.public_id}


async def test_revoked_while_the_mail_waited_means_no_mail_and_a_new_one_may_be_asked_for(rt, case_id, inbox):
    link = await queued(rt, case_id)
    await rt.db.write(lambda tx: revoke_buyer_link(tx, rt, link.public_id, by="op"))
    other = await queued(rt, case_id)
    async with serving(inbox) as port:
        assert await work(rt, port) == 2

    assert other.public_id != link.public_id
    assert len(inbox.mails) == 1
    assert [item.mailed_at is not None for item in await links(rt, case_id)] == [False, True]
    given_up = await rt.db.read(lambda tx: tx.one("SELECT given_up_at FROM outbox WHERE subject = $1", link.public_id))
    assert given_up["given_up_at"] is not None


async def test_a_link_that_expired_while_the_mail_waited_is_not_sent(rt, clock, case_id, inbox):
    await queued(rt, case_id, days=1)
    clock.now += DAY
    async with serving(inbox) as port:
        await work(rt, port)

    assert inbox.mails == []
    assert "expired" in (await outbox_row(rt))["last_error"]


async def test_an_erased_buyer_gets_none(rt, case_id, inbox):
    (buyer,) = await rt.db.read(lambda tx: buyers.page(tx, customer_id=None, after=0, limit=9))
    await queued(rt, case_id)
    await rt.db.write(lambda tx: erase_buyer(tx, rt, buyer.public_id, EraseBuyer(reason="asked"), by="op"))
    async with serving(inbox) as port:
        await work(rt, port)

    assert inbox.mails == []
    assert "erased" in (await outbox_row(rt))["last_error"]
    with pytest.raises(NoMailAddress, match="erased"):
        await queued(rt, case_id)
    assert await rows(rt, "buyer_links", "outbox") == [1, 1]


@pytest.mark.parametrize("address", [None, "", "a@b\r\nBcc: c@d", "<a@example.com>"])
async def test_without_an_address_nothing_is_made(rt, case_id, address):
    await change(rt, "UPDATE buyers SET email = $1", address)

    with pytest.raises(NoMailAddress):
        await queued(rt, case_id)

    assert await rows(rt, "buyer_links", "outbox") == [0, 0]


async def test_a_case_without_a_known_buyer_and_no_case(rt, shop):
    received = await shop.sell("CS1")

    with pytest.raises(NoMailAddress):
        await queued(rt, received.case.public_id)
    with pytest.raises(NotFound):
        await queued(rt, "case_" + "0" * 26)


async def test_many_at_once_are_one_link_and_too_many_live_ones_are_refused(rt, case_id):
    made = await asyncio.gather(*(queued(rt, case_id) for _ in range(10)))
    assert len({link.public_id for link in made}) == 1
    await change(rt, "UPDATE outbox SET given_up_at = 1 WHERE given_up_at IS NULL")
    for _ in range(MAX_LIVE - 1):
        await queued(rt, case_id)
        await change(rt, "UPDATE outbox SET given_up_at = 1 WHERE given_up_at IS NULL")

    with pytest.raises(InvalidParameter):
        await queued(rt, case_id)

    assert len(await links(rt, case_id)) == MAX_LIVE
    assert await rt.db.read(lambda tx: unopenable(tx, rt.vault)) == []


@pytest.mark.parametrize("missing", ["mailer", "public_url"])
async def test_without_a_mail_server_or_an_address_of_ours_the_mail_waits(rt, case_id, missing):
    await queued(rt, case_id)
    mailer = None if missing == "mailer" else a_mailer(9)
    await OutboxWorker(rt, None, mailer, public_url=PUBLIC if missing == "mailer" else "").work_once()

    waiting = await outbox_row(rt)
    assert (waiting["kind"], waiting["given_up_at"]) == (OUTBOX_KIND, None)
    assert missing.replace("mailer", "smtp_url") in waiting["last_error"]


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_name_adds_no_header_and_no_line(inbox, name):
    for language in Language:
        wish = {"order": "CS1", "url": f"{PUBLIC}buyer/t", "ends": "2026"}
        subject, text = compose(language, name=name, product=name or "Widget", **wish)
        async with serving(inbox) as port:
            await a_mailer(port).send(a_mail(subject=subject, text=text))
        envelope, mail = inbox.mails[-1]
        plain, told = compose(language, name="n", product="p", **wish)
        assert envelope.rcpt_tos == [ADDRESS]
        assert len(mail.keys()) == 9
        assert len(subject) <= len(plain) + 100
        assert len(mail.get_content().splitlines()) == len(told.splitlines())


async def test_the_control_a_token_in_clear_would_be_found(rt, case_id):
    """The control of this harness: what looks for the token in the tables finds one that lies there."""

    class Leaking:
        async def send(self, mail):
            raise MailDelayed(mail.text)

    await queued(rt, case_id, language=Language.ENGLISH)
    await OutboxWorker(rt, None, Leaking(), public_url=PUBLIC).work_once()

    assert LINK.search(await everything(rt))
