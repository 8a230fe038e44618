"""The delisting guard on both engines: what it reads of messages, and that an alert is raised once whoever looks."""

import asyncio
from dataclasses import replace

import msgspec
import pytest

from licensesvc.domain.alerts import Event
from licensesvc.domain.delisting import CLOSED_SHOWN, Gauge, Level, month_start
from licensesvc.domain.errors import InvalidParameter, NotFound, StaleVersion
from licensesvc.domain.instants import DAY, HOUR, MINUTE, SECOND
from licensesvc.services import raise_alerts
from licensesvc.services.audit_database import audit_database
from licensesvc.services.declare_to_guard import (
    DeclareOnSale,
    ReportFailedOrders,
    declare_on_sale,
    report_failed_orders,
)
from licensesvc.services.raise_alerts import acknowledge
from licensesvc.services.watch_delisting import DelistingWatch
from licensesvc.storage import alerts, messages
from tests.support_edges import change, open_shop, rows
from tests.support_storage import open_at


async def said(shop, activity="getLicense", order="CS1", *, at, outcome="000005", purpose="live", **fields):
    """One message of the marketplace, with its answer."""
    message = messages.Message(
        **{
            "public_id": shop.rt.new_id("msg", at),
            "connection_id": shop.connection.id,
            "direction": "in",
            "activity": activity,
            "order_id": order,
            "authenticated_at": at,
            "received_at": at,
            "request": "{}",
            "response": "{}",
            "outcome": outcome,
            "detail": None,
            "address": None,
            "duration_ms": 1,
            "purpose": purpose,
            **fields,
        }
    )
    await shop.rt.db.write(lambda tx: messages.insert(tx, message))


async def read(shop, watch=None):
    report = await (watch or DelistingWatch(shop.rt)).report(shop.connection.public_id)
    return report, {gauge: reading.value for gauge, reading in report.readings.items()}


async def test_a_quiet_shop_is_well(shop):
    report, values = await read(shop)

    assert values == {
        Gauge.FAILED_ORDERS: 0,
        Gauge.PROBE_FAILURES: 0,
        Gauge.PROBE_SILENCE: None,
        Gauge.RETRY_WINDOW: 0,
        Gauge.OPEN_API_REFUSALS: 0,
        Gauge.SOFTWARE_LOCKS: 0,
    }
    assert {reading.level for reading in report.readings.values()} == {Level.OK}


async def test_the_tries_of_a_failing_call_are_counted_until_it_succeeds(shop, clock):
    start = clock.now
    seen = []
    for hour in range(4):
        clock.now = start + hour * HOUR
        await said(shop, at=clock.now)
        report, values = await read(shop)
        seen.append((report.calls[0].attempts, values[Gauge.RETRY_WINDOW], report.calls[0].closes_at))
    assert seen == [(n, n * 25 if n < 4 else 100, start + 3 * HOUR) for n in (1, 2, 3, 4)]

    await said(shop, at=clock.now + SECOND, outcome="000000")
    clock.now += MINUTE
    report, values = await read(shop)
    assert (report.calls, values[Gauge.RETRY_WINDOW]) == ([], 0)

    await said(shop, at=clock.now)
    assert (await read(shop))[0].calls[0].attempts == 1  # a new story


NOT_COUNTED = {
    "the sender is unproven": {"authenticated_at": None},
    "a debug case": {"purpose": "test"},
    "a call of ours": {"direction": "out"},
    "a restart by an operator": {"restart_of": "msg_1"},
    "an activity without a documented schedule": {"activity": "queryInstance"},
}


async def test_what_is_no_live_call_of_the_marketplace_fails_no_order(shop, clock):
    start = clock.now
    for number, (why, fields) in enumerate(NOT_COUNTED.items()):
        await said(shop, **{"order": f"CS{number}", "at": start, **fields})
        clock.now = start + 4 * HOUR
        report, values = await read(shop)
        assert (report.failed_orders_counted, values[Gauge.RETRY_WINDOW]) == (0, 0), why

    await said(shop, at=start)  # the control
    assert (await read(shop))[0].failed_orders_counted == 1


