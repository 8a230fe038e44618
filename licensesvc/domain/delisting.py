"""What the marketplace counts against a seller, and how near we are to it (spec §§1.9, 2.0, 2.2, 2.4, 2.6).

In: retry schedules, gauges with their thresholds, the arithmetic from facts to readings. Out: where the facts come from (storage), what
becomes of a reading (`alerts`), words for people (`services.guard_texts`).

Everything here that counts calls is a LOWER BOUND of what the marketplace counts: calls that never reached us, or whose sender we
could not prove, are not among the facts.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain.calendar import QUARTER
from licensesvc.domain.instants import DAY, HOUR, MINUTE, Instant, from_datetime, month_of, to_datetime


class Gauge(StrEnum):
    """What is watched for each connection."""

    FAILED_ORDERS = "failed_orders"
    PROBE_FAILURES = "probe_failures"
    PROBE_SILENCE = "probe_silence"
    RETRY_WINDOW = "retry_window"
    OPEN_API_REFUSALS = "open_api_refusals"
    SOFTWARE_LOCKS = "software_locks"


class Level(StrEnum):
    """How bad a reading is."""

    OK = "ok"
    WARN = "warn"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0, 1 or 2."""
        return _RANKS[self]


_RANKS: Final = {Level.OK: 0, Level.WARN: 1, Level.CRITICAL: 2}


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds of a gauge: the level from a value on; `limit` is the marketplace's own where it names one.

    A level that was told is not told again within `quiet` ms.
    """

    unit: str
    limit: int | None
    warn: int
    critical: int | None
    quiet: int = HOUR

    def level(self, value: int | None) -> Level:
        """The level of a value; None = the gauge does not apply."""
        if value is None or value < self.warn:
            return Level.OK
        return Level.CRITICAL if self.critical is not None and value >= self.critical else Level.WARN


RULES: Final[Mapping[Gauge, Rule]] = {
    # More than 5 failed orders in a month delist (spec §§2.2, 2.4): at 4 there is one left.
    Gauge.FAILED_ORDERS: Rule(unit="orders", limit=5, warn=2, critical=4),
    # 5 failing days in a row freeze trade and hide the product (spec §2.0).
    Gauge.PROBE_FAILURES: Rule(unit="days", limit=5, warn=1, critical=3),
    # Probes that do not reach us fail for the marketplace, so its 5 days count here as well.
    Gauge.PROBE_SILENCE: Rule(unit="days", limit=5, warn=1, critical=2),
    # Of getLicense's four tries (spec §2.6) the second warns, and the third is critical: one is left.
    Gauge.RETRY_WINDOW: Rule(unit="percent", limit=100, warn=50, critical=75),
    # More than 5 refused signatures in a row lock the AK/SK for 5 minutes (spec §1.9); our own calls pause at 3.
    Gauge.OPEN_API_REFUSALS: Rule(unit="refusals", limit=5, warn=2, critical=3),
    # A lock ends by itself after 5 minutes and comes back as long as somebody tries: once a day is enough.
    Gauge.SOFTWARE_LOCKS: Rule(unit="credentials", limit=None, warn=1, critical=None, quiet=DAY),
}


class CallbackRetries(msgspec.Struct, frozen=True, kw_only=True):
    """How the marketplace repeats a failed call: `retries` after the first try, spread over `window` ms; None = not documented."""

    retries: int | None
    window: int


_ONCE: Final = CallbackRetries(retries=0, window=0)
_EVERY_2_MINUTES: Final = CallbackRetries(retries=60, window=60 * 2 * MINUTE)

RETRIES: Final[Mapping[str, CallbackRetries]] = {
    "getLicense": CallbackRetries(retries=3, window=3 * HOUR),
    "refreshLicense": _ONCE,
    "expireLicense": _ONCE,
    "releaseLicense": _ONCE,
    "refreshLicenseCode": _EVERY_2_MINUTES,
    "updateLicenseCodeStatus": _EVERY_2_MINUTES,
    "releaseLicenseCode": _EVERY_2_MINUTES,
    "newInstance": _EVERY_2_MINUTES,  # SaaS V1 has 3 h for the same name: the shorter counts
    "orderNotify": CallbackRetries(retries=None, window=3 * HOUR),
}
"""By activity (spec §2.6); calls that are not here have no documented schedule and are not watched."""
NOTIFICATION: Final = "orderNotify"
PURCHASES: Final = ("getLicense", "newInstance", NOTIFICATION)
"""Activities whose failure fails an order (spec §§2.2, 2.4); the notification only where the order was never learned."""
LONGEST_WINDOW: Final = max(schedule.window for schedule in RETRIES.values())
LATE: Final = 5 * MINUTE
"""Milliseconds that a try may come behind its schedule."""
CLOSED_SHOWN: Final = DAY
"""Milliseconds that a call stays in sight after its last try: somebody must restart it by hand."""
PROBE_DAYS: Final = 14
"""Days that are looked back for failing probes."""


class FailingCall(msgspec.Struct, frozen=True, kw_only=True):
    """A live call of the marketplace, by activity and order, that was answered with something but success; by license where it names no order.

    `attempts` counts failures since the last success, `failing_since` is the first of them; `first_failure` and `first_success` are the
    first of all, successes as the marketplace saw them. `learned`: the order is known to us, from whatever source.
    """

    activity: str
    order_id: str | None
    attempts: int
    failing_since: Instant | None
    first_failure: Instant
    first_success: Instant | None
    learned: bool
    license: str | None = None

    @property
    def gives_up_at(self) -> Instant:
        """When the marketplace stops by itself, counted from the first failure of all."""
        return self.first_failure + RETRIES[self.activity].window + LATE


class OpenCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call whose last answer was a failure: how much of its retries is used (percent; 100 = only a restart by hand is left)."""

    activity: str
    order_id: str | None
    attempts: int
    attempts_documented: int | None
    failing_since: Instant
    closes_at: Instant
    used_percent: int
    license: str | None = None


