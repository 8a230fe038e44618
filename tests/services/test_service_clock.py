"""The clock of supervision: what is due stands there before its time, is announced once, and survives restarts and second processes."""

import pytest

from licensesvc.domain.instants import DAY, HOUR, MINUTE, parse_rfc3339
from licensesvc.domain.product import DeliveryKind
from licensesvc.domain.supervision import Actor, Event
from licensesvc.services.supervision.record_supervision import RecordEvent, record_event
from licensesvc.services.supervision.supervision_clock import SupervisionClock
from licensesvc.storage import supervision, supervision_due
from tests.support_edges import open_shop
from tests.support_web import Clock, make_runtime


@pytest.fixture
def clock():
    return Clock(now=parse_rfc3339("2026-11-10T04:00:00Z"))


@pytest.fixture
async def rt(database, tmp_path, clock):
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    return await make_runtime(database, data, clock)


@pytest.fixture
async def case(rt):
    """A delivered case: the buyer is asked to accept."""
    shop = await open_shop(rt, kind=DeliveryKind.GENERAL)
    received = await shop.sell()
    await tell(rt, received.case.public_id, "delivered", Actor.SELLER)
    return received.case.public_id


async def tell(rt, case, event, actor, **more):
    command = RecordEvent(event=Event(event), actor=actor, **more)
    return await rt.db.write(lambda tx: record_event(tx, rt, case, command, by="test"))


async def open_dues(rt, until):
    found = await rt.db.read(lambda tx: supervision_due.soonest(tx, until=until, limit=50))
    return {due.kind.value: due.at for due in found}


async def announced(rt):
    rows = await rt.db.read(lambda tx: tx.all("SELECT detail FROM audit_events WHERE kind = 'supervision.due'"))
    return [row["detail"] for row in rows]


async def stands(rt, case):
    return (await rt.db.read(lambda tx: supervision.by_public_id(tx, case))).state


async def test_what_is_due_is_visible_before_and_announced_once_after(rt, clock, case):
    watch, other = SupervisionClock(rt), SupervisionClock(rt)
    assert await watch.look() == 1
    dues = await open_dues(rt, clock.now + 200 * DAY)
    assert dues["appeal_offered"] == clock.now + 120 * HOUR
    assert {"appeal_offered", "reminder"} <= dues.keys()
    assert await announced(rt) == []

    clock.now += 120 * HOUR + 1
    await watch.look()
    await other.look()
    await SupervisionClock(rt).look()  # a restart
    [told] = await announced(rt)
    assert '"kind":"appeal_offered"' in told
    assert "appeal_offered" not in await open_dues(rt, clock.now + 200 * DAY)


async def test_nothing_is_looked_at_twice_without_need(rt, clock, case):
    watch = SupervisionClock(rt)
    assert [await watch.look() for _ in range(3)] == [1, 0, 0]
    clock.now += DAY
    assert await watch.look() == 1  # once a day: a license may have been frozen


async def test_a_change_of_the_case_asks_for_a_look(rt, clock, case):
    watch = SupervisionClock(rt)
    await watch.look()
    await tell(rt, case, "rejected", Actor.BUYER, reason="no")
    assert await watch.look() == 1
    assert "appeal_offered" not in await open_dues(rt, clock.now + 200 * DAY)


async def test_a_clock_that_is_put_back_announces_nothing_again(rt, clock, case):
    watch = SupervisionClock(rt)
    clock.now += 121 * HOUR
    await watch.look()
    clock.now -= 10 * HOUR
    await tell(rt, case, "appealed", Actor.SELLER, reason="idle")
    await watch.look()
    clock.now += 20 * HOUR
    await watch.look()
    assert sum("appeal_offered" in detail for detail in await announced(rt)) == 1


async def test_a_confirmed_acceptance_is_completed_within_three_hours_and_settled(rt, clock, case):
    await tell(rt, case, "accepted", Actor.BUYER, confirmed=True)
    watch = SupervisionClock(rt)
    clock.now += 3 * HOUR - MINUTE
    await watch.look()
    assert (await stands(rt, case)).node == "ACCEPTED"
    clock.now += 2 * MINUTE
    await watch.look()
    state = await stands(rt, case)
    assert (state.node, state.settlement_month) == ("COMPLETED", "2026-12")
    assert state.unconfirmed_since is not None, "the marketplace has not been seen to complete it"


async def test_an_acceptance_that_nobody_confirmed_is_not_completed(rt, clock, case):
    await tell(rt, case, "accepted", Actor.BUYER, confirmed=False)
    clock.now += DAY
    await SupervisionClock(rt).look()
    assert (await stands(rt, case)).node == "ACCEPTED"


async def test_a_completion_that_may_lie_in_two_months_is_left_to_people(rt, clock, case):
    clock.now = parse_rfc3339("2026-11-30T14:30:00Z")  # 22:30 in Shanghai
    await tell(rt, case, "accepted", Actor.BUYER, confirmed=True)
    clock.now += 4 * HOUR
    await SupervisionClock(rt).look()
    assert (await stands(rt, case)).node == "ACCEPTED"
    assert any("completion" in detail for detail in await announced(rt))


async def test_an_ended_case_sleeps_for_good(rt, clock, case):
    await tell(rt, case, "accepted", Actor.BUYER, confirmed=True)
    clock.now += 4 * HOUR
    watch = SupervisionClock(rt)
    await watch.look()
    await watch.look()
    clock.now += 400 * DAY
    assert await watch.look() == 0