async def test_another_connection_is_another_matter(shop, clock, rt):
    other = await open_shop(rt, name="intl", sold="OFFI9")
    await said(other, at=clock.now)
    await said(shop, at=clock.now + SECOND, outcome="000000")
    clock.now += 4 * HOUR

    assert (await read(shop))[0].failed_orders_counted == 0
    assert (await read(other))[0].failed_orders_counted == 1


async def test_orders_fail_once_their_retries_ran_out(shop, clock):
    start = clock.now
    for order, success in (("in time", HOUR), ("by hand, too late", 5 * HOUR), ("never", None), ("never 2", None)):
        await said(shop, order=order, at=start)
        if success is not None:
            await said(shop, order=order, at=start + success, outcome="000000")
    await said(shop, "orderNotify", "learned", at=start)
    await said(shop, "orderNotify", "not learned", at=start)
    await shop.sell("learned")

    assert (await read(shop))[0].failed_orders_counted == 0
    clock.now = start + 6 * HOUR
    report, values = await read(shop)

    assert (report.failed_orders_counted, values[Gauge.FAILED_ORDERS]) == (4, 4)
    assert report.readings[Gauge.FAILED_ORDERS].level is Level.CRITICAL
    await said(shop, order="never", at=clock.now)  # restarted by hand, fails again: the same order
    clock.now += 6 * HOUR
    assert (await read(shop))[0].failed_orders_counted == 4


async def test_calls_without_an_order_are_one_story_per_activity(shop, clock):
    start = clock.now
    for n in range(3):
        await said(shop, "updateLicenseCodeStatus", None, at=start + n * 2 * MINUTE)
    clock.now = start + 5 * MINUTE
    assert (await read(shop))[0].calls[0].attempts == 3

    await said(shop, "updateLicenseCodeStatus", None, at=clock.now, outcome="000000")
    assert (await read(shop))[0].calls == []


async def test_a_closed_window_is_shown_for_a_day(shop, clock):
    await said(shop, "expireLicense", at=clock.now)
    assert (await read(shop))[1][Gauge.RETRY_WINDOW] == 100

    clock.now += CLOSED_SHOWN - 1
    assert (await read(shop))[1][Gauge.RETRY_WINDOW] == 100
    clock.now += 1
    assert (await read(shop))[1][Gauge.RETRY_WINDOW] == 0


async def test_a_restart_here_ends_the_story_of_a_call(shop, clock):
    await said(shop, "expireLicense", at=clock.now)
    await said(shop, "expireLicense", at=clock.now + SECOND, outcome="000000", restart_of="msg_1")

    assert (await read(shop))[1][Gauge.RETRY_WINDOW] == 0


async def test_probes_fail_by_days_and_fall_silent(shop, clock):
    start = clock.now
    for day in range(3):
        await said(shop, at=start + day * DAY, purpose="test", outcome="000002" if day else "000000")
        await said(shop, at=start + day * DAY + HOUR, purpose="test", outcome="000000")
    clock.now = start + 2 * DAY + 2 * HOUR
    assert [(await read(shop))[1][gauge] for gauge in (Gauge.PROBE_FAILURES, Gauge.PROBE_SILENCE)] == [2, 0]

    clock.now += 3 * DAY
    report, values = await read(shop)
    assert [values[gauge] for gauge in (Gauge.PROBE_FAILURES, Gauge.PROBE_SILENCE)] == [2, 2]
    assert report.readings[Gauge.PROBE_SILENCE].level is Level.CRITICAL
    assert report.last_probe_at == start + 2 * DAY + HOUR


async def declared(shop, on_sale):
    return await shop.rt.db.write(
        lambda tx: declare_on_sale(tx, shop.rt, shop.connection.public_id, DeclareOnSale(on_sale=on_sale), by="ops")
    )


async def test_probes_are_expected_from_the_day_that_sales_were_declared(shop, clock):
    silence = []
    for on_sale, days in (("yes", 0), ("yes", 2), ("no", 5), ("unknown", 5), ("yes", 5)):
        await declared(shop, on_sale)
        clock.now += days * DAY
        silence.append((await read(shop))[1][Gauge.PROBE_SILENCE])
    assert silence == [0, 1, None, None, 4]


