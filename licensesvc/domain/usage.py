"""How many clients used a license on a day: distinct ones that were named, or a number that the software itself has counted.

In: days of a calendar as numbers, putting reports together, the bound of a day. Out: names of clients, of which only keyed hashes
come here (spec §1.5).
"""

from collections.abc import Collection, Iterable
from datetime import date
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain.instants import Instant, to_datetime

MAX_CLIENTS_A_DAY: Final = 100_000
"""Distinct clients of one license that a day counts; who comes later is not counted any more."""
MAX_ACTIVE_NUM: Final = 999_999_999

_EPOCH: Final = date(1970, 1, 1).toordinal()


class DayUse(msgspec.Struct, frozen=True, kw_only=True):
    """What was reported of one license on one day: hashes of clients, and the largest number that was stated."""

    license_id: int
    day: int
    clients: frozenset[str] = frozenset()
    active_num: int | None = None


def day_of(now: Instant, zone: ZoneInfo) -> int:
    """Return the day in `zone`, counted from 1970-01-01."""
    return to_datetime(now, zone).toordinal() - _EPOCH


def date_of(day: int) -> str:
    """Return a day as people write it, e.g. `2026-11-23`."""
    return date.fromordinal(day + _EPOCH).isoformat()


def parse_date(text: str) -> int:
    """Read what `date_of` writes; ValueError."""
    return date.fromisoformat(text).toordinal() - _EPOCH


def larger(one: int | None, other: int | None) -> int | None:
    """Return the larger of two stated numbers: a day's peak counts, and a repeat changes nothing."""
    if one is None or other is None:
        return one if other is None else other
    return max(one, other)


def merged(uses: Iterable[DayUse]) -> list[DayUse]:
    """Put reports of the same license and day together, ascending: writers take rows in one order."""
    days: dict[tuple[int, int], DayUse] = {}
    for use in uses:
        key = (use.license_id, use.day)
        known = days.get(key, use)
        days[key] = msgspec.structs.replace(
            known, clients=known.clients | use.clients, active_num=larger(known.active_num, use.active_num)
        )
    return [days[key] for key in sorted(days)]


def admitted(counted: int, fresh: Collection[str]) -> list[str]:
    """Return which of the clients that a day has not seen yet it still counts."""
    return sorted(fresh)[: max(0, MAX_CLIENTS_A_DAY - counted)]