class ProbeDay(msgspec.Struct, frozen=True, kw_only=True):
    """Replayed debug cases of one calendar day, and how many were answered with something but success."""

    day: date
    cases: int
    failed: int


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """A gauge as it stands; `value` None = it does not apply. `incident` grows when something further went wrong at the same level."""

    gauge: Gauge
    value: int | None
    level: Level
    incident: int = 0

    @property
    def limit(self) -> int | None:
        """The marketplace's limit."""
        return RULES[self.gauge].limit


class OnSale(StrEnum):
    """What the operator says of the products of a connection."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one connection that the gauges are computed from."""

    purchases: Sequence[FailingCall] = ()
    calls: Sequence[FailingCall] = ()
    probes: Sequence[ProbeDay] = ()
    last_probe_at: Instant | None = None
    on_sale: OnSale = OnSale.UNKNOWN
    on_sale_since: Instant | None = None
    failed_orders_reported: int | None = None
    open_api_refusals: int = 0
    software_locked: int = 0


def month_start(month: str, zone: ZoneInfo) -> Instant:
    """The first instant of a month like `2026-11` in `zone`."""
    return from_datetime(datetime(int(month[:4]), int(month[5:]), 1, tzinfo=zone))


def day_of(instant: Instant, zone: ZoneInfo) -> date:
    """The calendar day of `instant` in `zone`."""
    return to_datetime(instant, zone).date()


def failed_orders(calls: Iterable[FailingCall], month: str, zone: ZoneInfo, now: Instant) -> set[str]:
    """Orders that failed in `month`: their retries ran out in it, and no try before that succeeded.

    A success after the last try is a restart by hand, which the order had failed before. An order that fails again after such a restart
    is the same order. A LOWER BOUND of the marketplace's count.
    """
    return {
        call.order_id
        for call in calls
        if call.order_id is not None
        and call.activity in PURCHASES
        and call.gives_up_at <= now
        and month_of(call.gives_up_at, zone) == month
        and (call.first_success is None or call.first_success > call.gives_up_at)
        and not (call.activity == NOTIFICATION and call.learned)
    }


