"""Service supervision (服务监管): opens a case per order line and steps it, with what each step brings about."""

from collections.abc import Mapping
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import IllegalTransition
from licensesvc.domain.instants import Instant
from licensesvc.domain.settlement import settlement_month
from licensesvc.domain.supervision import Actor, Event, FlowName, Node, step
from licensesvc.services.runtime import Runtime
from licensesvc.storage import audit, licenses, supervision
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import CaseEvent, StoredCase


async def open_case(
    tx: Tx, rt: Runtime, *, line_ref: int, connection_id: int, flow: FlowName, now: Instant, source: str
) -> StoredCase:
    """Open the case of a paid order line; it goes straight to the seller, who delivers (spec §6.3)."""
    case = StoredCase(
        id=0,
        public_id=rt.new_id(ids.CASE, now),
        line_ref=line_ref,
        connection_id=connection_id,
        flow=flow,
        node=Node.PAID,
        version=1,
        entered_at=now,
    )
    case = msgspec.structs.replace(case, id=await supervision.insert(tx, case, now))
    return await advance(tx, case, Event.STARTED, actor=Actor.SYSTEM, by="system", source=source, now=now)


async def advance(
    tx: Tx,
    case: StoredCase,
    event: Event,
    *,
    actor: Actor,
    by: str,
    source: str,
    now: Instant,
    calendar: ZoneInfo | None = None,
    reason: str | None = None,
) -> StoredCase:
    """Step a locked case and write case, event and audit; `by` is who to name in the audit.

    `calendar` is needed for `completed`, which fixes the settlement month. Raises IllegalTransition.
    """
    moved, happened = _stepped(case, event, actor=actor, source=source, now=now, reason=reason)
    if moved.node is Node.COMPLETED:
        assert calendar is not None
        moved = msgspec.structs.replace(moved, completed_at=now, settlement_month=settlement_month(now, calendar))
        await licenses.settle(tx, case.line_ref, now)  # from now on even an estimated expiry binds
    await supervision.store(tx, [moved], [happened])
    await audit.append(
        tx,
        [
            AuditEvent(
                at=now,
                actor=by,
                kind=f"supervision.{event}",
                subject=case.public_id,
                detail={"from": case.node, "to": moved.node, "source": source, "reason": reason},
            )
        ],
    )
    return msgspec.structs.replace(moved, version=moved.version + 1)


async def software_activated(tx: Tx, activated_at: Mapping[int, Instant], *, actor: Actor) -> dict[int, StoredCase]:
    """Tell the cases of these order lines (by line) that the software was activated; return those that moved.

    Later nodes stay where they are. The caller's audit event names the case: license and case change as one.
    """
    cases = await supervision.of_lines(tx, list(activated_at))
    moved: dict[int, StoredCase] = {}
    events = []
    for line_ref, at in activated_at.items():
        case = cases.get(line_ref)
        if case is None:
            continue
        try:
            stepped, happened = _stepped(case, Event.ACTIVATED, actor=actor, source="software", now=at, reason=None)
        except IllegalTransition:
            continue  # an operator moved the case on before the software called: nothing is left to record
        moved[line_ref] = stepped
        events.append(happened)
    if moved:
        await supervision.store(tx, list(moved.values()), events)
    return moved


def _stepped(
    case: StoredCase, event: Event, *, actor: Actor, source: str, now: Instant, reason: str | None
) -> tuple[StoredCase, CaseEvent]:
    node = step(case.flow, case.node, event)
    moved = msgspec.structs.replace(
        case,
        node=node,
        entered_at=now,
        rejections=case.rejections + (event is Event.REJECTED),
        accepted_at=now if node is Node.ACCEPTED else case.accepted_at,
    )
    happened = CaseEvent(
        case_id=case.id,
        at=now,
        event=event,
        actor=actor,
        source=source,
        from_node=case.node,
        to_node=node,
        reason=reason,
    )
    return moved, happened
