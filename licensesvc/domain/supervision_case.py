"""A supervision case: its small state, what an event makes of it, and the same state rebuilt from the log.

In: one event after another, each checked against the flow's table and a few guards. Out: proofs (acceptance.py), deadlines
(supervision_deadlines.py), what else an event brings about, e.g. for the license (services/supervision/supervise.py).

A case knows two truths: what has *happened* as far as we were told, and what the marketplace has *confirmed* (ADR 40). Every event carries
its source and when it was confirmed there; confirming one confirms all before it, for a flow has no way around its nodes.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from licensesvc.domain.errors import AcceptanceNotConfirmed, ForbiddenActor, IllegalTransition, InvalidParameter
from licensesvc.domain.instants import HOUR, MINUTE, Instant
from licensesvc.domain.money import MAX_AMOUNT
from licensesvc.domain.supervision import (
    ENDS,
    NEEDS_REASON,
    NODES,
    OPEN_REFUNDS,
    REFUNDS,
    SEEN_THERE,
    Actor,
    Event,
    FlowName,
    Node,
    Refund,
    Source,
)
from licensesvc.domain.supervision_flows import FLOWS, Move, moves

MAX_CLOCK_LEAD: Final = 5 * MINUTE
"""How far in the future an event may be told to lie: other clocks run ahead."""
IDLE: Final = 120 * HOUR
"""Idle for longer than this is a ground of appeal: more than 5 days (spec §6.4)."""
REJECTIONS: Final = 3
"""After so many rejections, at the next submission, either side has a ground of appeal (spec §6.4)."""


class Ground(StrEnum):
    """Why an appeal is well founded by the documented counts and days; newer texts ask for none (spec §6.5)."""

    REJECTED_OFTEN = "rejected_often"
    BUYER_IDLE = "buyer_idle"
    SELLER_IDLE = "seller_idle"


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What only some events tell: amounts of a refund in hundredths of the order's currency, the proof's form, grounds, the month."""

    amount: int | None = None
    paid: int | None = None
    enabled_at: Instant | None = None
    resource_order: str | None = None
    grounds: tuple[Ground, ...] = ()
    settlement_month: str | None = None


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a case: `at` is when it happened, `confirmed_at` when the marketplace was known to show it."""

    event: Event
    actor: Actor
    source: Source
    at: Instant
    confirmed_at: Instant | None = None
    reason: str | None = None
    facts: Facts = Facts()


class CaseState(msgspec.Struct, frozen=True, kw_only=True):
    """Where a case stands; everything else is derived.

    `entered_at` is when the wait at the node began, anew after an appeal or a refund held it up. `unconfirmed_since` is the first event
    that was done here and is not confirmed there. `refund_amount` is in hundredths of the order's currency.
    """

    node: Node
    entered_at: Instant
    refund: Refund = Refund.NONE
    refund_at: Instant | None = None
    refund_amount: int | None = None
    appealed_at: Instant | None = None
    rejections: int = 0
    enabled_at: Instant | None = None
    resource_order: str | None = None
    accepted_at: Instant | None = None
    acceptance_confirmed_at: Instant | None = None
    unconfirmed_since: Instant | None = None
    completed_at: Instant | None = None
    settlement_month: str | None = None

    @property
    def frozen(self) -> bool:
        """Whether an appeal holds the case up."""
        return self.appealed_at is not None

    def __str__(self) -> str:
        """The node, with what holds it up."""
        held = f" with a refund {self.refund}" if self.refund is not Refund.NONE else ""
        return f"{self.node}{held}{', frozen' if self.frozen else ''}"


def opened(at: Instant) -> CaseState:
    """The state of a new case."""
    return CaseState(node=Node.PAID, entered_at=at)


def possible(flow: FlowName, state: CaseState) -> dict[Event, Move]:
    """Everything that may happen to the case now, by whom."""
    return dict(moves(flow, state.node, state.refund, frozen=state.frozen))


def turn(flow: FlowName, state: CaseState) -> Actor | None:
    """Whose turn it is; None where nothing is left to do, or the flow lacks the node."""
    if state.node not in FLOWS[flow].cells:
        return None
    if state.frozen:
        return Actor.MARKETPLACE
    return REFUNDS[state.refund] if state.refund is not Refund.NONE else NODES[state.node][1]


def grounds(flow: FlowName, state: CaseState, now: Instant) -> tuple[Ground, ...]:
    """The documented grounds on which an appeal would rest at `now` (spec §§6.4, 6.5)."""
    if state.frozen or state.node in ENDS:
        return ()
    idle = now - state.entered_at > IDLE
    found = []
    if state.rejections >= REJECTIONS:
        found.append(Ground.REJECTED_OFTEN)
    if idle and state.node is Node.BUYER_CONFIRMING:
        found.append(Ground.BUYER_IDLE)
    if idle and flow is FlowName.HARDWARE and turn(flow, state) is Actor.SELLER:
        found.append(Ground.SELLER_IDLE)
    return tuple(found)


def step(flow: FlowName, state: CaseState, happening: Happening, *, now: Instant | None = None) -> CaseState:
    """Return what the event makes of the case.

    IllegalTransition: nobody can cause it here. ForbiddenActor: somebody else can. InvalidParameter: the reason is missing, an amount is
    out of range, or the event lies in the future of `now`. AcceptanceNotConfirmed: the case cannot be completed yet.
    """
    event, at = happening.event, happening.at
    move = _move(flow, state, happening)
    _check(state, happening, now)
    held_up = state.frozen or state.refund in OPEN_REFUNDS
    holds_up = move.frozen or move.refund in OPEN_REFUNDS
    moved = move.node is not state.node or (held_up and not holds_up)
    accepts = move.node is Node.ACCEPTED and state.node is not Node.ACCEPTED
    changes: dict[str, object] = {
        "node": move.node,
        "entered_at": at if moved else state.entered_at,
        "refund": move.refund,
        "appealed_at": (state.appealed_at if state.frozen else at) if move.frozen else None,
        "rejections": state.rejections + (event is Event.REJECTED),
        "enabled_at": _known(happening.facts.enabled_at, state.enabled_at),
        "resource_order": _known(happening.facts.resource_order, state.resource_order),
    }
    if move.refund is not state.refund:
        changes["refund_at"] = None if move.refund is Refund.NONE else at
        changes["refund_amount"] = None if move.refund is Refund.NONE else _refunded(state, happening)
    if accepts or move.node not in _SINCE_ACCEPTED:
        changes["accepted_at"] = at if accepts else None
        changes["acceptance_confirmed_at"] = happening.confirmed_at if accepts else None
    elif state.acceptance_confirmed_at is None and state.accepted_at is not None:
        changes["acceptance_confirmed_at"] = happening.confirmed_at
    completes = move.node is Node.COMPLETED
    changes["completed_at"] = at if completes else None
    changes["settlement_month"] = happening.facts.settlement_month if completes else None
    changes["unconfirmed_since"] = _unconfirmed(state, happening, accepts=accepts)
    return msgspec.structs.replace(state, **changes)


def replay(flow: FlowName, happenings: Iterable[Happening]) -> CaseState:
    """Rebuild the state of a case from its log; raises what `step` raises where an event does not follow the one before."""
    state: CaseState | None = None
    for happening in happenings:
        state = step(flow, state or opened(happening.at), happening)
    return state or opened(0)


def confirm(log: Sequence[Happening], place: int, at: Instant) -> list[Happening]:
    """Return the log once the marketplace was known at `at` to show the event at this place in it, and so all before."""
    return [
        msgspec.structs.replace(happening, confirmed_at=at)
        if number <= place and happening.confirmed_at is None
        else happening
        for number, happening in enumerate(log)
    ]


def latest(log: Sequence[Happening], event: Event) -> int | None:
    """Return the place in the log of the last event of this kind; None = it has not happened, or not since a reopening."""
    for place in range(len(log) - 1, -1, -1):
        if log[place].event is event:
            return place
        if log[place].event is Event.REOPENED:
            return None
    return None


_WITH_AMOUNT: Final = frozenset({Event.REFUND_ASKED, Event.RULED_REFUNDED, Event.REFUNDED})
_SINCE_ACCEPTED: Final = frozenset({Node.ACCEPTED, Node.COMPLETED, Node.REFUNDED})


def _move(flow: FlowName, state: CaseState, happening: Happening) -> Move:
    move = moves(flow, state.node, state.refund, frozen=state.frozen).get(happening.event)
    if move is None:
        raise IllegalTransition(str(state), happening.event)
    if happening.actor not in move.actors:
        raise ForbiddenActor(str(state), happening.event, ", ".join(sorted(move.actors)))
    return move


def _check(state: CaseState, happening: Happening, now: Instant | None) -> None:
    if happening.event in NEEDS_REASON and not (happening.reason or "").strip():
        raise InvalidParameter(f"{happening.event} needs a reason")
    if now is not None and happening.at > now + MAX_CLOCK_LEAD:
        raise InvalidParameter("the event lies in the future")
    _check_amount(happening.event, happening.facts.amount, happening.facts.paid)
    if happening.event is Event.COMPLETED and happening.confirmed_at is None and state.acceptance_confirmed_at is None:
        raise AcceptanceNotConfirmed


def _check_amount(event: Event, amount: int | None, paid: int | None) -> None:
    """What is asked for is more than nothing and at most what was paid (spec §6.8); what the marketplace rules it may not have told."""
    if event is Event.REFUND_ASKED and (amount is None or paid is None):
        raise InvalidParameter("a refund is asked for with its amount and with what was paid")
    if (amount is not None or paid is not None) and event not in _WITH_AMOUNT:
        raise InvalidParameter(f"{event} has no amount")
    if amount is not None and not 0 < amount <= (MAX_AMOUNT if paid is None else min(paid, MAX_AMOUNT)):
        raise InvalidParameter("the amount of a refund is above 0 and at most what was paid")


def _refunded(state: CaseState, happening: Happening) -> int | None:
    """The amount that was asked for, unless the marketplace tells of another."""
    return happening.facts.amount if happening.facts.amount is not None else state.refund_amount


def _unconfirmed(state: CaseState, happening: Happening, *, accepts: bool) -> Instant | None:
    if happening.confirmed_at is not None:
        return None
    if accepts or happening.event in SEEN_THERE:
        return happening.at if state.unconfirmed_since is None else state.unconfirmed_since
    return state.unconfirmed_since


def _known(told: object, known: object) -> object:
    return known if told is None else told
