"""Alerts are raised once, whoever looks, whatever the clock does, and after a restart."""

import asyncio
from dataclasses import replace

import pytest

from licensesvc.domain.alerts import Event
from licensesvc.domain.delisting import Gauge, month_start
from licensesvc.domain.errors import StaleVersion
from licensesvc.domain.instants import DAY, HOUR, MINUTE
from licensesvc.services.guard import raise_alerts
from licensesvc.services.guard.raise_alerts import acknowledge
from licensesvc.services.guard.watch_delisting import DelistingWatch
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.storage import alerts
from tests.support_edges import rows
from tests.support_guard import one_alert, read, reported, said, story
from tests.support_storage import open_at

BOTH = pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)
"""Where the SQL itself is looked at; the other tests are about decisions that no engine takes."""


@pytest.fixture
def engine(request):
    return getattr(request, "param", "sqlite")


@BOTH
async def test_an_alert_rises_is_repeated_daily_and_ends(shop, clock):
    watch = DelistingWatch(shop.rt)
    start = clock.now
    for hour in range(4):
        clock.now = start + hour * HOUR
        await said(shop, "getLicense", at=clock.now)
        for _ in range(3):
            await watch.look()
    assert await story(shop.rt) == [("raised", "warn", 1), ("raised", "critical", 1)]

    clock.now += 23 * HOUR
    await watch.look()
    assert len(await story(shop.rt)) == 3  # told at the third hour, a day ago
    await said(shop, at=clock.now, outcome="000000")
    await watch.look()
    await watch.look()
    assert (await story(shop.rt))[2:] == [("repeated", "critical", 1), ("cleared", "ok", 1)]
    assert (await audit_database(shop.rt)).clean


@BOTH
async def test_who_acknowledges_is_not_told_daily_but_of_what_grows_worse(shop, clock):
    watch = DelistingWatch(shop.rt)
    await reported(shop, "2026-11", 4)
    await watch.look()
    alert = await one_alert(shop.rt)
    with pytest.raises(StaleVersion):
        await shop.rt.db.write(lambda tx: acknowledge(tx, shop.rt, alert.public_id, 7, by="ops"))
    await shop.rt.db.write(lambda tx: acknowledge(tx, shop.rt, alert.public_id, 1, by="ops"))
    clock.now += 2 * DAY
    await watch.look()
    assert [kind for kind, *_ in await story(shop.rt)] == ["raised", "acknowledged"]
    assert (await one_alert(shop.rt)).acknowledged_by == "ops"

    await reported(shop, "2026-11", 5)
    await watch.look()
    assert [kind for kind, *_ in await story(shop.rt)] == ["raised", "acknowledged", "raised"]
    assert (await one_alert(shop.rt)).acknowledged_by is None


async def test_a_new_month_ends_the_alert_of_the_old_one(shop, clock):
    watch = DelistingWatch(shop.rt)
    await reported(shop, "2026-11", 5)
    await watch.look()
    clock.now = month_start("2026-12", shop.connection.calendar) - 1
    await watch.look()
    assert (await one_alert(shop.rt)).alert.cleared_at is None
    clock.now += 1
    await watch.look()
    assert (await one_alert(shop.rt)).alert.cleared_at == clock.now
    await reported(shop, "2026-12", 2)
    await watch.look()

    periods = await shop.rt.db.read(lambda tx: tx.all("SELECT period, level FROM alerts ORDER BY id"))
    assert [tuple(row) for row in periods] == [("2026-11", "ok"), ("2026-12", "warn")]


async def test_a_restart_of_the_server_tells_nothing_anew(shop, clock, rt, place):
    await reported(shop, "2026-11", 5)
    await DelistingWatch(rt).look()
    again = await open_at(place)
    try:
        await DelistingWatch(replace(rt, db=again)).look()
    finally:
        await again.close()

    assert [kind for kind, *_ in await story(rt)] == ["raised"]


