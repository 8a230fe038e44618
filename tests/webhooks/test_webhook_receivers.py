"""Receivers that misbehave in every way: nothing is lost, order is kept, and nobody else waits."""

import asyncio
import contextlib
import ssl

import pytest
import trustme

from licensesvc.domain.instants import DAY, HOUR, SECOND
from licensesvc.domain.webhook_attempts import LONGEST_PAUSE, WAITS, Verdict, Why
from licensesvc.domain.webhook_attempts import Outcome as Ended
from licensesvc.outbound.addresses import Policy
from licensesvc.services.webhooks import send_webhook
from licensesvc.services.webhooks.manage_webhooks import EnableEndpoint, disable_endpoint, enable_endpoint
from licensesvc.services.webhooks.webhook_dispatcher import CALLS_AT_ONCE
from licensesvc.storage import webhook_endpoints
from tests.support_webhooks import (
    BAD,
    Receiver,
    deliveries,
    dispatching,
    hang,
    happen,
    huge,
    receiving,
    settled,
    status,
    subscribe,
    tried,
    until,
)

SUBJECTS = [f"lic_{number}" for number in range(3)]
NUMBERS = [1, 2, 3]
EVENTS = {(subject, number) for subject in SUBJECTS for number in NUMBERS}


def told(receiver: Receiver) -> set[tuple[str, int]]:
    return {(call.subject, call.number) for call in receiver.accepted}


async def run_through_misbehavior(rt, clock):
    """Everybody is told of the same events; the bad ones are healed once the good one has everything. Raises AssertionError on a loss."""
    async with contextlib.AsyncExitStack() as opened:
        good = await opened.enter_async_context(receiving())
        large = await opened.enter_async_context(receiving(huge))
        bad = {name: await opened.enter_async_context(receiving(behave)) for name, behave in BAD.items()}
        for receiver in (good, large, *bad.values()):
            await subscribe(rt, receiver)
        working = await opened.enter_async_context(dispatching(rt, total_s=300))  # who hangs, hangs all the time
        await happen(rt, SUBJECTS, NUMBERS)
        await until(working, lambda: len(good.accepted) == len(EVENTS) and len(large.accepted) == len(EVENTS))
        assert len(good.calls) == len(large.calls) == len(EVENTS)
        assert all(not receiver.accepted for receiver in bad.values())
        for receiver in bad.values():
            receiver.heal()
        await tried(rt, working, *bad.values())
        clock.now += HOUR + 1  # the longest wait that any of them has brought about
        await settled(rt, working, good, *bad.values())
        for name, receiver in bad.items():
            assert told(receiver) == EVENTS, f"lost for {name}: {EVENTS - told(receiver)}"
        for receiver in (good, large, *bad.values()):
            receiver.assert_in_order()
            assert {d.outcome for d in await deliveries(rt, receiver.endpoint)} == {Ended.DELIVERED}


async def test_nothing_is_lost_nobody_waits_for_another_and_order_is_kept(rt, clock):
    await run_through_misbehavior(rt, clock)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_the_control_a_dispatcher_that_skips_failures_is_caught(rt, clock, monkeypatch):
    def skip(*_args, **_facts):
        return Verdict(outcome=Ended.DELIVERED)

    monkeypatch.setattr(send_webhook, "judge", skip)
    with pytest.raises(AssertionError, match="lost for "):
        await run_through_misbehavior(rt, clock)


