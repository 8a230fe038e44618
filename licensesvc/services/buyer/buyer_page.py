"""What a buyer sees and does behind a link: the case of one order line, and five actions (spec §6.3).

In: the case as the buyer may know it, each action against the version that was seen. Out: links (buyer_links.py), how the page looks
(web/buyer). What is done here is the buyer's word: the marketplace counts what is done on its own pages (ADR 45).
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final

import msgspec

from licensesvc.domain.acceptance import ProofKind
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import IllegalTransition, InvalidParameter, NotFound, StaleVersion
from licensesvc.domain.instants import Instant
from licensesvc.domain.license import LicenseState
from licensesvc.domain.supervision import OPEN_REFUNDS, Actor, Event, Node, Refund, Source
from licensesvc.domain.supervision_case import possible, turn
from licensesvc.domain.supervision_flows import FLOWS
from licensesvc.services.buyer.buyer_links import follow_link
from licensesvc.services.licenses.issue_license import open_code
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.add_proof import StoredFile, add_proof
from licensesvc.services.supervision.record_supervision import MAX_BUYER_CODE, RecordEvent, locked, record
from licensesvc.services.supervision.watch_supervision import due_of
from licensesvc.storage import acceptance, audit, catalog, connections, licenses, orders, supervision
from licensesvc.storage.acceptance import Proof
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import CaseEvent, StoredCase

MAX_FILES: Final = 5
"""Attachments of one rejection."""
MAX_REASON: Final = 1_000
"""Characters."""


class Action(StrEnum):
    """What a buyer may do on the page."""

    CLAIM = "claim"
    SUBMIT_CODE = "submit_code"
    SHOW_CODE = "show_code"
    ACCEPT = "accept"
    REJECT = "reject"


EVENTS: Final[Mapping[Action, Event]] = {
    Action.CLAIM: Event.CLAIMED,
    Action.SUBMIT_CODE: Event.CODE_SUBMITTED,
    Action.ACCEPT: Event.ACCEPTED,
    Action.REJECT: Event.REJECTED,
}
"""The event that an action records; showing the code records none in the case, only in the audit."""

_NOT_YET: Final = frozenset({Node.PAID, Node.SUBMITTING, Node.DELIVERING, Node.CLAIMING, Node.REFUNDED})
"""Where the buyer has no code to see: not delivered, not claimed, or given back."""
_OVER: Final = frozenset({LicenseState.REVOKED, LicenseState.RELEASED})


class BuyerAction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One action, decided on what `version` of the case showed; `reason` goes with `reject`, `buyer_code` with `submit_code`."""

    action: Action
    version: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_REASON, pattern=r"\S")] | None = None
    buyer_code: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_BUYER_CODE, pattern=r"\S")] | None = None

    def __repr__(self) -> str:
        return f"BuyerAction({self.action})"


