"""Alerts through a real mail server: to the right channels, in their languages, once; a channel that fails keeps no other waiting."""

import asyncio

import msgspec
import pytest

from licensesvc.domain.delisting import Gauge, Level
from licensesvc.domain.errors import InvalidParameter, NotFound, StaleVersion
from licensesvc.domain.instants import DAY, HOUR, MINUTE
from licensesvc.outbound.addresses import Policy
from licensesvc.services.guard import send_alerts
from licensesvc.services.guard.guard_texts import EVENTS, LEVELS, TEST, WORDS
from licensesvc.services.guard.manage_alert_channels import (
    ChangeChannel,
    CreateChannel,
    change_channel,
    create_channel,
    delete_channel,
    test_channel,
)
from licensesvc.services.guard.raise_alerts import MAX_CHANNELS, OUTBOX_KIND, Notice
from licensesvc.services.guard.send_alerts import compose
from licensesvc.services.guard.watch_delisting import DelistingWatch
from licensesvc.services.mail.mail_code import Language
from licensesvc.services.outbox_worker import OutboxWorker
from licensesvc.storage import alert_channels, alerts
from licensesvc.storage.alert_channels import ChannelKind
from tests.support_edges import change, rows
from tests.support_guard import reported
from tests.support_mail import SENDER, Inbox, a_mailer, serving

test_channel.__test__ = False  # a use-case, not a test
PUBLIC = Policy()
OPS = "canary.ops@seller.example"
NOVEMBER = "2026-11"


@pytest.fixture(params=["sqlite"])
def engine(request):
    """The rows of channels have a test on both engines; the rest is about mail."""
    return request.param


@pytest.fixture
def inbox():
    return Inbox()


async def channel(rt, name="ops", **fields):
    command = CreateChannel(**{"name": name, "kind": ChannelKind.MAIL, "address": OPS, **fields})
    return await rt.db.write(lambda tx: create_channel(tx, rt, command, PUBLIC, by="owner"))


async def outbox_rows(rt):
    return await rt.db.read(lambda tx: tx.all("SELECT * FROM outbox ORDER BY id"))


class TestRows:
    @pytest.fixture(params=["sqlite", "postgres"])
    def engine(self, request):
        return request.param

    async def test_a_channel_is_added_changed_and_removed(self, rt):
        added = await channel(rt)
        assert (added.address, added.language, added.least_level, added.version) == (OPS, "zh-CN", Level.WARN, 1)
        command = ChangeChannel(least_level="critical", language=Language.ENGLISH, address="b@seller.example")
        changed = await rt.db.write(lambda tx: change_channel(tx, rt, added.public_id, 1, command, PUBLIC, by="owner"))
        assert (changed.least_level, changed.language, changed.version) == (Level.CRITICAL, "en", 2)
        with pytest.raises(StaleVersion):
            await rt.db.write(lambda tx: change_channel(tx, rt, added.public_id, 1, command, PUBLIC, by="owner"))

        await rt.db.write(lambda tx: delete_channel(tx, rt, added.public_id, by="owner"))
        with pytest.raises(NotFound):
            await rt.db.write(lambda tx: delete_channel(tx, rt, added.public_id, by="owner"))
        assert await rt.db.read(lambda tx: alert_channels.page(tx, after=0, limit=9)) == []
        told = await rt.db.read(lambda tx: tx.all("SELECT kind, detail FROM audit_events ORDER BY seq"))
        assert [row["kind"] for row in told] == [f"alert_channel.{verb}" for verb in ("created", "changed", "deleted")]
        assert "seller.example" not in str([row["detail"] for row in told])


ADDRESSES = ["a@b\r\nBcc: c@d", "a b@c", "@c", "a@", "A <a@b>", "a@b,c@d", "ä@b.c", "\u202ea@b.c", "a@b\0"]


async def test_an_address_that_is_none_is_refused(rt):
    known = await channel(rt)
    for address in ADDRESSES:
        with pytest.raises(InvalidParameter) as refused:
            await channel(rt, address, address=address)
        assert address not in str(refused.value)
        command = ChangeChannel(address=address)
        with pytest.raises(InvalidParameter):
            await rt.db.write(
                lambda tx, c=command: change_channel(tx, rt, known.public_id, known.version, c, PUBLIC, by="owner")
            )
    assert await rows(rt, "alert_channels") == [1]


async def test_there_are_so_many_channels_and_no_more(rt):
    for number in range(MAX_CHANNELS):
        await channel(rt, f"channel {number}")
    with pytest.raises(InvalidParameter):
        await channel(rt, "one more")


