"""Points in time: epoch milliseconds, their text forms, and calendar arithmetic in a zone.

In: `Instant`, RFC 3339, the marketplace's stamps (spec §§1.3, 4.1), periods, months. Out: the clock. Every result lies in
the years 1970 to 9999 UTC; whatever would not is an `InvalidParameter`.
"""

import functools
import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from licensesvc.domain.errors import InvalidParameter

Instant: TypeAlias = int
"""Milliseconds since 1970-01-01T00:00:00Z."""

SECOND: Final = 1_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR

FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 9999
LAST_INSTANT: Final[Instant] = 253_402_300_799_999
"""9999-12-31T23:59:59.999Z."""

LAST_ON_THE_WIRE: Final[Instant] = LAST_INSTANT - DAY
"""Whoever means "for ever" enters the last instant there is; in zones ahead of UTC it lies beyond the year 9999."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_RFC3339: Final = re.compile(
    r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)", re.ASCII
)
_STAMP: Final = re.compile(r"\d{14,17}", re.ASCII)
_MONTH: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)


class PeriodUnit(StrEnum):
    """What a period is counted in."""

    YEAR = "YEAR"
    MONTH = "MONTH"
    DAY = "DAY"


@functools.cache
def zone_of(name: str) -> ZoneInfo:
    """Return the IANA time zone called `name`, else raise InvalidParameter."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; not a relative path; a folder of zones
        raise InvalidParameter(f"{name!r} is not an IANA time zone") from None


def to_datetime(instant: Instant, zone: tzinfo = UTC) -> datetime:
    """Return `instant` as an aware datetime in `zone`."""
    try:
        return (_EPOCH + instant * _MILLISECOND).astimezone(zone)
    except OverflowError:
        raise InvalidParameter("the time lies outside the years 1970 to 9999") from None


def from_datetime(moment: datetime) -> Instant:
    """Return an aware datetime as an instant, cut to milliseconds; a naive one is a TypeError."""
    instant = (moment - _EPOCH) // _MILLISECOND
    if not 0 <= instant <= LAST_INSTANT:
        raise InvalidParameter("the time lies outside the years 1970 to 9999")
    return instant


def rfc3339(instant: Instant) -> str:
    """Return e.g. `2026-11-23T16:00:00.123Z`, always with milliseconds."""
    return to_datetime(instant).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def parse_rfc3339(text: str) -> Instant:
    """Read an RFC 3339 date-time with `T` and `Z` in upper case; digits below the millisecond are cut."""
    if not _RFC3339.fullmatch(text):
        raise InvalidParameter("a time must look like 2026-11-23T16:00:00.123Z")
    try:
        return from_datetime(datetime.fromisoformat(text))
    except ValueError:
        raise InvalidParameter("the time is not in the calendar") from None


def parse_stamp(text: str, zone: tzinfo) -> Instant:
    """Read a stamp of the marketplace: `yyyyMMddHHmmss` and up to three digits, the number of milliseconds.

    The milliseconds are a number, not a fraction: Java's `S` writes them without leading zeros (spec §4.1). A wall time that
    occurs twice is the first of the two; one that a summer time skips is read with the offset before the gap.
    """
    if not _STAMP.fullmatch(text):
        raise InvalidParameter("a stamp must look like 20261123160000")
    try:
        moment = datetime(
            int(text[:4]),
            int(text[4:6]),
            int(text[6:8]),
            int(text[8:10]),
            int(text[10:12]),
            int(text[12:14]),
            int(text[14:] or 0) * 1_000,
            tzinfo=zone,
        )
    except ValueError:
        raise InvalidParameter("the stamp is not in the calendar") from None
    return from_datetime(moment)


def format_stamp(instant: Instant, zone: tzinfo) -> str:
    """Return the 14 digits `yyyyMMddHHmmss` of `instant` in `zone`; milliseconds are cut."""
    try:
        t = datetime.fromtimestamp(instant // SECOND, zone)
    except (ValueError, OverflowError):
        raise InvalidParameter("the time lies outside the years 1970 to 9999") from None
    # Two of them in every answer: a third of what strftime takes.
    return "%04d%02d%02d%02d%02d%02d" % (t.year, t.month, t.day, t.hour, t.minute, t.second)  # noqa: UP031


def wire_stamp(instant: Instant, zone: tzinfo) -> str:
    """Return `format_stamp` of an instant that may be the last one there is."""
    return format_stamp(min(instant, LAST_ON_THE_WIRE), zone)


def add_period(start: Instant, unit: PeriodUnit, count: int, zone: tzinfo) -> Instant:
    """Return the same wall time in `zone` `count` units later.

    A day that the target month lacks becomes its last day; a wall time that a summer time skips moves past the gap, one
    that occurs twice is the first.
    """
    local = to_datetime(start, zone).replace(fold=0)
    try:
        if unit is PeriodUnit.DAY:
            return from_datetime(local + timedelta(days=count))
        months = count * 12 if unit is PeriodUnit.YEAR else count
        year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
        day = min(local.day, monthrange(year, month + 1)[1])
        return from_datetime(local.replace(year=year, month=month + 1, day=day))
    except (ValueError, OverflowError):
        raise InvalidParameter("the period ends outside the years 1970 to 9999") from None


def month_of(instant: Instant, zone: tzinfo) -> str:
    """Return the month of `instant` in `zone`, e.g. `2026-11`."""
    return to_datetime(instant, zone).strftime("%Y-%m")


def next_month(month: str) -> str:
    """Return the month after `month`, both like `2026-12`."""
    if not _MONTH.fullmatch(month):
        raise InvalidParameter("a month must look like 2026-11")
    year, number = divmod(int(month[:4]) * 12 + int(month[5:]), 12)
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise InvalidParameter("the month lies outside the years 1970 to 9999")
    return f"{year}-{number + 1:02}"