class TestOneEndpoint:
    """What one receiver brings about; the engines differ in nothing here that the tests above do not show."""

    @pytest.fixture(params=["sqlite"])
    def engine(self, request):
        return request.param

    async def stored(self, rt, receiver):
        return await rt.db.read(lambda tx: webhook_endpoints.by_id(tx, receiver.endpoint.id))

    async def events(self, rt, kind):
        sql = "SELECT subject, detail FROM audit_events WHERE kind = $1 ORDER BY seq"
        return [tuple(row) for row in await rt.db.read(lambda tx: tx.all(sql, kind))]

    async def test_a_failed_subject_does_not_hold_up_the_others(self, rt, clock):
        async def picky(receiver, writer):
            if receiver.calls[-1].subject == "lic_0":
                await status(500)(receiver, writer)
            else:
                receiver.calls[-1].accepted = True
                await status(204)(receiver, writer)

        async with receiving(picky) as receiver, dispatching(rt) as working:
            await subscribe(rt, receiver)
            await happen(rt, SUBJECTS, NUMBERS)
            await until(working, lambda: len(receiver.accepted) == 6)
            assert [call.number for call in receiver.calls if call.subject == "lic_0"] == [1]
            await tried(rt, working, receiver)
            receiver.heal()
            clock.now += 6 * SECOND
            await settled(rt, working, receiver)
            assert told(receiver) == EVENTS
            receiver.assert_in_order()

    async def test_calls_to_one_endpoint_are_bounded(self, rt):
        async with receiving(hang) as receiver, dispatching(rt) as working:
            await subscribe(rt, receiver)
            await happen(rt, [f"lic_{number}" for number in range(20)], [1])
            await until(working, lambda: len(receiver.calls) >= CALLS_AT_ONCE)
            receiver.behave = status(204)  # a further call would end at once and be followed by others
            for _ in range(20):
                working.wake()
                await asyncio.sleep(0.01)
            assert len(receiver.calls) == CALLS_AT_ONCE
            receiver.heal()

    async def test_after_three_days_of_failures_a_message_is_given_up_and_the_next_one_is_sent(self, rt, clock):
        async with receiving(status(500)) as receiver, dispatching(rt, failing_days=0) as working:
            await subscribe(rt, receiver)
            await happen(rt, ["lic_1"], [1, 2])
            times = []
            for attempt in range(1, len(WAITS) + 2):
                # After the last one the next message may follow at once.
                await until(working, lambda made=attempt: len(receiver.calls) >= made)
                await until(working, lambda made=attempt: self.attempts_are(rt, receiver, made))
                times.append(clock.now)
                if attempt <= len(WAITS):
                    clock.now += WAITS[attempt - 1] - 1
                    await self.nothing_more(rt, working, receiver, attempt)
                    clock.now += WAITS[attempt - 1] // 9 + 2
            assert 3 * DAY < times[-1] - times[0] < 4 * DAY
            first, second = await deliveries(rt, receiver.endpoint)
            assert first.outcome is Ended.GIVEN_UP
            assert len(first.log) == len(WAITS) + 1
            assert second.outcome is None
            await until(working, lambda: receiver.calls[-1].number == 2)

    async def attempts_are(self, rt, receiver, made):
        found = await deliveries(rt, receiver.endpoint)
        return found != [] and found[0].attempts == made

    async def nothing_more(self, rt, working, receiver, made):
        before = len(receiver.calls)
        for _ in range(3):
            working.wake()
            await asyncio.sleep(0.01)
        assert len(receiver.calls) == before == made

    async def test_retry_after_is_honored_for_the_endpoint_but_not_for_ever(self, rt, clock):
        async with receiving(status(429, "Retry-After: 86400")) as receiver, dispatching(rt) as working:
            await subscribe(rt, receiver)
            await happen(rt, ["lic_1"], [1])
            await until(working, lambda: self.attempts_are(rt, receiver, 1))
            receiver.heal()
            await happen(rt, ["lic_2"], [1])
            clock.now += LONGEST_PAUSE - 1
            await self.nothing_more(rt, working, receiver, 1)
            assert (await self.stored(rt, receiver)).paused_until == clock.now + 1
            clock.now += 1
            await until(working, lambda: len(receiver.accepted) == 2)
            await settled(rt, working, receiver)
            assert (await self.stored(rt, receiver)).paused_until is None

    async def test_410_disables_an_endpoint_and_says_so_to_the_others(self, rt):
        async with receiving(status(410)) as gone, receiving() as other, dispatching(rt) as working:
            await subscribe(rt, gone)
            await subscribe(rt, other, events=("webhook_endpoint.disabled",))
            await happen(rt, ["lic_1"], [1])
            await until(working, lambda: other.calls)
            assert other.calls[0].content["data"] == {"endpoint": gone.endpoint.public_id, "why": "gone"}
            stored = await self.stored(rt, gone)
            assert stored.disabled_why is Why.GONE
            assert stored.version == 2
            await happen(rt, ["lic_1"], [2])
            await settled(rt, working, other)
            assert len(gone.calls) == 1

            gone.heal()
            command = EnableEndpoint()
            await rt.db.write(lambda tx: enable_endpoint(tx, rt, gone.endpoint.public_id, command, by="test"))
            await until(working, lambda: gone.accepted)
            assert [call.number for call in gone.accepted if call.content["type"].startswith("license")] == [2]

    async def test_an_endpoint_that_fails_for_days_is_disabled_with_an_alert(self, rt, clock):
        async with receiving(status(500)) as receiver, dispatching(rt, failing_days=5) as working:
            await subscribe(rt, receiver, events=("license.*",))
            await happen(rt, ["lic_1"], [1])
            await until(working, lambda: self.attempts_are(rt, receiver, 1))
            assert (await self.stored(rt, receiver)).failing_since == clock.now
            clock.now += 5 * DAY
            await until(working, lambda: self.attempts_are(rt, receiver, 2))
            stored = await self.stored(rt, receiver)
            assert stored.disabled_why is Why.FAILING
            (event,) = await self.events(rt, "webhook_endpoint.disabled")
            assert event[0] == receiver.endpoint.public_id
            await happen(rt, ["lic_1"], [2])
            receiver.heal()
            await rt.db.write(
                lambda tx: enable_endpoint(tx, rt, stored.public_id, EnableEndpoint(), by="test")
            )  # what was missed comes now
            clock.now += DAY
            await until(working, lambda: told(receiver) == {("lic_1", 1), ("lic_1", 2)})
            await settled(rt, working, receiver)
            assert (await self.stored(rt, receiver)).failing_since is None

    async def test_a_success_ends_the_count_of_failing_days(self, rt, clock):
        async with receiving(status(500)) as receiver, dispatching(rt, failing_days=5) as working:
            await subscribe(rt, receiver)
            await happen(rt, ["lic_1"], [1])
            await until(working, lambda: self.attempts_are(rt, receiver, 1))
            clock.now += 4 * DAY
            receiver.heal()
            await settled(rt, working, receiver)
            clock.now += 4 * DAY
            receiver.behave = status(500)
            await happen(rt, ["lic_1"], [2])
            await until(working, lambda: len(receiver.calls) == 3)
            await until(working, lambda: self.failing(rt, receiver))
            assert (await self.stored(rt, receiver)).disabled_at is None

    async def failing(self, rt, receiver):
        return (await self.stored(rt, receiver)).failing_since is not None

    async def test_a_disabled_endpoint_gets_nothing_and_may_skip_what_it_missed(self, rt):
        async with receiving() as receiver, dispatching(rt) as working:
            endpoint = await subscribe(rt, receiver, events=("license.*",))
            await rt.db.write(lambda tx: disable_endpoint(tx, rt, endpoint.public_id, by="test"))
            await happen(rt, ["lic_1"], [1])
            for _ in range(5):
                working.wake()
                await asyncio.sleep(0.01)
            command = EnableEndpoint(skip_missed=True)
            await rt.db.write(lambda tx: enable_endpoint(tx, rt, endpoint.public_id, command, by="test"))
            await happen(rt, ["lic_1"], [2])
            await until(working, lambda: receiver.calls)
            await settled(rt, working, receiver)
            assert [call.number for call in receiver.calls] == [2]

    async def test_the_log_tells_what_came_back_cut_and_printable(self, rt, clock):
        async def rude(_receiver, writer):
            writer.write(b"HTTP/1.1 400 X\r\nContent-Length: 2000\r\n\r\n\x00\x1b[31mno\xff" + b"n" * 1992)
            await writer.drain()

        async with receiving(rude) as receiver, dispatching(rt) as working:
            await subscribe(rt, receiver)
            await happen(rt, ["lic_1"], [1])
            await until(working, lambda: self.attempts_are(rt, receiver, 1))
            ((attempt,),) = [delivery.log for delivery in await deliveries(rt, receiver.endpoint)]
            assert (attempt.status, attempt.error, attempt.at) == (400, None, clock.now)
            assert len(attempt.answer) == send_webhook.ANSWER_CHARACTERS
            assert attempt.answer.isprintable()

    async def test_a_receiver_with_a_bad_certificate_gets_nothing(self, rt):
        authority, stranger = trustme.CA(), trustme.CA()
        served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        stranger.issue_cert("127.0.0.1").configure_cert(served)
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        async with receiving(ssl=served) as receiver, dispatching(rt, tls=trusting) as working:
            await subscribe(rt, receiver, url=f"https://127.0.0.1:{receiver.port}/")
            await happen(rt, ["lic_1"], [1])
            await until(working, lambda: self.attempts_are(rt, receiver, 1))
            ((attempt,),) = [delivery.log for delivery in await deliveries(rt, receiver.endpoint)]
            assert "certificate" in attempt.error
            assert receiver.calls == []
            stranger.configure_trust(trusting)
            rt.clock.now += 6 * SECOND
            await until(working, lambda: receiver.accepted)

    async def test_an_address_that_may_not_be_called_is_not_called(self, rt):
        """The URL was allowed once; what it means now is checked at every attempt. The control is every other test here."""
        async with receiving() as receiver, dispatching(rt, policy=Policy()) as working:
            await subscribe(rt, receiver)
            await happen(rt, ["lic_1"], [1])
            await until(working, lambda: self.attempts_are(rt, receiver, 1))
            ((attempt,),) = [delivery.log for delivery in await deliveries(rt, receiver.endpoint)]
            assert attempt.error.startswith("not called: ")
            assert receiver.calls == []

    async def test_outcomes_are_counted(self, rt, clock):
        counted = []
        async with receiving(status(500)) as receiver, dispatching(rt, on_attempt=counted.append) as working:
            await subscribe(rt, receiver)
            await happen(rt, ["lic_1"], [1])
            await until(working, lambda: counted)
            receiver.heal()
            clock.now += 6 * SECOND
            await until(working, lambda: len(counted) == 2)
            receiver.behave = status(410)
            await happen(rt, ["lic_1"], [2])
            await until(working, lambda: len(counted) == 3)
        assert counted == ["failed", "delivered", "given_up"]