@pytest.mark.parametrize("language", Language)
async def test_an_alert_is_mailed_in_the_language_of_its_channel(rt, shop, clock, inbox, language):
    await channel(rt, language=language)
    watch = DelistingWatch(rt)
    async with serving(inbox) as port:
        worker = OutboxWorker(rt, None, a_mailer(port))
        for count, elapsed in ((4, 0), (4, DAY), (0, HOUR)):
            clock.now += elapsed
            await reported(shop, NOVEMBER, count)
            await watch.look()
            assert await worker.work_once() == 1
            assert await worker.work_once() == 0

    words = WORDS[Gauge.FAILED_ORDERS][language]
    assert [envelope.rcpt_tos for envelope, _ in inbox.mails] == [[OPS]] * 3
    told = [(mail["Subject"], mail.get_content()) for _, mail in inbox.mails]
    for (subject, text), (event, headline) in zip(told, EVENTS[language].items(), strict=True):
        level = Level.OK if event == "cleared" else Level.CRITICAL
        assert LEVELS[language][level] in subject
        assert words.title in subject
        assert all(part in text for part in (headline, words.meaning, words.action, shop.connection.name))
        assert "$" not in text
    assert "+08:00" in told[0][1]
    assert len({mail["Message-ID"] for _, mail in inbox.mails}) == 3
    assert inbox.mails[0][1]["From"] == SENDER


async def test_channels_hear_from_their_level_on_and_of_the_end_of_what_they_heard(rt, shop, clock):
    heard = {}
    for level in ("warn", "critical"):
        heard[(await channel(rt, level, least_level=level)).public_id] = level
    watch = DelistingWatch(rt)
    for count in (2, 0, 4, 0):
        await reported(shop, NOVEMBER, count)
        await watch.look()
        clock.now += 2 * HOUR

    notices = [msgspec.json.decode(row["payload"], type=Notice) for row in await outbox_rows(rt)]
    told = [(heard[notice.channel], notice.event, notice.level) for notice in notices]
    assert told == [
        ("warn", "raised", "warn"),
        ("warn", "cleared", "ok"),
        ("warn", "raised", "critical"),
        ("critical", "raised", "critical"),
        ("warn", "cleared", "ok"),
        ("critical", "cleared", "ok"),
    ]


async def test_the_event_that_webhooks_read_commits_with_the_notice_or_not_at_all(rt, shop, monkeypatch):
    await channel(rt)
    await reported(shop, NOVEMBER, 5)

    async def lost(*_args, **_more):
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr("licensesvc.services.guard.raise_alerts.outbox.add", lost)
        with pytest.raises(ZeroDivisionError):
            await DelistingWatch(rt).look()
    assert await rows(rt, "alerts", "outbox") == [0, 0]
    await DelistingWatch(rt).look()
    assert await rows(rt, "alerts", "outbox") == [1, 1]
    (event,) = await rt.db.read(
        lambda tx: tx.all("SELECT subject, detail FROM audit_events WHERE kind = 'alert.raised'")
    )
    (alert,) = await rt.db.read(lambda tx: alerts.page(tx, after=0, limit=2))
    assert event["subject"] == alert.public_id
    assert msgspec.json.decode(event["detail"]) == {
        "connection": shop.connection.public_id,
        "gauge": "failed_orders",
        "period": NOVEMBER,
        "level": "critical",
        "value": 5,
        "limit": 5,
        "told": 1,
    }


async def test_what_waited_until_it_was_over_is_not_sent_and_its_end_is(rt, shop, clock, inbox):
    await channel(rt, language=Language.ENGLISH)
    watch = DelistingWatch(rt)
    for count in (5, 0):
        await reported(shop, NOVEMBER, count)
        await watch.look()
        clock.now += MINUTE
    async with serving(inbox) as port:
        worker = OutboxWorker(rt, None, a_mailer(port))
        while await worker.work_once():
            pass

    assert [mail["Subject"].partition("]")[0] for _, mail in inbox.mails] == ["[well again"]


async def test_a_channel_that_is_gone_gets_nothing(rt, shop, inbox):
    gone = await channel(rt)
    await reported(shop, NOVEMBER, 5)
    await DelistingWatch(rt).look()
    await rt.db.write(lambda tx: delete_channel(tx, rt, gone.public_id, by="owner"))
    async with serving(inbox) as port:
        assert await OutboxWorker(rt, None, a_mailer(port)).work_once() == 1

    assert inbox.mails == []
    assert (await outbox_rows(rt))[0]["done_at"] is not None


async def test_a_test_alert_says_that_it_is_one(rt, inbox):
    wanted = await channel(rt, language=Language.ENGLISH)
    await rt.db.write(lambda tx: test_channel(tx, rt, wanted.public_id, by="ops"))
    async with serving(inbox) as port:
        await OutboxWorker(rt, None, a_mailer(port)).work_once()

    ((_, mail),) = inbox.mails
    assert TEST[Language.ENGLISH] in mail.get_content()
    with pytest.raises(NotFound):
        await rt.db.write(lambda tx: test_channel(tx, rt, "chn_none", by="ops"))


