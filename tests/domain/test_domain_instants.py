"""Instants: text forms round trip, calendar arithmetic keeps the wall time, nothing leaves the years 1970 to 9999."""

from calendar import monthrange
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import (
    DAY,
    HOUR,
    LAST_INSTANT,
    MINUTE,
    SECOND,
    PeriodUnit,
    add_period,
    format_stamp,
    from_datetime,
    month_of,
    next_month,
    parse_rfc3339,
    parse_stamp,
    rfc3339,
    to_datetime,
    zone_of,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")
NEW_YORK = ZoneInfo("America/New_York")
APIA = ZoneInfo("Pacific/Apia")
ZONES = st.sampled_from([ZoneInfo("UTC"), SHANGHAI, BERLIN, NEW_YORK, APIA, ZoneInfo("Australia/Lord_Howe")])
INSTANTS = st.integers(0, LAST_INSTANT)
THIS_CENTURY = st.integers(946_684_800_000, 4_102_444_800_000)
COUNTS = {PeriodUnit.YEAR: 100, PeriodUnit.MONTH: 1_200, PeriodUnit.DAY: 36_500}
PERIODS = st.sampled_from(PeriodUnit).flatmap(lambda unit: st.tuples(st.just(unit), st.integers(1, COUNTS[unit])))


def at(text: str, zone: ZoneInfo) -> int:
    return from_datetime(datetime.fromisoformat(text).replace(tzinfo=zone))


def test_units():
    assert (SECOND, MINUTE, HOUR, DAY) == (1_000, 60_000, 3_600_000, 86_400_000)


@given(INSTANTS)
def test_datetime_round_trip(instant):
    assert from_datetime(to_datetime(instant)) == instant


@given(INSTANTS)
def test_rfc3339_round_trip(instant):
    assert parse_rfc3339(rfc3339(instant)) == instant
    assert len(rfc3339(instant)) == len("2026-11-23T16:00:00.123Z")


@given(THIS_CENTURY, st.sampled_from([ZoneInfo("UTC"), SHANGHAI]))
def test_stamp_round_trip(instant, zone):
    assert parse_stamp(format_stamp(instant, zone), zone) == instant // SECOND * SECOND


@given(THIS_CENTURY, ZONES)
def test_stamp_text_survives_a_round_trip_even_in_a_repeated_hour(instant, zone):
    stamp = format_stamp(instant, zone)
    assert format_stamp(parse_stamp(stamp, zone), zone) == stamp


@given(st.text(max_size=20) | st.text("0123456789", min_size=13, max_size=18), ZONES)
def test_any_text_is_a_stamp_or_an_invalid_parameter(text, zone):
    with suppress(InvalidParameter):
        assert 0 <= parse_stamp(text, zone) <= LAST_INSTANT


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.001Z", 1),
        ("1970-01-01T00:00:00.0019Z", 1),
        ("1970-01-01T08:00:00+08:00", 0),
        ("1969-12-31T19:00:00.5-05:00", 500),
        ("2024-02-29T00:00:00.000Z", 1_709_164_800_000),
        ("9999-12-31T23:59:59.999Z", LAST_INSTANT),
    ],
)
def test_rfc3339_is_read(text, instant):
    assert parse_rfc3339(text) == instant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23",
        "2026-11-23T16:00:00",
        "2026-11-23 16:00:00Z",
        "2026-11-23t16:00:00z",
        "2026-11-23T16:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T16:00:60Z",
        "2026-02-29T16:00:00Z",
        "2026-11-23T16:00:00,5Z",
        "2026-11-23T16:00:00+24:00",
        "2026-11-23T16:00:00Z\n",
        "٢٠٢٦-11-23T16:00:00Z",
        "1969-12-31T23:59:59.999Z",
        "9999-12-31T23:59:59-01:00",
    ],
)
def test_rfc3339_refuses(text):
    with pytest.raises(InvalidParameter):
        parse_rfc3339(text)


@pytest.mark.parametrize(
    ("stamp", "zone", "expected"),
    [
        ("20230726155959", UTC, "2023-07-26T15:59:59.000Z"),  # §1.6
        ("20251121235959", SHANGHAI, "2025-11-21T15:59:59.000Z"),  # §1.6, the mock order
        ("20200727073711903", UTC, "2020-07-27T07:37:11.903Z"),  # §4.1
        ("2020072707371190", UTC, "2020-07-27T07:37:11.090Z"),
        ("202007270737119", UTC, "2020-07-27T07:37:11.009Z"),
        ("20240229000000", UTC, "2024-02-29T00:00:00.000Z"),
        ("20261025023000", BERLIN, "2026-10-25T00:30:00.000Z"),  # occurs twice: the first
        ("20260329023000", BERLIN, "2026-03-29T01:30:00.000Z"),  # is skipped: offset before the gap
    ],
)
def test_stamp_is_read(stamp, zone, expected):
    assert rfc3339(parse_stamp(stamp, zone)) == expected


@pytest.mark.parametrize(
    "stamp",
    [
        "",
        "2023072615595",
        "202307261559591234",
        "20230229155959",
        "20231326155959",
        "20230726245959",
        "20230726155960",
        "00000101000000",
        "19691231235959",
        " 20230726155959",
        "20230726155959\n",
        "2023072615595٩",
        "20230726T155959",
        "-2030726155959",
    ],
)
def test_stamp_refuses(stamp):
    with pytest.raises(InvalidParameter):
        parse_stamp(stamp, UTC)


