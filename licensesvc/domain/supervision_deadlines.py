"""Deadlines and reminders of supervision (spec §6.4): what is due when, and from whom, as one table.

In: the table and a pure function over a case. Out: telling somebody, which is a scheduler's work. Days are days of the connection's
calendar: a period of days ends at the same wall time, the delivery period with the last second of its last day.

A new deadline is a row of `RULES`.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import HOUR, Instant, PeriodUnit, add_period, from_datetime, to_datetime
from licensesvc.domain.supervision import ENDS, Actor, FlowName, Node, Refund
from licensesvc.domain.supervision_case import IDLE, CaseState, turn

COMPLETION: Final = 3 * HOUR
"""From acceptance to the end, and from a refund's approval to the money (spec §§6.4, 6.8)."""
REMINDER_DAYS: Final = 180
"""Days after the order when the seller is reminded of a case that is not accepted (spec §6.4)."""
INSPECTION_DAYS: Final = 15
"""Days to inspect goods that came back (spec §6.4)."""
RULING_WORKING_DAYS: Final = 3
"""Working days, Monday to Friday, in which operations act on an appeal (spec §6.4)."""

_SATURDAY: Final = 5


class DueKind(StrEnum):
    """What is due."""

    DELIVERY = "delivery"
    COMPLETION = "completion"
    REFUND_PAYMENT = "refund_payment"
    INSPECTION = "inspection"
    RULING = "ruling"
    DATA_KEPT = "data_kept"
    REMINDER = "reminder"
    APPEAL_OFFERED = "appeal_offered"


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What deadlines need beside the case: the order's time, the promised delivery, the calendar, the license's freeze."""

    ordered_at: Instant
    calendar: ZoneInfo
    delivery_days: int | None = None
    frozen_at: Instant | None = None
    freeze_days: int = 15


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is due at `at` from `actor`; `hard` ones are broken promises afterwards, the others offers and reminders."""

    kind: DueKind
    at: Instant
    actor: Actor | None
    hard: bool
    past: bool


class Rule(NamedTuple):
    """One row: what is due, how long after what, where, and whether being late breaks a promise."""

    kind: DueKind
    applies: Callable[[CaseState], bool]
    at: Callable[[CaseState, Terms], Instant | None]
    hard: bool
    text: str


def _stands(*nodes: Node) -> Callable[[CaseState], bool]:
    """At one of these nodes, neither frozen nor waiting for a refund."""
    return lambda state: state.node in nodes and not state.frozen and state.refund is Refund.NONE


def _refund(*refunds: Refund) -> Callable[[CaseState], bool]:
    return lambda state: state.refund in refunds and not state.frozen


def _delivery(state: CaseState, terms: Terms) -> Instant | None:
    """The end of the last day, counted from the day after the work came to the seller."""
    if terms.delivery_days is None:
        return None
    midnight = from_datetime(
        to_datetime(state.entered_at, terms.calendar).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    )
    return add_period(midnight, PeriodUnit.DAY, terms.delivery_days + 1, terms.calendar) - 1


def _days(start: Instant | None, days: int, terms: Terms) -> Instant | None:
    return None if start is None else add_period(start, PeriodUnit.DAY, days, terms.calendar)


def _working_days(start: Instant | None, days: int, terms: Terms) -> Instant | None:
    at = start
    while at is not None and days:
        at = add_period(at, PeriodUnit.DAY, 1, terms.calendar)
        days -= to_datetime(at, terms.calendar).weekday() < _SATURDAY
    return at


def _after(start: Instant | None, length: int) -> Instant | None:
    return None if start is None else start + length


RULES: Final = (
    Rule(DueKind.DELIVERY, _stands(Node.DELIVERING), _delivery, True, "the end of the last calendar day of the delivery period"),
    Rule(DueKind.COMPLETION, _stands(Node.ACCEPTED), lambda s, _: _after(s.accepted_at, COMPLETION), True, "3 h after the acceptance"),
    Rule(DueKind.REFUND_PAYMENT, _refund(Refund.APPROVED), lambda s, _: _after(s.refund_at, COMPLETION), True, "3 h after the approval"),
    Rule(DueKind.INSPECTION, _refund(Refund.PENDING_INSPECTION), lambda s, t: _days(s.refund_at, INSPECTION_DAYS, t), True, "15 days after the goods were sent back"),
    Rule(DueKind.RULING, lambda s: s.frozen, lambda s, t: _working_days(s.appealed_at, RULING_WORKING_DAYS, t), False, "3 working days after the appeal"),
    Rule(DueKind.DATA_KEPT, lambda _: True, lambda _, t: _days(t.frozen_at, t.freeze_days, t), False, "the license is frozen: data is kept for the days that its policy says, 15 unless told"),
    Rule(DueKind.REMINDER, lambda s: s.node not in ENDS and s.accepted_at is None, lambda _, t: _days(t.ordered_at, REMINDER_DAYS, t), False, "180 days after the order"),
    Rule(DueKind.APPEAL_OFFERED, _stands(Node.BUYER_CONFIRMING), lambda s, _: _after(s.entered_at, IDLE), False, "120 h after the buyer was asked to accept"),
)  # fmt: skip
"""Every deadline and reminder (spec §6.4)."""

_WHOSE: Final = {DueKind.DATA_KEPT: Actor.SELLER, DueKind.REMINDER: Actor.SELLER, DueKind.APPEAL_OFFERED: Actor.SELLER}
"""Who is concerned where it is not the one whose turn it is."""


def deadlines(flow: FlowName, state: CaseState, terms: Terms, now: Instant) -> list[Due]:
    """Everything that is due or will be as the case stands, soonest first; `past` where `now` is later."""
    return _due(flow, state, terms, now, RULES)


def due_at(flow: FlowName, state: CaseState, terms: Terms) -> Instant | None:
    """When the first promise would be broken as the case stands; None = none is given."""
    return next((due.at for due in _due(flow, state, terms, 0, _HARD)), None)


_HARD: Final = tuple(rule for rule in RULES if rule.hard)


def _due(flow: FlowName, state: CaseState, terms: Terms, now: Instant, rules: Sequence[Rule]) -> list[Due]:
    found = [
        Due(kind=rule.kind, at=at, actor=_WHOSE.get(rule.kind, turn(flow, state)), hard=rule.hard, past=now > at)
        for rule in rules
        if rule.applies(state) and (at := _when(rule, state, terms)) is not None
    ]
    return sorted(found, key=lambda due: due.at)


def _when(rule: Rule, state: CaseState, terms: Terms) -> Instant | None:
    """A deadline beyond the years that an instant can name is none."""
    try:
        return rule.at(state, terms)
    except InvalidParameter:
        return None
