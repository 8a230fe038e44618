"""What our record of an order and the marketplace's order/query (spec §1.6) say differently, and what would put it right.

In: comparing, the repair of each difference, when a night begins. Out: asking, keeping, repairing.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain.instants import Instant, rfc3339, to_datetime
from licensesvc.domain.license import ExpirySource
from licensesvc.domain.order import OrderType

SPREAD_MINUTES: Final = 20
"""Connections begin their night within so many minutes, each at its own: the marketplace is not asked by all at once."""
_LAST_MINUTE: Final = 24 * 60 - 1


class FindingKind(StrEnum):
    """What is different."""

    CANCELLED = "CANCELLED"
    """The marketplace calls the order UNSUBSCRIBE, and its license still stands here."""
    ORDER_TYPE = "ORDER_TYPE"
    """The order does something else there."""
    EXPIRY = "EXPIRY"
    """Its time ends at another moment there than the marketplace, or getLicense, has told us."""
    AMOUNT = "AMOUNT"
    """Another amount was bought there."""
    UNKNOWN_THERE = "UNKNOWN_THERE"
    """The marketplace does not know the order as one of this account."""
    UNKNOWN_HERE = "UNKNOWN_HERE"
    """The order, or this line of it, was never received here."""


class Repair(StrEnum):
    """What puts a difference right without doing harm."""

    RECEIVE = "receive"
    """Receive the order as the marketplace tells it; what is known stays."""
    RELEASE = "release"
    """Release the license of the cancelled order."""
    TAKE_EXPIRY = "take_expiry"
    """Believe the marketplace's expireTime; a stronger source, such as the operator or a refresh call, still wins."""
    TAKE_AMOUNT = "take_amount"
    """Believe the marketplace's amount; seats that are taken stay."""


class OurLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line as we know it; `told_expiry` is what order/query told before, the rest of `expiry` is the license's, if there is one."""

    line_id: str
    amount: int | None
    told_expiry: Instant | None
    expires_at: Instant | None = None
    expiry_source: ExpirySource | None = None
    in_force: bool = False
    """There is a license that was neither revoked nor released."""


class TheirLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line as order/query tells it."""

    line_id: str
    amount: int | None
    expires_at: Instant | None


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is different; `line_id` is empty where it is the whole order."""

    kind: FindingKind
    line_id: str = ""
    ours: str | None
    theirs: str | None


def compare(
    our_type: OrderType | None, ours: Sequence[OurLine], their_type: OrderType, theirs: Sequence[TheirLine]
) -> list[Difference]:
    """Everything that is different; `our_type` None = the order is unknown here. What one side does not say is no difference."""
    if our_type is None:
        return [Difference(kind=FindingKind.UNKNOWN_HERE, ours=None, theirs=their_type)]
    known = {line.line_id: line for line in ours}
    if their_type is OrderType.UNSUBSCRIBE and our_type is not OrderType.UNSUBSCRIBE:
        return [
            Difference(kind=FindingKind.CANCELLED, line_id=line.line_id, ours=our_type, theirs=their_type)
            for line in ours
            if line.in_force
        ]
    found = []
    if their_type is not our_type:
        found.append(Difference(kind=FindingKind.ORDER_TYPE, ours=our_type, theirs=their_type))
    for line in theirs:
        if line.line_id not in known:
            found.append(Difference(kind=FindingKind.UNKNOWN_HERE, line_id=line.line_id, ours=None, theirs=their_type))
        else:
            found += _line(known[line.line_id], line)
    return found


def _line(ours: OurLine, theirs: TheirLine) -> list[Difference]:
    found = []
    believed = _believed_expiry(ours)
    if theirs.expires_at is not None and believed is not None and believed != theirs.expires_at:
        found.append(
            Difference(
                kind=FindingKind.EXPIRY,
                line_id=ours.line_id,
                ours=rfc3339(believed),
                theirs=rfc3339(theirs.expires_at),
            )
        )
    if theirs.amount is not None and ours.amount is not None and theirs.amount != ours.amount:
        found.append(
            Difference(kind=FindingKind.AMOUNT, line_id=ours.line_id, ours=str(ours.amount), theirs=str(theirs.amount))
        )
    return found


def _believed_expiry(ours: OurLine) -> Instant | None:
    """What can be held against order/query: what it told before, else an estimate. Other sources are stronger than it."""
    if ours.told_expiry is not None:
        return ours.told_expiry
    return ours.expires_at if ours.expiry_source is ExpirySource.ESTIMATE else None


_REPAIRS: Final = {
    FindingKind.CANCELLED: Repair.RELEASE,
    FindingKind.EXPIRY: Repair.TAKE_EXPIRY,
    FindingKind.AMOUNT: Repair.TAKE_AMOUNT,
    FindingKind.UNKNOWN_HERE: Repair.RECEIVE,
}


def repair_of(kind: FindingKind, ours: str | None, theirs: str | None) -> Repair | None:
    """Return what puts a difference right; None = only a person can decide."""
    if (kind, ours, theirs) == (FindingKind.ORDER_TYPE, OrderType.NEW, OrderType.TRIAL):
        return Repair.RECEIVE  # getLicense calls every purchase NEW (spec §2.2)
    return _REPAIRS.get(kind)


def night_of(now: Instant, zone: ZoneInfo, begins_at: int, spread: int) -> str | None:
    """Return the day in `zone`, e.g. `2026-11-23`, whose comparison has begun at `now`; None before its minute of the day.

    `begins_at` is a minute of the day, `spread` any number by which connections are told apart.
    """
    local = to_datetime(now, zone)
    begins = min(begins_at + spread % SPREAD_MINUTES, _LAST_MINUTE)
    return str(local.date()) if local.hour * 60 + local.minute >= begins else None
