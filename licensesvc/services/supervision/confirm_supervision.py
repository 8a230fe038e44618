"""Confirms what the marketplace shows of a case: by an operator, by a file, by a call of the marketplace (ADR 40).

In: finding the event that is meant and confirming it, or recording it where it had not happened here. Out: reading files
(import_confirmations.py) and calls (confirm_acceptance.py).
"""

from enum import StrEnum
from typing import Final

import msgspec

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.instants import Instant, parse_rfc3339
from licensesvc.domain.supervision import Actor, Event, Node, Source
from licensesvc.domain.supervision_case import confirm, latest, possible, replay
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.record_supervision import Reason, Time, locked
from licensesvc.services.supervision.supervise import advance
from licensesvc.storage import audit, supervision
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import StoredCase


class Confirmed(StrEnum):
    """What a confirmation found: known before, done here and now confirmed, or news."""

    KNOWN = "known"
    CONFIRMED = "confirmed"
    RECORDED = "recorded"


class Confirmation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The marketplace shows `event`, since `at` unless now; a `reason` only where the event needs one and is news."""

    event: Event
    at: Time | None = None
    reason: Reason | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The case after a confirmation, and what the confirmation was."""

    case: StoredCase
    confirmed: Confirmed


async def confirm_event(
    tx: Tx, rt: Runtime, case_id: str, command: Confirmation, *, by: str, source: Source = Source.OPERATOR
) -> Outcome:
    """Confirm an event of a case. Raises NotFound, and what `advance` raises for one that cannot have happened."""
    at = None if command.at is None else parse_rfc3339(command.at)
    return await confirm_locked(
        tx, rt, await locked(tx, case_id), command.event, at=at, reason=command.reason, by=by, source=source
    )


async def confirm_locked(
    tx: Tx,
    rt: Runtime,
    case: StoredCase,
    event: Event,
    *,
    at: Instant | None,
    by: str,
    source: Source,
    reason: str | None = None,
) -> Outcome:
    """Confirm the last such event of a locked case, and all before it; record it where it is news.

    It is news where it was not told yet, or where it was confirmed, may happen again as the case stands, and is told of a later time. A
    completion that is news needs the acceptance first: the marketplace completes nothing else, so both are recorded.
    """
    log = await supervision.events_of(tx, case.id)
    place = _place(case, log, event)
    if place is not None and log[place].happening.confirmed_at is not None:
        again = event in possible(case.flow, case.state) and (at is None or at > log[place].happening.at)
        if not again:
            return Outcome(case=case, confirmed=Confirmed.KNOWN)
    elif place is not None:
        return Outcome(
            case=await _confirm(tx, rt, case, log, place, by=by, source=source), confirmed=Confirmed.CONFIRMED
        )
    if case.state.frozen and event in _RULINGS:
        case = await _record(tx, rt, case, _RULINGS[event], at=at, reason=reason or _RULED_THERE, by=by, source=source)
        if event is Event.ACCEPTED:
            return Outcome(case=case, confirmed=Confirmed.RECORDED)
    elif event is Event.COMPLETED and case.state.accepted_at is None:
        case = await _record(tx, rt, case, Event.ACCEPTED, at=at, reason=reason, by=by, source=source)
    moved = await _record(tx, rt, case, event, at=at, reason=reason, by=by, source=source)
    return Outcome(case=moved, confirmed=Confirmed.RECORDED)


_RULINGS: Final = {
    Event.ACCEPTED: Event.RULED_ACCEPTED,
    Event.COMPLETED: Event.RULED_ACCEPTED,
    Event.REFUNDED: Event.RULED_REFUNDED,
}
"""What the marketplace must have ruled when it shows such an end of a case that an appeal holds up here."""
_RULED_THERE: Final = "the marketplace shows the end, so it has ruled"


async def _record(
    tx: Tx,
    rt: Runtime,
    case: StoredCase,
    event: Event,
    *,
    at: Instant | None,
    reason: str | None,
    by: str,
    source: Source,
) -> StoredCase:
    return await advance(
        tx,
        case,
        event,
        actor=Actor.MARKETPLACE,
        by=by,
        source=source,
        now=rt.clock(),
        at=at,
        confirmed=True,
        reason=reason,
    )


def _place(case: StoredCase, log: list[supervision.CaseEvent], event: Event) -> int | None:
    """Where in the log the event is that is meant: the last of its kind, or whatever else led where it leads."""
    if event is Event.ACCEPTED and case.state.accepted_at is None:
        return None  # what was accepted once was taken back since
    found = latest([entry.happening for entry in log], event)
    if found is not None or event is not Event.ACCEPTED:
        return found
    return max(place for place, entry in enumerate(log) if entry.to_node is Node.ACCEPTED is not entry.from_node)


async def _confirm(
    tx: Tx, rt: Runtime, case: StoredCase, log: list[supervision.CaseEvent], place: int, *, by: str, source: Source
) -> StoredCase:
    now = rt.clock()
    await supervision.confirm(tx, case.id, log[place].id, now)
    state = replay(case.flow, confirm([entry.happening for entry in log], place, now))
    confirmed = msgspec.structs.replace(case, state=state)
    await supervision.store(tx, [confirmed], [])
    happening = log[place].happening
    detail: dict[str, str | int | None] = {"event": happening.event, "happened": happening.at, "source": source}
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind="supervision.confirmed", subject=case.public_id, detail=detail)]
    )
    return msgspec.structs.replace(confirmed, version=confirmed.version + 1)
