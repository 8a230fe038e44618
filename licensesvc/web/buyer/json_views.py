"""The buyer's case as JSON."""

import msgspec

from licensesvc.domain.acceptance import ProofKind
from licensesvc.domain.instants import rfc3339
from licensesvc.domain.supervision import Actor, Event, FlowName, Node, Refund
from licensesvc.services.buyer.buyer_page import Action, BuyerCase
from licensesvc.web.admin.answers import Time, time_or_none


class BuyerProofView(msgspec.Struct, frozen=True, kw_only=True):
    """A proof; `size` in bytes; it is downloaded at `proofs/{id}` behind the same link."""

    id: str
    kind: ProofKind
    filename: str
    media_type: str
    size: int
    sha256: str


class BuyerEventView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened; `confirmed` where the marketplace is known to show it."""

    at: Time
    event: Event
    actor: Actor
    reason: str | None
    confirmed: bool


class BuyerCaseView(msgspec.Struct, frozen=True, kw_only=True):
    """Where the order line stands; an action names `version`. What is done here counts on the marketplace only once it is done there too."""

    version: int
    order_id: str
    line_id: str
    product: str
    flow: FlowName
    nodes: list[Node]
    node: Node
    waits_for: Actor | None
    due_at: Time | None
    refund: Refund
    appealed: bool
    actions: list[Action]
    proofs: list[BuyerProofView]
    events: list[BuyerEventView]
    link_ends_at: Time


class ActionResult(msgspec.Struct, frozen=True, kw_only=True):
    """The case after an action; `code` only where it was asked for."""

    case: BuyerCaseView
    code: str | None

    def __repr__(self) -> str:
        return "ActionResult(…)"


def case_view(view: BuyerCase) -> BuyerCaseView:
    """What a program is shown."""
    state = view.case.state
    return BuyerCaseView(
        version=view.case.version,
        order_id=view.order_id,
        line_id=view.line_id,
        product=view.product,
        flow=view.case.flow,
        nodes=list(view.nodes),
        node=view.case.node,
        waits_for=view.turn,
        due_at=time_or_none(view.due_at),
        refund=state.refund,
        appealed=state.frozen,
        actions=list(view.actions),
        proofs=[
            BuyerProofView(
                id=proof.public_id,
                kind=proof.kind,
                filename=proof.filename,
                media_type=proof.media_type,
                size=proof.size,
                sha256=proof.sha256,
            )
            for proof in view.proofs
        ],
        events=[
            BuyerEventView(
                at=rfc3339(event.happening.at),
                event=event.happening.event,
                actor=event.happening.actor,
                reason=event.happening.reason,
                confirmed=event.happening.confirmed_at is not None,
            )
            for event in view.events
        ],
        link_ends_at=rfc3339(view.link_ends_at),
    )