def open_calls(calls: Iterable[FailingCall], now: Instant) -> list[OpenCall]:
    """Calls that fail now, the most urgent first; those whose tries ran out more than `CLOSED_SHOWN` ago are left out."""
    found = []
    for call in calls:
        if call.failing_since is None:
            continue
        schedule = RETRIES[call.activity]
        closes_at = call.failing_since + schedule.window
        if now >= closes_at + CLOSED_SHOWN:
            continue
        tries = None if schedule.retries is None else schedule.retries + 1
        found.append(
            OpenCall(
                activity=call.activity,
                order_id=call.order_id,
                license=call.license,
                attempts=call.attempts,
                attempts_documented=tries,
                failing_since=call.failing_since,
                closes_at=closes_at,
                used_percent=_used(now - call.failing_since, schedule.window, call.attempts, tries),
            )
        )
    return sorted(
        found,
        key=lambda call: (-call.used_percent, call.closes_at, call.activity, call.order_id or "", call.license or ""),
    )


def _used(elapsed: int, window: int, attempts: int, tries: int | None) -> int:
    by_time = 100 if elapsed >= window else max(elapsed, 0) * 100 // max(window, 1)  # a clock set back: elapsed < 0
    by_attempts = 0 if tries is None else attempts * 100 // tries
    return min(100, max(by_time, by_attempts))


def probe_days(quarters: Iterable[tuple[int, int, int]], zone: ZoneInfo) -> list[ProbeDay]:
    """Fold quarters of an hour, as (number since 1970, cases, failed), into the days of `zone`, ascending."""
    counts: dict[date, tuple[int, int]] = {}
    for quarter, cases, failed in quarters:
        day = day_of(quarter * QUARTER, zone)
        known_cases, known_failed = counts.get(day, (0, 0))
        counts[day] = (known_cases + cases, known_failed + failed)
    return [ProbeDay(day=day, cases=cases, failed=failed) for day, (cases, failed) in sorted(counts.items())]


def failing_days(days: Sequence[ProbeDay], today: date) -> int:
    """Days in a row, up to the latest with probes, on which a probe failed.

    A day without any probe neither counts nor breaks the row: what the marketplace saw on it we cannot know.
    """
    run = 0
    for probed in sorted(days, key=lambda probed: probed.day, reverse=True):
        if (today - probed.day).days >= PROBE_DAYS or probed.failed == 0:
            break
        run += 1
    return run


def silent_days(facts: Facts, zone: ZoneInfo, now: Instant) -> int | None:
    """Whole days without a probe, today left out: 1 = none came since yesterday morning. None = none is expected."""
    if facts.on_sale is OnSale.NO:
        return None
    expected = [facts.last_probe_at, facts.on_sale_since if facts.on_sale is OnSale.YES else None]
    known = [instant for instant in expected if instant is not None]
    if not known:
        return None
    return max(0, (day_of(now, zone) - day_of(max(known), zone)).days - 1)


def readings(facts: Facts, zone: ZoneInfo, now: Instant) -> dict[Gauge, Reading]:
    """Every gauge of a connection at `now`, days and months counted in `zone`."""
    counted = len(failed_orders(facts.purchases, month_of(now, zone), zone, now))
    failing = failing_days(facts.probes, day_of(now, zone))
    calls = open_calls(facts.calls, now)
    used = calls[0].used_percent if calls else 0
    level = RULES[Gauge.RETRY_WINDOW].level(used)
    # The youngest call at this level: one that joins it later is news.
    youngest = max(
        (call.failing_since for call in calls if RULES[Gauge.RETRY_WINDOW].level(call.used_percent) is level), default=0
    )
    orders = max(counted, facts.failed_orders_reported or 0)
    values: dict[Gauge, tuple[int | None, int]] = {
        Gauge.FAILED_ORDERS: (orders, orders),
        Gauge.PROBE_FAILURES: (None if facts.on_sale is OnSale.NO else failing, failing),
        Gauge.PROBE_SILENCE: (silent_days(facts, zone, now), 0),
        Gauge.RETRY_WINDOW: (used, youngest),
        Gauge.OPEN_API_REFUSALS: (facts.open_api_refusals, 0),
        Gauge.SOFTWARE_LOCKS: (facts.software_locked, 0),
    }
    return {
        gauge: Reading(gauge=gauge, value=value, level=RULES[gauge].level(value), incident=incident)
        for gauge, (value, incident) in values.items()
    }
