"""When an alert is raised, told again and cleared: a pure step from what is known and a reading to what changes.

In: the step, and which channel hears of it. Out: storing it (compare-and-swap, so several processes tell once), sending it.

A rise is told at once. The same level again within the gauge's `quiet` time after it was told is not: a gauge that flaps, or a clock that
is set back and forth, stays quiet. What lasts longer than that is told, so nobody believes for longer that things are better than they are.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain.delisting import RULES, Gauge, Level, Reading, day_of
from licensesvc.domain.instants import DAY, Instant, month_of

REPEAT_EVERY: Final = DAY
"""Milliseconds after which a critical alert that nobody has acknowledged is told again."""


class Event(StrEnum):
    """What happens to an alert; the audit knows it as `alert.raised` and so on."""

    RAISED = "raised"
    LOWERED = "lowered"
    REPEATED = "repeated"
    CLEARED = "cleared"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One period in which a gauge was not well. `told_level` is what receivers believe, `told_peak` the most they were told in it.

    `told_at` is when they were told of something bad last. `incident` is that of the reading that was told.
    """

    period: str
    level: Level
    told_level: Level
    told_peak: Level
    told_at: Instant
    incident: int
    value: int
    opened_at: Instant
    cleared_at: Instant | None = None
    acknowledged_at: Instant | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A change of an alert: `before` None makes it. `told` = channels hear of it."""

    event: Event
    before: Alert | None
    after: Alert
    told: bool


def period_of(gauge: Gauge, now: Instant, zone: ZoneInfo) -> str:
    """The period that an alert raised now belongs to: the month that failed orders are counted in, else the day."""
    return month_of(now, zone) if gauge is Gauge.FAILED_ORDERS else str(day_of(now, zone))


def follow(reading: Reading, period: str, known: Sequence[Alert], now: Instant) -> list[Step]:
    """What changes for the alerts of one gauge: `known` are the open one and the one of `period`, where there are such.

    An open alert outlives its day, but not its month: that count begins anew.
    """
    steps = []
    opened = next((alert for alert in known if alert.cleared_at is None), None)
    if opened is not None and opened.period != period and reading.gauge is Gauge.FAILED_ORDERS:
        steps.append(_clear(opened, now))
        opened = None
    if reading.level is Level.OK:
        if opened is not None:
            steps.append(_clear(opened, now))
        return steps
    current = opened or next((alert for alert in known if alert.period == period), None)
    if current is None:
        steps.append(_raise(reading, period, now))
    elif (step := _change(current, reading, now)) is not None:
        steps.append(step)
    return steps


def heard(step: Step, least: Level) -> bool:
    """Whether a channel for alerts from level `least` on hears of a step; who heard of an alert hears that it is over."""
    level = step.after.told_peak if step.event is Event.CLEARED else step.after.level
    return step.told and level.rank >= least.rank


def _raise(reading: Reading, period: str, now: Instant) -> Step:
    assert reading.value is not None  # a gauge that does not apply is OK
    alert = Alert(
        period=period,
        level=reading.level,
        told_level=reading.level,
        told_peak=reading.level,
        told_at=now,
        incident=reading.incident,
        value=reading.value,
        opened_at=now,
    )
    return Step(event=Event.RAISED, before=None, after=alert, told=True)


def _clear(alert: Alert, now: Instant) -> Step:
    after = msgspec.structs.replace(alert, level=Level.OK, told_level=Level.OK, cleared_at=now)
    # What was never told needs no end.
    return Step(event=Event.CLEARED, before=alert, after=after, told=alert.told_level is not Level.OK)


def _change(alert: Alert, reading: Reading, now: Instant) -> Step | None:
    assert reading.value is not None
    quiet_is_over = abs(now - alert.told_at) >= RULES[reading.gauge].quiet
    rise = reading.level.rank - alert.told_level.rank
    worse = rise > 0 or (rise == 0 and reading.incident > alert.incident)
    if reading.level.rank > alert.told_peak.rank or (worse and quiet_is_over):
        raised = msgspec.structs.replace(
            alert,
            level=reading.level,
            told_level=reading.level,
            told_peak=max(alert.told_peak, reading.level, key=lambda level: level.rank),
            told_at=now,
            incident=reading.incident,
            value=reading.value,
            cleared_at=None,
            acknowledged_at=None,
        )
        return Step(event=Event.RAISED, before=alert, after=raised, told=True)
    if (
        reading.level is Level.CRITICAL
        and alert.told_level is Level.CRITICAL
        and alert.acknowledged_at is None
        and abs(now - alert.told_at) >= REPEAT_EVERY
    ):
        repeated = msgspec.structs.replace(alert, level=reading.level, told_at=now, value=reading.value)
        return Step(event=Event.REPEATED, before=alert, after=repeated, told=True)
    if reading.level is not alert.level:
        event = Event.RAISED if reading.level.rank > alert.level.rank else Event.LOWERED
        changed = msgspec.structs.replace(alert, level=reading.level, value=reading.value, cleared_at=None)
        return Step(event=event, before=alert, after=changed, told=False)
    return None
