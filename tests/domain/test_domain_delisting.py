"""The rules of the delisting guard: what fails an order and in which month, days of probes, retry windows, levels."""

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.domain.calendar import QUARTER
from licensesvc.domain.delisting import (
    CLOSED_SHOWN,
    LATE,
    PROBE_DAYS,
    RETRIES,
    RULES,
    Facts,
    FailingCall,
    Gauge,
    Level,
    OnSale,
    ProbeDay,
    failed_orders,
    failing_days,
    month_start,
    open_calls,
    probe_days,
    readings,
    silent_days,
)
from licensesvc.domain.instants import DAY, HOUR, MINUTE, from_datetime, month_of, next_month

SHANGHAI = ZoneInfo("Asia/Shanghai")
ZONES = [
    "Asia/Shanghai",
    "UTC",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Cairo",
    "Pacific/Apia",
    "America/Sao_Paulo",
]
WINDOW = RETRIES["getLicense"].window + LATE


def at(text: str, zone: ZoneInfo = SHANGHAI) -> int:
    return from_datetime(datetime.fromisoformat(text).replace(tzinfo=zone))


def call(first: int, *, activity: str = "getLicense", order: str | None = "CS1", **fields) -> FailingCall:
    return FailingCall(
        **{
            "activity": activity,
            "order_id": order,
            "attempts": 1,
            "failing_since": first,
            "first_failure": first,
            "first_success": None,
            "learned": False,
            **fields,
        }
    )


@pytest.mark.parametrize(
    ("gauge", "levels"),
    [
        (Gauge.FAILED_ORDERS, {0: "ok", 1: "ok", 2: "warn", 3: "warn", 4: "critical", 6: "critical"}),
        (Gauge.PROBE_FAILURES, {0: "ok", 1: "warn", 2: "warn", 3: "critical", 9: "critical"}),
        (Gauge.PROBE_SILENCE, {None: "ok", 0: "ok", 1: "warn", 2: "critical"}),
        (Gauge.RETRY_WINDOW, {0: "ok", 49: "ok", 50: "warn", 74: "warn", 75: "critical", 100: "critical"}),
        (Gauge.OPEN_API_REFUSALS, {0: "ok", 1: "ok", 2: "warn", 3: "critical", 6: "critical"}),
        (Gauge.SOFTWARE_LOCKS, {0: "ok", 1: "warn", 10_000: "warn"}),
    ],
)
def test_levels(gauge, levels):
    assert {value: RULES[gauge].level(value) for value in levels} == levels


@pytest.mark.parametrize("gauge", Gauge)
def test_every_gauge_turns_critical_before_its_limit_is_passed(gauge):
    rule = RULES[gauge]
    if rule.critical is not None and rule.limit is not None:
        assert 0 < rule.warn < rule.critical <= rule.limit


DOCUMENTED = {
    "refreshLicenseCode": (60, 2 * HOUR),
    "updateLicenseCodeStatus": (60, 2 * HOUR),
    "releaseLicenseCode": (60, 2 * HOUR),
    "getLicense": (3, 3 * HOUR),
    "refreshLicense": (0, 0),
    "expireLicense": (0, 0),
    "releaseLicense": (0, 0),
    "orderNotify": (None, 3 * HOUR),
}


@pytest.mark.parametrize("activity", DOCUMENTED)
def test_retry_schedules_are_those_of_section_2_6(activity):
    assert (RETRIES[activity].retries, RETRIES[activity].window) == DOCUMENTED[activity]


NOON = at("2026-11-18 12:00")
CLOSED = NOON + WINDOW


@pytest.mark.parametrize(
    ("fields", "failed"),
    [
        ({}, True),
        ({"first_success": NOON - 1}, False),
        ({"first_success": CLOSED}, False),
        ({"first_success": CLOSED + 1}, True),
        ({"learned": True}, True),
        ({"order": None}, False),
        ({"activity": "orderNotify"}, True),
        ({"activity": "orderNotify", "learned": True}, False),
        ({"activity": "newInstance"}, True),
        ({"activity": "refreshLicense"}, False),
        ({"activity": "releaseLicenseCode"}, False),
    ],
)
def test_what_fails_an_order(fields, failed):
    assert failed_orders([call(NOON, **fields)], "2026-11", SHANGHAI, NOON + DAY) == ({"CS1"} if failed else set())


