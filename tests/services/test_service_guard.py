"""What the delisting guard reads of messages, locks and declarations, on both engines."""

import pytest

from licensesvc.domain.delisting import CLOSED_SHOWN, Gauge, Level
from licensesvc.domain.errors import InvalidParameter, NotFound
from licensesvc.domain.instants import DAY, HOUR, MINUTE, SECOND
from licensesvc.services.guard.declare_to_guard import (
    DeclareOnSale,
    declare_on_sale,
)
from licensesvc.storage import delisting
from tests.support_edges import change, open_shop
from tests.support_guard import declared, read, reported, said

BOTH = pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)
"""Where the SQL itself is looked at; the other tests are about decisions that no engine takes."""


@pytest.fixture
def engine(request):
    return getattr(request, "param", "sqlite")


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


@BOTH
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


@BOTH
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


@BOTH
async def test_calls_without_an_order_are_told_apart_by_their_license(shop, clock):
    sold = [(await shop.sell(f"CS{n}")).license.view for n in range(3)]
    ids = [view.id for view in sold]
    start = clock.now
    for n in range(3):
        for license_id in ids:
            await said(shop, "updateLicenseCodeStatus", None, at=start + n * MINUTE, license_id=license_id)
    await said(shop, "updateLicenseCodeStatus", str(ids[0]), at=start)  # an order that is called like a license inside
    clock.now = start + 5 * MINUTE
    calls = (await read(shop))[0].calls
    assert {(call.license, call.order_id, call.attempts) for call in calls} == {
        *((view.public_id, None, 3) for view in sold),
        (None, str(ids[0]), 1),
    }

    await said(shop, "updateLicenseCodeStatus", None, at=clock.now, outcome="000000", license_id=ids[0])
    await said(shop, "updateLicenseCodeStatus", None, at=clock.now, license_id=ids[1], outcome="000000", restart_of="m")
    await said(shop, "releaseLicenseCode", None, at=clock.now, license_id=ids[2], outcome="000000")
    calls = (await read(shop))[0].calls
    assert {(call.license, call.attempts) for call in calls} == {(sold[2].public_id, 3), (None, 1)}


@BOTH
async def test_a_call_about_a_license_that_becomes_known_ends_the_story_of_the_unknown(shop, clock):
    sold = (await shop.sell("CS1")).license.view
    await said(shop, "updateLicenseCodeStatus", None, at=clock.now)
    await said(shop, "updateLicenseCodeStatus", None, at=clock.now + MINUTE, license_id=sold.id)
    clock.now += 2 * MINUTE
    before = {(call.license, call.attempts) for call in (await read(shop))[0].calls}

    await said(shop, "updateLicenseCodeStatus", None, at=clock.now, outcome="000000", license_id=sold.id)

    assert before == {(None, 1), (sold.public_id, 1)}
    assert (await read(shop))[0].calls == []


async def test_what_is_read_every_minute_stays_inside_the_indexes(shop):
    plans = []
    for story in delisting._STORIES:
        rows = await shop.rt.db.read(lambda tx, sql=story: tx.all(f"EXPLAIN QUERY PLAN {sql}", 1, 0, ["getLicense"]))
        plans.append("\n".join(row["detail"] for row in rows))

    by_order, by_license = plans
    assert by_order.count("INDEX messages_live_calls (") == by_order.count("SEARCH s ") > 0, by_order
    found = "INDEX messages_live_of_license (connection_id=? AND activity=? AND license_id=?"
    assert by_license.count(found) == by_license.count("SEARCH s ") > 0, by_license
    for plan in plans:
        assert "INDEX messages_failed_calls" in plan
        assert "SCAN m" not in plan
        assert "SCAN s" not in plan


@BOTH
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


@BOTH
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


@BOTH
async def test_probes_are_expected_from_the_day_that_sales_were_declared(shop, clock):
    silence = []
    for on_sale, days in (("yes", 0), ("yes", 2), ("no", 5), ("unknown", 5), ("yes", 5)):
        await declared(shop, on_sale)
        clock.now += days * DAY
        silence.append((await read(shop))[1][Gauge.PROBE_SILENCE])
    assert silence == [0, 1, None, None, 4]


@BOTH
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


@BOTH
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
