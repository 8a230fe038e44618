"""How a supervision case looks in the admin API: in lists, and with everything that happened and is to happen."""

from collections.abc import Sequence

import msgspec

from licensesvc.domain.acceptance import AcceptanceStandard, ProofKind
from licensesvc.domain.instants import Instant, rfc3339
from licensesvc.domain.supervision import Actor, Event, FlowName, Node, Refund, Source
from licensesvc.domain.supervision_case import Ground, grounds, possible, turn
from licensesvc.domain.supervision_deadlines import Due, DueKind
from licensesvc.services.supervision.record_supervision import lacking, standard_of
from licensesvc.services.supervision.watch_supervision import due_of
from licensesvc.storage import acceptance, connections, orders, supervision
from licensesvc.storage.acceptance import Proof
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import CaseEvent, StoredCase
from licensesvc.web.admin.answers import Time, time_or_none


class CaseView(msgspec.Struct, frozen=True, kw_only=True):
    """Where the supervision of an order line stands; `waits_for` is whose turn it is, null at the end.

    `appealed_at` is set while an appeal freezes the case. `unconfirmed_since` is set while something was done here that the marketplace is
    not known to show. `due_at` is when the first promise is broken. `refund_amount` is in hundredths of the currency.
    """

    id: str
    connection: str
    order: str
    order_id: str
    line_id: str
    flow: FlowName
    node: Node
    waits_for: Actor | None
    entered_at: Time
    rejections: int
    accepted_at: Time | None
    completed_at: Time | None
    settlement_month: str | None
    version: int
    acceptance_confirmed_at: Time | None
    unconfirmed_since: Time | None
    refund: Refund
    refund_amount: int | None
    appealed_at: Time | None
    enabled_at: Time | None
    resource_order: str | None
    due_at: Time | None
    standard_version: int


class CaseEventView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened: when, when we learned of it, and when the marketplace was known to show it."""

    at: Time
    recorded_at: Time
    confirmed_at: Time | None
    event: Event
    actor: Actor
    source: Source
    from_node: Node
    to_node: Node
    reason: str | None
    amount: int | None
    grounds: tuple[Ground, ...]


class ProofView(msgspec.Struct, frozen=True, kw_only=True):
    """A proof of delivery; `size` in bytes."""

    id: str
    kind: ProofKind
    filename: str
    media_type: str
    size: int
    sha256: str
    uploaded_at: Time


class PossibleView(msgspec.Struct, frozen=True, kw_only=True):
    """An event that may come next, from whom, and where it leads."""

    event: Event
    actors: list[Actor]
    node: Node


class DueView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is due, from whom; a `hard` one that is `past` is a broken promise."""

    kind: DueKind
    at: Time
    actor: Actor | None
    hard: bool
    past: bool


class CaseDetail(CaseView, frozen=True, kw_only=True):
    """A case with what happened to it, what may come next, what is missing, and what is due when.

    `appeal_grounds` are the documented grounds that an appeal would have now; newer texts ask for none.
    """

    events: list[CaseEventView]
    proofs: list[ProofView]
    possible: list[PossibleView]
    missing: list[str]
    standard: AcceptanceStandard
    appeal_grounds: tuple[Ground, ...]
    due: list[DueView]
    has_buyer_code: bool


async def case_views(tx: Tx, cases: Sequence[StoredCase]) -> list[CaseView]:
    """What is shown of these cases."""
    connection_ids = await connections.public_ids(tx, {case.connection_id for case in cases})
    places = await orders.places_of(tx, {case.line_ref for case in cases})
    return [
        CaseView(
            id=case.public_id,
            connection=connection_ids[case.connection_id],
            order=places[case.line_ref].order,
            order_id=places[case.line_ref].order_id,
            line_id=places[case.line_ref].line_id,
            flow=case.flow,
            node=case.node,
            waits_for=turn(case.flow, case.state),
            entered_at=rfc3339(case.state.entered_at),
            rejections=case.state.rejections,
            accepted_at=time_or_none(case.state.accepted_at),
            completed_at=time_or_none(case.state.completed_at),
            settlement_month=case.state.settlement_month,
            version=case.version,
            acceptance_confirmed_at=time_or_none(case.state.acceptance_confirmed_at),
            unconfirmed_since=time_or_none(case.state.unconfirmed_since),
            refund=case.state.refund,
            refund_amount=case.state.refund_amount,
            appealed_at=time_or_none(case.state.appealed_at),
            enabled_at=time_or_none(case.state.enabled_at),
            resource_order=case.state.resource_order,
            due_at=time_or_none(case.due_at),
            standard_version=case.standard_version,
        )
        for case in cases
    ]


async def case_detail(tx: Tx, case: StoredCase, now: Instant) -> CaseDetail:
    """Everything about one case at `now`."""
    view = (await case_views(tx, [case]))[0]
    due = await due_of(tx, [case], now)
    moves = possible(case.flow, case.state)
    return CaseDetail(
        **msgspec.structs.asdict(view),
        events=[_event_view(event) for event in await supervision.events_of(tx, case.id)],
        proofs=[_proof_view(proof) for proof in await acceptance.proofs_of(tx, case.id)],
        possible=[
            PossibleView(event=event, actors=sorted(move.actors), node=move.node) for event, move in moves.items()
        ],
        missing=await lacking(tx, case),
        standard=await standard_of(tx, case),
        appeal_grounds=grounds(case.flow, case.state, now),
        due=[_due_view(item) for item in due[case.id]],
        has_buyer_code=await supervision.buyer_code(tx, case.id) is not None,
    )


def _event_view(event: CaseEvent) -> CaseEventView:
    happening = event.happening
    return CaseEventView(
        at=rfc3339(happening.at),
        recorded_at=rfc3339(event.recorded_at),
        confirmed_at=time_or_none(happening.confirmed_at),
        event=happening.event,
        actor=happening.actor,
        source=happening.source,
        from_node=event.from_node,
        to_node=event.to_node,
        reason=happening.reason,
        amount=happening.facts.amount,
        grounds=happening.facts.grounds,
    )


def _proof_view(proof: Proof) -> ProofView:
    return ProofView(
        id=proof.public_id,
        kind=proof.kind,
        filename=proof.filename,
        media_type=proof.media_type,
        size=proof.size,
        sha256=proof.sha256,
        uploaded_at=rfc3339(proof.uploaded_at),
    )


def _due_view(due: Due) -> DueView:
    return DueView(kind=due.kind, at=rfc3339(due.at), actor=due.actor, hard=due.hard, past=due.past)