def test_an_order_fails_when_its_last_try_is_over_and_not_before():
    assert failed_orders([call(NOON)], "2026-11", SHANGHAI, CLOSED - 1) == set()
    assert failed_orders([call(NOON)], "2026-11", SHANGHAI, CLOSED) == {"CS1"}


def test_an_order_that_two_calls_fail_for_is_one():
    calls = [call(NOON), call(NOON + MINUTE, activity="orderNotify"), call(NOON, order="CS2")]

    assert failed_orders(calls, "2026-11", SHANGHAI, NOON + DAY) == {"CS1", "CS2"}


@pytest.mark.parametrize(
    ("zone", "closes", "month"),
    [
        ("Asia/Shanghai", "2026-11-30T15:59:59.999+00:00", "2026-11"),
        ("Asia/Shanghai", "2026-11-30T16:00:00.000+00:00", "2026-12"),
        ("UTC", "2026-11-30T16:00:00.000+00:00", "2026-11"),
        ("Asia/Shanghai", "2028-02-29T15:59:59.999+00:00", "2028-02"),
        ("Asia/Shanghai", "2028-02-29T16:00:00.000+00:00", "2028-03"),
        ("Asia/Shanghai", "2027-02-28T16:00:00.000+00:00", "2027-03"),
        ("Asia/Shanghai", "2026-12-31T16:00:00.000+00:00", "2027-01"),
        ("America/New_York", "2026-11-01T03:59:59.999+00:00", "2026-10"),  # summer time until the 1st, 02:00
        ("America/New_York", "2026-11-01T04:00:00.000+00:00", "2026-11"),
        ("America/New_York", "2026-12-01T04:59:59.999+00:00", "2026-11"),
    ],
)
def test_the_month_of_a_failed_order_is_the_calendar_zones(zone, closes, month):
    closed = from_datetime(datetime.fromisoformat(closes))
    calls = [call(closed - WINDOW)]
    months = ["2026-10", "2026-11", "2026-12", "2027-01", "2027-03", "2028-02", "2028-03"]

    assert [m for m in months if failed_orders(calls, m, ZoneInfo(zone), closed + DAY)] == [month]


@given(
    st.sampled_from(ZONES),
    st.lists(
        st.tuples(
            st.sampled_from(["getLicense", "orderNotify", "refreshLicense"]),
            st.sampled_from(["A", "B", "C", "D"]),
            st.integers(min_value=0, max_value=100 * DAY),
            st.none() | st.integers(min_value=-5 * HOUR, max_value=5 * HOUR),
            st.booleans(),
        ),
        max_size=8,
    ),
    st.integers(min_value=0, max_value=110 * DAY),
)
def test_the_months_together_hold_what_each_call_says_by_itself(zone_name, told, elapsed):
    zone, begin = ZoneInfo(zone_name), at("2027-12-15 00:00")
    now = begin + elapsed
    calls = [
        call(
            begin + first,
            activity=activity,
            order=order,
            learned=learned,
            first_success=None if success is None else begin + first + success,
        )
        for activity, order, first, success, learned in told
    ]
    expected: dict[str, set[str]] = {}
    for single in calls:
        over = single.first_failure + RETRIES[single.activity].window + LATE
        if single.activity == "refreshLicense" or (single.activity == "orderNotify" and single.learned):
            continue
        if over > now or (single.first_success is not None and single.first_success <= over):
            continue
        expected.setdefault(month_of(over, zone), set()).add(single.order_id or "")
    months = ["2027-12", "2028-01", "2028-02", "2028-03", "2028-04"]

    assert {m: found for m in months if (found := failed_orders(calls, m, zone, now))} == expected


@given(st.sampled_from(ZONES), st.integers(min_value=1971, max_value=2100), st.integers(min_value=1, max_value=12))
def test_a_month_begins_where_the_one_before_ends(zone_name, year, month):
    zone, named = ZoneInfo(zone_name), f"{year}-{month:02}"
    start = month_start(named, zone)

    assert month_of(start, zone) == named
    assert next_month(month_of(start - 1, zone)) == named


