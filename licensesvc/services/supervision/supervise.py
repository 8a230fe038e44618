"""Service supervision (服务监管): opens a case per order line and steps it, with what each step brings about."""

from collections.abc import Iterable, Mapping
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import DomainError, IllegalTransition
from licensesvc.domain.instants import Instant, zone_of
from licensesvc.domain.product import Product
from licensesvc.domain.settlement import settlement_month
from licensesvc.domain.supervision import Actor, Event, FlowName, Node, Source
from licensesvc.domain.supervision_case import Facts, Happening, opened, replay, step
from licensesvc.domain.supervision_deadlines import Terms, due_at
from licensesvc.domain.supervision_flows import CLAIM_UNTIL, FLOWS, IN_FORCE
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision import supervision_effects
from licensesvc.storage import acceptance, audit, connections, orders, supervision
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import CaseEvent, StoredCase

_NO_TERMS: Final = Terms(ordered_at=0, calendar=zone_of("UTC"))
"""Enough for the nodes that an activation leads to: their promises count in hours."""

_SOURCES: Final[Mapping[str, Source]] = {source.value: source for source in Source}


def event_source(text: str) -> Source:
    """How an event is known that came with an order of this source; every interface of the marketplace is the marketplace."""
    return _SOURCES.get(text, Source.MARKETPLACE)


async def open_case(
    tx: Tx, rt: Runtime, *, line_ref: int, product: Product, flow: FlowName, now: Instant, source: str
) -> StoredCase:
    """Open the case of a paid order line; it goes straight to whose turn comes first (spec §6.3)."""
    standard = await acceptance.newest_standard(tx, product.id)
    case = StoredCase(
        id=0,
        public_id=rt.new_id(ids.CASE, now),
        line_ref=line_ref,
        connection_id=product.connection_id,
        flow=flow,
        state=opened(now),
        version=1,
        standard_version=standard.version,
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
    at: Instant | None = None,
    confirmed: bool | None = None,
    reason: str | None = None,
    facts: Facts | None = None,
) -> StoredCase:
    """Step a case, locked behind its license, and write case, event, what it brings about, and audit; `by` is named in the audit.

    `at` is when it happened, unless now; `confirmed` says that the marketplace shows it, which a call of the marketplace or an import
    always means. Raises what `domain.supervision_case.step` raises, and then nothing was written.
    """
    known = event_source(source)
    shown = known in _CONFIRMS if confirmed is None else confirmed
    happening = Happening(
        event=event,
        actor=actor,
        source=known,
        at=now if at is None else at,
        confirmed_at=now if shown else None,
        reason=reason,
        facts=facts or Facts(),
    )
    connection = (await connections.by_id(tx, case.connection_id)).connection
    if event is Event.COMPLETED:
        month = settlement_month(happening.at, connection.calendar)
        happening = msgspec.structs.replace(
            happening, facts=msgspec.structs.replace(happening.facts, settlement_month=month)
        )
    moved, happened = _stepped(case, happening, await terms_of(tx, case, connection.calendar), now)
    if shown and case.state.unconfirmed_since is not None:
        await supervision.confirm_all(tx, case.id, now)
    await supervision.store(tx, [moved], [happened])
    detail: dict[str, str | int | None] = {
        "from": case.node,
        "to": moved.node,
        "actor": actor,
        "source": known,
        "reason": reason,
    }
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind=f"supervision.{event}", subject=case.public_id, detail=detail)]
    )
    await supervision_effects.bring_about(tx, case, moved, by=by, now=now, calendar=connection.calendar)
    return msgspec.structs.replace(moved, version=moved.version + 1)


_CONFIRMS: Final = frozenset({Source.MARKETPLACE, Source.IMPORT})


async def terms_of(tx: Tx, case: StoredCase, calendar: ZoneInfo) -> Terms:
    """What the promises of a case count from; the order's time is not among them."""
    if case.standard_version == 0:
        return Terms(ordered_at=0, calendar=calendar)
    line = await orders.line_by_id(tx, case.line_ref)
    standard = await acceptance.standard_of(tx, line.product_id, case.standard_version)
    return Terms(ordered_at=0, calendar=calendar, delivery_days=standard.delivery_days)


async def follow_order(
    tx: Tx, case: StoredCase, product: Product, flow: FlowName | None, *, by: str, now: Instant
) -> StoredCase:
    """Let a locked case follow the flow that its order turns out to have, e.g. once its time or 赋能云 is known.

    Only among the flows of its kind, and only where everything that has happened would have led to the same state.
    """
    of_kind = {name for row in IN_FORCE[product.delivery_kind] for name in (row.flow, row.reviewed)}
    if flow is None or flow is case.flow or case.flow not in of_kind:
        return case
    log = [event.happening for event in await supervision.events_of(tx, case.id)]
    try:
        fits = replay(flow, log) == case.state
    except DomainError:
        fits = False
    if not fits:
        return case
    changed = msgspec.structs.replace(case, flow=flow)
    await supervision.store(tx, [changed], [])
    detail: dict[str, str | int | None] = {"from": case.flow, "to": flow}
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind="supervision.flow_changed", subject=case.public_id, detail=detail)]
    )
    return msgspec.structs.replace(changed, version=changed.version + 1)


async def unclaimed(tx: Tx, found: Iterable[LoadedLicense]) -> set[int]:
    """Ids of those of these locked licenses whose code the buyer must claim first and has not (spec §5.2).

    Only old orders have such a node, so of the others no case is read.
    """
    old = {loaded.line_ref: loaded.view.id for loaded in found if loaded.view.order_time < CLAIM_UNTIL}
    cases = await supervision.of_lines(tx, list(old)) if old else {}
    return {
        old[line] for line, case in cases.items() if case.node in _UNCLAIMED and Node.CLAIMING in FLOWS[case.flow].cells
    }


_UNCLAIMED: Final = frozenset({Node.PAID, Node.DELIVERING, Node.CLAIMING})


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
        happening = Happening(event=Event.ACTIVATED, actor=actor, source=Source.SOFTWARE, at=at)
        try:
            stepped, happened = _stepped(case, happening, _NO_TERMS, at)
        except IllegalTransition:
            continue  # an operator moved the case on before the software called: nothing is left to record
        moved[line_ref] = stepped
        events.append(happened)
    if moved:
        await supervision.store(tx, list(moved.values()), events)
    return moved


def _stepped(case: StoredCase, happening: Happening, terms: Terms, now: Instant) -> tuple[StoredCase, CaseEvent]:
    state = step(case.flow, case.state, happening, now=now)
    moved = msgspec.structs.replace(case, state=state, due_at=due_at(case.flow, state, terms))
    happened = CaseEvent(case_id=case.id, happening=happening, from_node=case.node, to_node=state.node, recorded_at=now)
    return moved, happened