@pytest.mark.parametrize(("answer", "given_up"), [("451 later", False), ("550 <{}> unknown", True)])
async def test_what_a_server_refuses_is_tried_again_or_given_up_and_quotes_nobody(
    rt, shop, clock, inbox, caplog, answer, given_up
):
    inbox.rcpt = answer.format(OPS)
    await channel(rt)
    await reported(shop, NOVEMBER, 5)
    await DelistingWatch(rt).look()
    async with serving(inbox) as port:
        worker = OutboxWorker(rt, None, a_mailer(port))
        await worker.work_once()
        (row,) = await outbox_rows(rt)
        assert (row["given_up_at"] is not None) is given_up
        if not given_up:
            assert 7_500 <= row["due_at"] - clock.now <= 15_000
            clock.now += DAY
            await worker.work_once()
            (row,) = await outbox_rows(rt)
            assert row["given_up_at"] is not None
    kept = await rt.db.read(lambda tx: tx.all("SELECT detail FROM audit_events"))
    assert "canary" not in str([list(row) for row in (row, *kept)]) + caplog.text


async def test_without_a_mail_server_an_alert_waits(rt, shop):
    await channel(rt)
    await reported(shop, NOVEMBER, 5)
    await DelistingWatch(rt).look()
    await OutboxWorker(rt, None).work_once()

    assert "smtp_url" in (await outbox_rows(rt))[0]["last_error"]


class Hanging:
    """A mail server of which one address never gets an answer."""

    def __init__(self):
        self.sent = []
        self.delivered = asyncio.Event()
        self.at_once = self.most_at_once = 0

    async def send(self, mail):
        if mail.to == "hangs@seller.example":
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            try:
                await asyncio.Event().wait()
            finally:
                self.at_once -= 1
        self.sent.append(mail.to)
        self.delivered.set()


async def flood(rt, many):
    """Many notices for a channel that hangs, then one for another."""
    hangs, well = await channel(rt, "hangs", address="hangs@seller.example"), await channel(rt, "well")
    for wanted in [hangs] * many + [well]:
        await rt.db.write(lambda tx, c=wanted: test_channel(tx, rt, c.public_id, by="ops"))


async def test_a_channel_that_hangs_keeps_no_other_waiting(rt):
    await flood(rt, 30)
    mailer = Hanging()
    task = asyncio.create_task(OutboxWorker(rt, None, mailer).run())
    async with asyncio.timeout(10):
        await mailer.delivered.wait()
        while not mailer.at_once:  # noqa: ASYNC110 - whichever of the two comes first
            await asyncio.sleep(0.005)
    assert (mailer.sent, mailer.most_at_once) == ([OPS], 1)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert mailer.at_once == 0  # nothing outlives the worker


async def test_the_control_a_worker_that_waits_for_all_before_it_goes_on_is_caught(rt):
    await flood(rt, 30)
    mailer = Hanging()
    task = asyncio.create_task(OutboxWorker(rt, None, mailer).work_once())
    async with asyncio.timeout(10):
        while mailer.most_at_once < 8:  # noqa: ASYNC110 - the tasks have no event to wait for
            await asyncio.sleep(0.005)
    assert mailer.sent == []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_channel_that_takes_too_long_is_tried_again(rt, monkeypatch):
    monkeypatch.setattr(send_alerts, "SENDING_S", 0.05)
    await flood(rt, 1)
    await OutboxWorker(rt, None, Hanging()).work_once()

    slow, well = await outbox_rows(rt)
    assert "longer than" in slow["last_error"]
    assert (slow["done_at"], slow["given_up_at"], well["done_at"] is not None) == (None, None, True)


@pytest.mark.parametrize(
    "name", ["a\r\nBcc: x@example.com", "$action ${x} $$", "\u202egnp", "x" * 5_000, ".\r\n.\r\nQUIT"]
)
async def test_a_hostile_connection_name_adds_no_header_and_no_line(rt, shop, inbox, name):
    await change(rt, "UPDATE connections SET name = $1", name)
    for language in Language:
        await channel(rt, language, language=language)
    await reported(shop, NOVEMBER, 5)
    await DelistingWatch(rt).look()
    async with serving(inbox) as port:
        await OutboxWorker(rt, None, a_mailer(port)).work_once()

    assert len(inbox.mails) == 2
    for envelope, mail in inbox.mails:
        assert envelope.rcpt_tos == [OPS]
        assert mail["Bcc"] is None
        assert len(mail.get_content().splitlines()) in {13, 14, 15, 16}
        assert len(mail["Subject"]) < 250


def test_every_gauge_has_words_in_every_language():
    for gauge in Gauge:
        for language in Language:
            words = WORDS[gauge][language]
            assert words.title
            assert words.meaning
            assert words.action
            notice = Notice(channel="c", event="test", at=0, gauge=gauge)
            subject, text = compose(language, notice, None)
            assert words.title in subject
            assert "$" not in text
    assert OUTBOX_KIND == "alert"