@pytest.mark.parametrize("step", [-40 * DAY, HOUR, 40 * DAY])
async def test_a_clock_that_is_set_does_not_make_the_guard_chatter(shop, clock, step):
    watch = DelistingWatch(shop.rt)
    await reported(shop, "2026-11", 5)
    await said(shop, "expireLicense", at=clock.now)
    for _ in range(4):
        for _ in range(5):
            await watch.look()
            clock.now += MINUTE
        clock.now += step
        step = -step

    told = [kind for kind, _, told in await story(shop.rt) if told]
    assert len(told) <= 2 * 4 * 2  # one rise and one end for each gauge and setting of the clock
    before = len(told)
    for _ in range(10):
        await watch.look()
    assert len([kind for kind, _, told in await story(shop.rt) if told]) <= before + 2


@BOTH
async def test_refusals_of_one_process_are_known_to_all(shop, clock, rt):
    counted = {"AKMARKET": 4, "AKUNKNOWN": 9}
    calling = DelistingWatch(rt, lambda: counted)
    other = DelistingWatch(rt)
    await calling.look()
    await other.look()
    assert (await read(shop, other))[1][Gauge.OPEN_API_REFUSALS] == 4
    assert [kind for kind, *_ in await story(rt)] == ["raised"]

    clock.now += 11 * MINUTE  # the calling process died
    assert (await read(shop, other))[1][Gauge.OPEN_API_REFUSALS] == 0
    await calling.look()
    assert (await read(shop, other))[1][Gauge.OPEN_API_REFUSALS] == 4
    counted.clear()
    await calling.look()
    assert await rows(rt, "open_api_refusals") == [0]
    assert [kind for kind, *_ in await story(rt)] == ["raised", "cleared"]


class TestTwoProcesses:
    @pytest.fixture(params=["postgres"])
    def engine(self, request):
        """A SQLite file has one writing process."""
        return request.param

    @pytest.fixture
    async def runtimes(self, rt, place):
        database = await open_at(place, chain="second")
        yield [rt, replace(rt, db=database)]
        await database.close()

    @pytest.fixture(autouse=True)
    def in_step(self, monkeypatch):
        """Neither process goes on before both have read the same."""
        both = asyncio.Barrier(2)

        async def then_wait(*args):
            found = await concerned(*args)
            await both.wait()
            return found

        concerned = alerts.concerned
        monkeypatch.setattr(raise_alerts.rows, "concerned", then_wait)

    async def looked(self, shop, runtimes, clock):
        for count in (5, 0, 5):
            await reported(shop, "2026-11", count)
            async with asyncio.timeout(20):
                await asyncio.gather(*(DelistingWatch(runtime).look() for runtime in runtimes))
            clock.now += 2 * HOUR
        return [kind for kind, *_ in await story(shop.rt)]

    async def test_they_tell_once(self, shop, runtimes, clock):
        assert await self.looked(shop, runtimes, clock) == ["raised", "cleared", "raised"]
        assert (await audit_database(shop.rt)).clean

    async def test_the_control_a_watcher_that_forgets_who_was_first_is_caught(self, shop, runtimes, clock, monkeypatch):
        async def always(tx, public_id, connection_id, gauge, alert, limit):
            await insert(tx, public_id, connection_id, gauge, alert, limit)
            return True

        async def forgets(tx, stored):
            await update(tx, stored)
            return True

        insert, update = alerts.insert, alerts.update
        monkeypatch.setattr(raise_alerts.rows, "insert", always)
        monkeypatch.setattr(raise_alerts.rows, "update", forgets)
        told = await self.looked(shop, runtimes, clock)
        assert told == ["raised", "cleared", "cleared", "raised", "raised"]


async def test_the_control_a_watcher_without_memory_is_caught(shop, monkeypatch):
    async def nothing(_tx, _connection_id, _periods):
        return []

    monkeypatch.setattr(raise_alerts.rows, "concerned", nothing)
    inserted = alerts.insert

    async def again(tx, public_id, connection_id, gauge, alert, limit):
        await tx.run("DELETE FROM alerts")
        return await inserted(tx, public_id, connection_id, gauge, alert, limit)

    monkeypatch.setattr(raise_alerts.rows, "insert", again)
    await reported(shop, "2026-11", 5)
    for _ in range(3):
        await DelistingWatch(shop.rt).look()

    assert [kind for kind, *_ in await story(shop.rt)] == [Event.RAISED] * 3