@pytest.mark.parametrize(
    ("start", "unit", "count", "zone", "end"),
    [
        ("2026-01-31T10:00:00", PeriodUnit.MONTH, 1, SHANGHAI, "2026-02-28T10:00:00"),
        ("2028-01-31T10:00:00", PeriodUnit.MONTH, 1, SHANGHAI, "2028-02-29T10:00:00"),
        ("2026-01-31T10:00:00", PeriodUnit.MONTH, 3, SHANGHAI, "2026-04-30T10:00:00"),
        ("2026-12-15T10:00:00", PeriodUnit.MONTH, 1, SHANGHAI, "2027-01-15T10:00:00"),
        ("2026-11-30T10:00:00", PeriodUnit.MONTH, 13, SHANGHAI, "2027-12-30T10:00:00"),
        ("2028-02-29T10:00:00", PeriodUnit.YEAR, 1, SHANGHAI, "2029-02-28T10:00:00"),
        ("2028-02-29T10:00:00", PeriodUnit.YEAR, 4, SHANGHAI, "2032-02-29T10:00:00"),
        ("2096-02-29T10:00:00", PeriodUnit.YEAR, 4, SHANGHAI, "2100-02-28T10:00:00"),
        ("2026-12-31T23:59:59.999", PeriodUnit.DAY, 1, SHANGHAI, "2027-01-01T23:59:59.999"),
        ("2026-03-28T12:00:00", PeriodUnit.DAY, 1, BERLIN, "2026-03-29T12:00:00"),  # 23 hours
        ("2026-10-24T12:00:00", PeriodUnit.DAY, 1, BERLIN, "2026-10-25T12:00:00"),  # 25 hours
        ("2026-03-28T02:30:00", PeriodUnit.DAY, 1, BERLIN, "2026-03-29T03:30:00"),  # past the gap
        ("2011-12-29T12:00:00", PeriodUnit.DAY, 1, APIA, "2011-12-31T12:00:00"),  # a day that never was
        ("2026-02-08T02:30:00", PeriodUnit.MONTH, 1, NEW_YORK, "2026-03-08T03:30:00"),
    ],
)
def test_period_ends(start, unit, count, zone, end):
    assert add_period(at(start, zone), unit, count, zone) == at(end, zone)


def test_period_from_the_second_of_a_repeated_hour_ends_at_the_wall_time():
    second = from_datetime(datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN))
    assert add_period(second, PeriodUnit.DAY, 1, BERLIN) == second + DAY


@given(THIS_CENTURY, PERIODS, ZONES)
def test_period_moves_forward_to_the_same_wall_time_or_its_clamp(start, period, zone):
    unit, count = period
    end = add_period(start, unit, count, zone)
    before = to_datetime(start, zone).replace(tzinfo=None, fold=0)
    after = to_datetime(end, zone).replace(tzinfo=None, fold=0)
    if unit is PeriodUnit.DAY:
        expected = before + timedelta(days=count)
    else:
        months = before.month - 1 + count * (12 if unit is PeriodUnit.YEAR else 1)
        year, month = before.year + months // 12, months % 12 + 1
        expected = before.replace(year=year, month=month, day=min(before.day, monthrange(year, month)[1]))
    skipped = to_datetime(from_datetime(expected.replace(tzinfo=zone)), zone).replace(tzinfo=None) != expected
    assert end > start
    assert after > expected if skipped else after == expected


@pytest.mark.parametrize(
    ("unit", "count"),
    [(PeriodUnit.YEAR, 8_000), (PeriodUnit.MONTH, 10**30), (PeriodUnit.DAY, 10**30), (PeriodUnit.YEAR, -60)],
)
def test_period_out_of_the_calendar_is_refused(unit, count):
    with pytest.raises(InvalidParameter):
        add_period(at("2026-11-23T00:00:00", SHANGHAI), unit, count, SHANGHAI)


def test_the_last_hours_of_time_have_no_wall_time_in_the_east():
    with pytest.raises(InvalidParameter):
        format_stamp(LAST_INSTANT, SHANGHAI)
    with pytest.raises(InvalidParameter):
        to_datetime(10**18)


@pytest.mark.parametrize(
    "moment",
    [datetime(1969, 12, 31, tzinfo=UTC), datetime.max.replace(tzinfo=timezone(-HOUR * timedelta(milliseconds=1)))],
)
def test_datetimes_out_of_bounds_are_refused(moment):
    with pytest.raises(InvalidParameter):
        from_datetime(moment)


def test_a_naive_datetime_is_a_mistake_of_the_program():
    with pytest.raises(TypeError):
        from_datetime(datetime(2026, 11, 23))  # noqa: DTZ001


def test_months_count_in_the_zone():
    turn = at("2026-12-01T00:00:00", SHANGHAI)
    assert month_of(turn, SHANGHAI) == "2026-12"
    assert month_of(turn - 1, SHANGHAI) == month_of(turn, UTC) == "2026-11"


@pytest.mark.parametrize(
    ("month", "following"), [("2026-11", "2026-12"), ("2026-12", "2027-01"), ("2027-01", "2027-02")]
)
def test_next_month(month, following):
    assert next_month(month) == following


@pytest.mark.parametrize("month", ["", "2026-00", "2026-13", "2026-1", "1969-11", "9999-12", "2026-11-01", "0000-01"])
def test_next_month_refuses(month):
    with pytest.raises(InvalidParameter):
        next_month(month)


@pytest.mark.parametrize(
    "name", ["", "Mars/Olympus", "Asia", "../etc/passwd", "/etc/localtime", "a\0b", "\ud800", "云"]
)
def test_unknown_zones_are_refused(name):
    with pytest.raises(InvalidParameter):
        zone_of(name)


def test_a_known_zone_is_found_once():
    assert zone_of("Asia/Shanghai") is zone_of("Asia/Shanghai")