@pytest.mark.parametrize(
    ("activity", "attempts", "elapsed", "used"),
    [
        ("getLicense", 1, 0, 25),
        ("getLicense", 2, HOUR, 50),
        ("getLicense", 3, 2 * HOUR, 75),
        ("getLicense", 4, 3 * HOUR, 100),
        ("getLicense", 1, 2 * HOUR, 66),  # tries that never reached us
        ("getLicense", 9, MINUTE, 100),
        ("getLicense", 1, -DAY, 25),  # the clock was set back
        ("expireLicense", 1, 0, 100),
        ("expireLicense", 1, -DAY, 100),
        ("refreshLicenseCode", 1, 0, 1),
        ("refreshLicenseCode", 31, HOUR, 50),
        ("refreshLicenseCode", 61, 2 * HOUR, 100),
        ("orderNotify", 1_000, 0, 0),
        ("orderNotify", 1, 2 * HOUR + 15 * MINUTE, 75),
        ("orderNotify", 1, 3 * HOUR, 100),
    ],
)
def test_how_much_of_the_retries_is_used(activity, attempts, elapsed, used):
    (found,) = open_calls([call(NOON, activity=activity, attempts=attempts)], NOON + elapsed)

    assert found.used_percent == used
    assert found.closes_at == NOON + RETRIES[activity].window


def test_the_most_urgent_call_comes_first_and_what_is_over_is_left_out():
    calls = [
        call(NOON, order="fresh"),
        call(NOON - 2 * HOUR, order="old", attempts=3),
        call(NOON, order="well", failing_since=None, attempts=0),
        call(NOON - 3 * HOUR - CLOSED_SHOWN, order="past"),
        call(NOON, order=None, activity="expireLicense"),
    ]

    assert [found.order_id for found in open_calls(calls, NOON)] == [None, "old", "fresh"]


def days(*told: tuple[str, int, int]) -> list[ProbeDay]:
    return [ProbeDay(day=date.fromisoformat(day), cases=cases, failed=failed) for day, cases, failed in told]


TODAY = date(2028, 3, 2)


@pytest.mark.parametrize(
    ("told", "run"),
    [
        ([], 0),
        ([("2028-03-02", 2, 0)], 0),
        ([("2028-03-02", 2, 1)], 1),  # half a day is a day
        ([("2028-03-01", 1, 1), ("2028-03-02", 1, 0)], 0),
        ([("2028-02-28", 1, 1), ("2028-02-29", 1, 1), ("2028-03-01", 2, 2)], 3),  # over a leap day
        ([("2028-02-28", 1, 1), ("2028-02-29", 1, 0), ("2028-03-01", 2, 2)], 1),
        ([("2028-02-28", 1, 1), ("2028-03-01", 2, 2)], 2),  # a silent day breaks nothing
        ([("2028-02-17", 1, 1)], 0),  # too long ago
        ([("2028-02-18", 1, 1)], 1),
    ],
)
def test_failing_days_in_a_row(told, run):
    assert failing_days(days(*told), TODAY) == run
    assert failing_days(list(reversed(days(*told))), TODAY) == run


@given(st.dictionaries(st.integers(min_value=0, max_value=30), st.booleans()))
def test_failing_days_are_the_row_that_ends_with_the_latest_probe(by_day):
    told = [ProbeDay(day=TODAY - timedelta(days=back), cases=1, failed=int(bad)) for back, bad in by_day.items()]
    pattern = "".join("F" if by_day[back] else "o" for back in sorted(by_day) if back < PROBE_DAYS)

    assert failing_days(told, TODAY) == len(pattern) - len(pattern.lstrip("F"))


