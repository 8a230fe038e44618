"""Counting what happened by the days of a calendar."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final
from zoneinfo import ZoneInfo

from licensesvc.domain.instants import MINUTE, Instant, to_datetime

QUARTER: Final = 15 * MINUTE
"""Milliseconds; every zone in use today is a multiple of it away from UTC, so no quarter lies in two days."""


def days_until(now: Instant, days: int, zone: ZoneInfo) -> list[str]:
    """The last `days` days in `zone`, e.g. `2026-11-23`, ascending; the day of `now` is the last."""
    today = to_datetime(now, zone).date()
    return [str(today - timedelta(days=back)) for back in range(days - 1, -1, -1)]


def per_day(quarters: Iterable[tuple[int, int]], days: Iterable[str], zone: ZoneInfo) -> dict[str, int]:
    """Fold counts of quarters of an hour, as (number since 1970, count), into those `days` of `zone`."""
    counts = dict.fromkeys(days, 0)
    for quarter, count in quarters:
        day = str(to_datetime(quarter * QUARTER, zone).date())
        if day in counts:
            counts[day] += count
    return counts