class BuyerCase(msgspec.Struct, frozen=True, kw_only=True):
    """The case as the buyer may know it; `due_at` is until when whoever's turn it is should act, `link_ends_at` when the page closes."""

    case: StoredCase
    order_id: str
    line_id: str
    product: str
    nodes: tuple[Node, ...]
    turn: Actor | None
    due_at: Instant | None
    actions: tuple[Action, ...]
    proofs: Sequence[Proof]
    events: Sequence[CaseEvent]
    calendar: str
    link_ends_at: Instant
    no_refund_after_claim: bool


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The case after an action; `code` only where it was asked for, and never stored anywhere else."""

    view: BuyerCase
    code: str | None = None

    def __repr__(self) -> str:
        return "Done(…)"


async def buyer_case(tx: Tx, rt: Runtime, token: str) -> BuyerCase:
    """What the link of this token shows. Raises NotFound."""
    link, case = await follow_link(tx, rt, token)
    return await _view(tx, rt, case, link.expires_at)


async def buyer_proof(tx: Tx, rt: Runtime, token: str, proof_id: str) -> Proof:
    """A proof of the case that the token opens, and of no other. Raises NotFound."""
    _, case = await follow_link(tx, rt, token)
    proof = await acceptance.proof_by_public_id(tx, proof_id)
    if proof is None or proof.case_id != case.id:
        raise NotFound
    return proof


async def act(tx: Tx, rt: Runtime, token: str, command: BuyerAction, files: Sequence[StoredFile] = ()) -> Done:
    """Carry out what a buyer decided; the bytes of `files` are stored already.

    Raises NotFound, StaleVersion when the case is not as it was seen, IllegalTransition, ForbiddenActor, InvalidParameter.
    """
    link, seen = await follow_link(tx, rt, token)
    case = await locked(tx, seen.public_id)
    by = link.public_id
    _check(command, files)
    if case.version != command.version:
        raise StaleVersion
    if command.action is Action.SHOW_CODE:
        code = await _shown_code(tx, rt, case, by)
        return Done(view=await _view(tx, rt, case, link.expires_at), code=code)
    for file in files:
        await add_proof(tx, rt, case.public_id, ProofKind.OTHER, file, by=by)
    event = RecordEvent(
        event=EVENTS[command.action],
        actor=Actor.BUYER,
        confirmed=False,
        reason=command.reason,
        buyer_code=command.buyer_code,
    )
    moved = await record(tx, rt, case, event, by=by, source=Source.BUYER_PAGE)
    return Done(view=await _view(tx, rt, moved, link.expires_at))


def _check(command: BuyerAction, files: Sequence[StoredFile]) -> None:
    if (command.reason is not None) is not (command.action is Action.REJECT):
        raise InvalidParameter("reason goes with reject, and nothing else")
    if (command.buyer_code is not None) is not (command.action is Action.SUBMIT_CODE):
        raise InvalidParameter("buyer_code goes with submit_code, and nothing else")
    if files and command.action is not Action.REJECT:
        raise InvalidParameter("attachments go with reject, and nothing else")
    if len(files) > MAX_FILES:
        raise InvalidParameter(f"at most {MAX_FILES} attachments")


def _code_of(case: StoredCase, loaded: LoadedLicense | None) -> LoadedLicense | None:
    """The license whose code the buyer may see now."""
    if loaded is None or not loaded.code_hint or case.node in _NOT_YET or loaded.view.state in _OVER:
        return None
    return loaded


async def _shown_code(tx: Tx, rt: Runtime, case: StoredCase, by: str) -> str:
    loaded = _code_of(case, await licenses.by_line(tx, case.line_ref))
    if loaded is None:
        raise IllegalTransition(case.node, Action.SHOW_CODE)
    event = AuditEvent(at=rt.clock(), actor=by, kind="license.code_shown", subject=loaded.view.public_id, detail={})
    await audit.append(tx, [event])
    return await open_code(tx, rt, loaded)


async def _view(tx: Tx, rt: Runtime, case: StoredCase, ends_at: Instant) -> BuyerCase:
    line = await orders.line_by_id(tx, case.line_ref)
    place = (await orders.places_of(tx, [case.line_ref]))[case.line_ref]
    product = await catalog.product_by_id(tx, line.product_id)
    connection = (await connections.by_id(tx, case.connection_id)).connection
    whose = turn(case.flow, case.state)
    due = [item.at for item in (await due_of(tx, [case], rt.clock()))[case.id] if item.hard and item.actor is whose]
    moves = possible(case.flow, case.state)
    actions = [
        action
        for action, event in EVENTS.items()
        if (move := moves.get(event)) is not None and Actor.BUYER in move.actors
    ]
    if _code_of(case, await licenses.by_line(tx, case.line_ref)) is not None:
        actions.append(Action.SHOW_CODE)
    flow = FLOWS[case.flow]
    return BuyerCase(
        case=case,
        order_id=place.order_id,
        line_id=place.line_id,
        product=product.name,
        nodes=tuple(node for node in flow.cells if node is not Node.REFUNDED or case.node is node),
        turn=whose,
        due_at=min(due, default=None),
        actions=tuple(actions),
        proofs=await acceptance.proofs_of(tx, case.id),
        events=await supervision.events_of(tx, case.id),
        calendar=connection.calendar.key,
        link_ends_at=ends_at,
        no_refund_after_claim=Node.ACTIVATING not in flow.refundable,
    )


def held_up(case: StoredCase) -> str | None:
    """What holds a case up: `appeal` or `refund`; None where the flow goes on."""
    if case.state.frozen:
        return "appeal"
    return "refund" if case.state.refund in OPEN_REFUNDS or case.state.refund is Refund.APPROVED else None
