"""A process that dies between any two steps: everything arrives at least once, in order, from the next process."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from licensesvc.domain.instants import SECOND
from licensesvc.domain.webhook_attempts import Outcome
from licensesvc.services.webhooks import feed_webhooks
from licensesvc.services.webhooks.feed_webhooks import EVENTS_AT_ONCE
from licensesvc.services.webhooks.send_webhook import LEASE
from licensesvc.storage import audit, webhook_endpoints
from tests.support_storage import execute_once, open_at
from tests.support_webhooks import (
    deliveries,
    dispatching,
    hang,
    happen,
    receiving,
    settled,
    subscribe,
    until,
    well,
)

SUBJECTS = ["lic_1", "lic_2"]
EVENTS = {(subject, number) for subject in SUBJECTS for number in (1, 2)}
STEPS = 11
"""More than a process takes to deliver these events when nothing happens to it; a test below counts."""


class Mortal:
    """A database handle of a process that dies at its step number `at`: before it, or after its commit and before it is told."""

    def __init__(self, db, at, *, told):
        self._db = db
        self._left = at
        self._told = told
        self.steps = 0
        self.dead = asyncio.Event()
        self.engine = db.engine

    async def _step(self, call, *args):
        self.steps += 1
        self._left -= 1
        if self.dead.is_set() or (self._left < 0 and not self._told):
            await self._die()
        result = await call(*args)
        if self._left < 0:
            await self._die()
        return result

    async def _die(self):
        self.dead.set()
        await asyncio.Event().wait()

    async def read(self, fn):
        return await self._db.read(fn)

    async def write(self, fn):
        return await self._step(self._db.write, fn)

    async def submit(self, verb, command):
        return await self._step(self._db.submit, verb, command)


async def live_and_die(rt, at, *, told):
    """Deliver until dead at a step; then another process, once the leases are over. Returns what the first one did."""
    async with receiving() as receiver:
        await subscribe(rt, receiver)
        await happen(rt, SUBJECTS, [1])
        await happen(rt, SUBJECTS, [2])
        db = Mortal(rt.db, at, told=told)

        async def dead_or_done() -> bool:
            found = await deliveries(rt, receiver.endpoint)
            return db.dead.is_set() or [delivery.outcome for delivery in found] == [Outcome.DELIVERED] * 4

        async with dispatching(replace(rt, db=db)) as first:
            await until(first, dead_or_done)
        await rt.db.write(lambda tx: tx.one("SELECT 1 AS written"))  # what the dead one had asked for is through
        rt.clock.now += LEASE
        async with dispatching(rt) as second:
            await settled(rt, second, receiver)
        assert {(call.subject, call.number) for call in receiver.accepted} == EVENTS
        receiver.assert_in_order()
        found = await deliveries(rt, receiver.endpoint)
        assert [delivery.outcome for delivery in found] == [Outcome.DELIVERED] * 4
        return db, receiver


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("told", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(STEPS))
async def test_dying_at_any_step_loses_nothing(rt, at, told):
    await live_and_die(rt, at, told=told)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
async def test_dying_after_a_commit_on_both_engines(rt, at):
    """Fed, claimed, sent and not recorded, recorded."""
    await live_and_die(rt, at, told=True)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_the_steps_reach_beyond_the_end(rt):
    db, receiver = await live_and_die(rt, 1_000, told=False)
    assert not db.dead.is_set()
    assert 6 <= db.steps <= STEPS
    assert len(receiver.calls) == 4


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_the_control_a_record_before_the_call_is_caught(rt, monkeypatch):
    """A dispatcher that says delivered before it has sent loses what it was sending when it dies."""
    from licensesvc.domain.webhook_attempts import Verdict
    from licensesvc.services.webhooks import webhook_dispatcher
    from licensesvc.services.webhooks.send_webhook import Finished, record
    from licensesvc.storage.webhook_deliveries import Attempt

    honest = webhook_dispatcher.WebhookDispatcher.deliver

    async def hasty(self, work, delivery):
        done = Finished(
            delivery=delivery,
            attempt=Attempt(at=0, duration_ms=0),
            verdict=Verdict(outcome=Outcome.DELIVERED),
            now=rt.clock(),
            failing_days=0,
        )
        await self._rt.db.submit(record, done)
        await honest(self, work, delivery)

    monkeypatch.setattr(webhook_dispatcher.WebhookDispatcher, "deliver", hasty)
    with pytest.raises(AssertionError):
        await live_and_die(rt, 2, told=True)


async def test_a_call_that_was_cut_off_by_the_end_of_the_process_is_made_again(rt):
    async with receiving(hang) as receiver:
        await subscribe(rt, receiver)
        await happen(rt, ["lic_1"], [1, 2])
        async with dispatching(rt) as first:
            await until(first, lambda: receiver.calls)
        receiver.heal()
        async with dispatching(rt) as second:
            for _ in range(5):
                second.wake()
                await asyncio.sleep(0.01)
            assert len(receiver.calls) == 1  # the lease of the dead process holds
            rt.clock.now += LEASE
            await settled(rt, second, receiver)
        assert [call.number for call in receiver.calls] == [1, 1, 2]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_an_attempt_whose_claim_was_lost_is_not_written_down(rt):
    """A process that was suspended for longer than its lease comes back: the other one's attempt counts."""
    async with receiving(hang) as receiver, dispatching(rt) as slow:
        await subscribe(rt, receiver)
        await happen(rt, ["lic_1"], [1])
        await until(slow, lambda: receiver.calls)
        rt.clock.now += LEASE
        receiver.behave = well
        async with dispatching(rt) as other:
            await settled(rt, other, receiver)
            receiver.healed.set()  # the first call fails now
            (before,) = await deliveries(rt, receiver.endpoint)
            await asyncio.sleep(0.05)
            assert await deliveries(rt, receiver.endpoint) == [before]
            assert (before.claims, before.attempts) == (2, 1)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_more_events_than_one_pass_takes_come_in_order(rt):
    async with receiving() as receiver, dispatching(rt) as working:
        await subscribe(rt, receiver)
        many = [f"lic_{number}" for number in range(EVENTS_AT_ONCE)]
        await happen(rt, many, [1])
        await happen(rt, many[:30], [2])
        await settled(rt, working, receiver)
        assert len(receiver.calls) == EVENTS_AT_ONCE + 30
        receiver.assert_in_order()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_an_endpoint_with_too_much_open_waits_and_loses_nothing(rt, monkeypatch):
    monkeypatch.setattr(feed_webhooks, "MOST_OPEN", 3)
    monkeypatch.setattr(feed_webhooks, "EVENTS_AT_ONCE", 2)
    async with receiving(hang) as receiver, receiving() as other, dispatching(rt, total_s=300) as working:
        await subscribe(rt, receiver)
        await subscribe(rt, other)
        await happen(rt, [f"lic_{number}" for number in range(9)], [1])
        await until(working, lambda: len(other.accepted) == 9)
        # As many as may be open, and one more where a look of two events began below that.
        assert len(await deliveries(rt, receiver.endpoint)) in (3, 4)
        receiver.heal()
        rt.clock.now += 6 * SECOND

        async def everything() -> bool:
            rt.clock.now += SECOND
            return len({call.id for call in receiver.accepted}) == 9

        await until(working, everything)