@given(st.sampled_from(ZONES), st.lists(st.tuples(st.integers(0, 400 * DAY), st.booleans()), max_size=20))
def test_quarters_fold_into_the_days_of_every_zone(zone_name, probes):
    zone, begin = ZoneInfo(zone_name), at("2027-10-01 00:00")
    quarters: dict[int, tuple[int, int, int]] = {}
    expected: dict[date, list[int]] = {}
    for offset, bad in probes:
        instant = begin + offset
        number, cases, failed = quarters.get(instant // QUARTER, (instant // QUARTER, 0, 0))
        quarters[instant // QUARTER] = (number, cases + 1, failed + bad)
        day = datetime.fromtimestamp(instant / 1000, zone).date()
        counted = expected.setdefault(day, [0, 0])
        counted[0] += 1
        counted[1] += bad

    folded = probe_days(quarters.values(), zone)

    assert {probed.day: [probed.cases, probed.failed] for probed in folded} == expected
    assert [probed.day for probed in folded] == sorted(expected)


@pytest.mark.parametrize(
    ("last", "now", "silent"),
    [
        ("2026-11-17 09:00", "2026-11-17 23:59", 0),
        ("2026-11-17 00:00", "2026-11-18 23:59", 0),
        ("2026-11-17 23:59", "2026-11-19 00:00", 1),  # nothing since yesterday morning
        ("2026-11-17 09:00", "2026-11-20 08:00", 2),
        ("2026-11-17 09:00", "2026-11-16 08:00", 0),  # the clock was set back
        ("2028-02-28 09:00", "2028-03-01 09:00", 1),
    ],
)
def test_silence_is_counted_in_whole_days_behind_the_last_probe(last, now, silent):
    assert silent_days(Facts(last_probe_at=at(last)), SHANGHAI, at(now)) == silent


@pytest.mark.parametrize(
    ("said", "last", "since", "silent"),
    [
        (OnSale.UNKNOWN, None, None, None),
        (OnSale.UNKNOWN, None, "2026-11-10 09:00", None),
        (OnSale.NO, "2026-11-10 09:00", "2026-11-15 09:00", None),
        (OnSale.YES, None, "2026-11-15 09:00", 2),
        (OnSale.YES, "2026-11-10 09:00", "2026-11-15 09:00", 2),
        (OnSale.YES, "2026-11-16 09:00", "2026-11-15 09:00", 1),
        (OnSale.UNKNOWN, "2026-11-10 09:00", "2026-11-15 09:00", 7),
    ],
)
def test_silence_means_something_only_where_probes_are_expected(said, last, since, silent):
    facts = Facts(on_sale=said, last_probe_at=at(last) if last else None, on_sale_since=at(since) if since else None)

    assert silent_days(facts, SHANGHAI, at("2026-11-18 12:00")) == silent


def test_readings_have_every_gauge_and_the_larger_count():
    facts = Facts(purchases=[call(NOON)], failed_orders_reported=4, open_api_refusals=2, software_locked=1)
    found = readings(facts, SHANGHAI, NOON + DAY)

    assert set(found) == set(Gauge)
    assert {gauge: reading.value for gauge, reading in found.items()} == {
        Gauge.FAILED_ORDERS: 4,
        Gauge.PROBE_FAILURES: 0,
        Gauge.PROBE_SILENCE: None,
        Gauge.RETRY_WINDOW: 0,
        Gauge.OPEN_API_REFUSALS: 2,
        Gauge.SOFTWARE_LOCKS: 1,
    }
    assert found[Gauge.FAILED_ORDERS].level is Level.CRITICAL
    assert (found[Gauge.FAILED_ORDERS].limit, found[Gauge.SOFTWARE_LOCKS].limit) == (5, None)


def test_nothing_on_sale_fails_no_probe():
    facts = Facts(probes=days(("2026-11-18", 1, 1)), on_sale=OnSale.NO)

    assert readings(facts, SHANGHAI, NOON)[Gauge.PROBE_FAILURES].value is None


def test_a_further_call_at_the_same_level_is_a_further_incident():
    first = Facts(calls=[call(NOON, attempts=3)])
    both = Facts(calls=[call(NOON, attempts=3), call(NOON + HOUR, attempts=3, order="CS2")])
    fresh = Facts(calls=[call(NOON, attempts=3), call(NOON + HOUR, attempts=1, order="CS2")])
    incidents = [readings(facts, SHANGHAI, NOON + HOUR)[Gauge.RETRY_WINDOW].incident for facts in (first, both, fresh)]

    assert incidents == [NOON, NOON + HOUR, NOON]