async def reported(shop, month, count):
    command = ReportFailedOrders(month=month, failed_orders=count)
    return await shop.rt.db.write(
        lambda tx: report_failed_orders(tx, shop.rt, shop.connection.public_id, command, by="ops")
    )


async def test_the_larger_of_both_counts_counts(shop, clock):
    for order in ("A", "B"):
        await said(shop, order=order, at=clock.now)
    clock.now += 4 * HOUR
    seen = []
    for count in (5, 1, 5):
        await reported(shop, "2026-11", count)
        report, values = await read(shop)
        seen.append((report.failed_orders_counted, report.reported.failed_orders, values[Gauge.FAILED_ORDERS]))
    assert seen == [(2, 5, 5), (2, 1, 2), (2, 5, 5)]
    assert (report.reported.reported_by, report.reported.reported_at) == ("ops", clock.now)

    await reported(shop, "2026-10", 9)
    assert (await read(shop))[1][Gauge.FAILED_ORDERS] == 5


async def test_a_month_that_cannot_be_is_refused(shop):
    for month in ("2026-12", "2026-13", "2026-1", "", "9999-01", "2026-11\n", "２０２６-11", "1969-12"):
        with pytest.raises(InvalidParameter):
            await reported(shop, month, 1)


async def test_what_is_said_twice_is_written_once(shop):
    for _ in range(2):
        await reported(shop, "2026-11", 3)
        await declared(shop, "yes")

    kinds = await shop.rt.db.read(lambda tx: tx.all("SELECT kind FROM audit_events WHERE kind LIKE 'delisting.%'"))
    assert sorted(row["kind"] for row in kinds) == ["delisting.figure_reported", "delisting.sale_declared"]


async def test_nothing_is_declared_for_a_connection_that_is_none(shop):
    with pytest.raises(NotFound):
        await shop.rt.db.write(
            lambda tx: declare_on_sale(tx, shop.rt, "con_none", DeclareOnSale(on_sale="yes"), by="ops")
        )


async def test_locked_software_is_counted_by_credential_while_it_is_locked(shop, clock):
    pair = await shop.pair()
    for address in ("a", "b"):
        await change(
            shop.rt,
            "INSERT INTO signature_failures (credential_id, address, failures, last_at, locked_until)"
            " SELECT id, $1, 6, CAST($2 AS bigint), CAST($2 AS bigint) FROM credentials WHERE public_id = $3",
            address,
            clock.now + MINUTE,
            pair.public_id,
        )
    assert (await read(shop))[1][Gauge.SOFTWARE_LOCKS] == 1
    clock.now += MINUTE
    assert (await read(shop))[1][Gauge.SOFTWARE_LOCKS] == 0


async def story(rt):
    """Every alert event that the audit has, in order."""
    found = await rt.db.read(
        lambda tx: tx.all("SELECT kind, detail FROM audit_events WHERE kind LIKE 'alert.%' ORDER BY at, chain, seq")
    )
    return [
        (row["kind"].removeprefix("alert."), detail.get("level"), detail.get("told"))
        for row in found
        for detail in [msgspec.json.decode(row["detail"])]
    ]


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


async def one_alert(rt):
    (alert,) = await rt.db.read(lambda tx: alerts.page(tx, after=0, limit=10))
    return alert


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


async def test_refusals_of_one_process_are_known_to_all(shop, clock, rt):
    counted = {shop.connection.public_id: 4, "con_unknown": 9}
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

    async def looked(self, shop, runtimes, clock):
        for n in range(10):
            await reported(shop, "2026-11", (0, 5)[n % 2])
            await asyncio.gather(*(DelistingWatch(runtimes[m % 2]).look() for m in range(6)))
            clock.now += 2 * HOUR
        return [kind for kind, *_ in await story(shop.rt)]

    async def test_they_tell_once(self, shop, runtimes, clock):
        assert await self.looked(shop, runtimes, clock) == ["raised", "cleared"] * 4 + ["raised"]

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
        try:
            told = await self.looked(shop, runtimes, clock)
        except AttributeError:  # it cannot find the alert that it believes to have raised
            return
        assert told != ["raised", "cleared"] * 4 + ["raised"]


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