class TestSeveralProcesses:
    @pytest.fixture(params=["postgres"])
    def engine(self, request):
        return request.param

    @pytest.fixture
    async def other(self, rt, place):
        """Another process on the same database, with a chain of its own."""
        db = await open_at(place, chain="other")
        yield replace(rt, db=db)
        await db.close()

    async def test_a_message_is_sent_once_and_in_order_by_whichever_process(self, rt, other):
        async with contextlib.AsyncExitStack() as opened:
            receiver = await opened.enter_async_context(receiving())
            await subscribe(rt, receiver)
            one = await opened.enter_async_context(dispatching(rt))
            two = await opened.enter_async_context(dispatching(other))
            subjects = [f"lic_{number}" for number in range(6)]
            for number in range(1, 9):  # each event follows from the one before, on the other chain
                await happen(other if number % 2 else rt, subjects, [number])
                rt.clock.now += 1
                one.wake()
                two.wake()
            await settled(rt, one, receiver)
            assert len(receiver.calls) == len({call.id for call in receiver.calls}) == 48
            receiver.assert_in_order()

    async def test_an_event_that_is_committed_late_is_not_passed_over(self, rt, other, place):
        """Its time lies before events that have long been sent, as that of a slow transaction does."""
        async with receiving() as receiver, dispatching(rt) as working:
            await subscribe(rt, receiver)
            early = rt.clock.now
            rt.clock.now += 10 * SECOND
            await happen(rt, ["lic_1"], [1])
            await until(working, lambda: receiver.calls)
            rt.clock.now = early
            await happen(other, ["lic_2"], [1])
            rt.clock.now += 10 * SECOND
            await settled(rt, working, receiver)
            assert [call.subject for call in receiver.calls] == ["lic_1", "lic_2"]
            assert await execute_once(place, "SELECT count(*) FROM webhook_cursors") == 2

    async def test_heads_hop_over_the_chains(self, rt, other):
        assert await rt.db.read(audit.heads) == {}
        await happen(other, ["lic_1"], [1, 2])
        await happen(rt, ["lic_1"], [3])
        assert await rt.db.read(audit.heads) == {"other": 2, "main": 1}

    async def test_events_of_two_chains_are_told_by_time_however_far_one_is_behind(self, rt, other, monkeypatch):
        monkeypatch.setattr(feed_webhooks, "EVENTS_AT_ONCE", 2)
        async with receiving() as receiver:
            await subscribe(rt, receiver)
            for number in range(1, 7):  # all but the last on one chain, which a pass does not read to its end
                await happen(other if number == 6 else rt, ["lic_1"], [number])
                rt.clock.now += 1
            async with dispatching(rt) as working:
                await settled(rt, working, receiver)
            assert [call.number for call in receiver.calls] == [1, 2, 3, 4, 5, 6]

    async def test_two_that_move_the_same_cursor_do_it_once(self, rt, other):
        async with receiving() as receiver:
            endpoint = await subscribe(rt, receiver)
            await happen(rt, ["lic_1"], [1, 2, 3])
            await asyncio.gather(*(feed_webhooks.feed_webhooks(each) for each in (rt, other, rt, other)))
            assert len(await deliveries(rt, endpoint)) == 3
            cursors = await rt.db.read(lambda tx: webhook_endpoints.cursors(tx, [endpoint.id]))
            assert cursors[endpoint.id]["main"] == 4  # with the event of the endpoint's own making
