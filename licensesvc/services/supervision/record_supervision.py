"""Records what an operator, or whoever an operator speaks for, did in a supervision case.

In: one event with its guards that need the database: the acceptance standard, the buyer's code, the grounds of an appeal. Out: proofs
(add_proof.py), what the marketplace confirms (confirm_supervision.py).
"""

from typing import Annotated, Final, TypeAlias

import msgspec

from licensesvc.domain.acceptance import AcceptanceStandard, FormField, missing
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import InvalidParameter, NotFound, ProofMissing
from licensesvc.domain.instants import parse_rfc3339
from licensesvc.domain.money import Amount
from licensesvc.domain.supervision import Actor, Event, Source
from licensesvc.domain.supervision_case import Facts, grounds, possible
from licensesvc.domain.supervision_flows import FLOWS
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.supervise import advance
from licensesvc.storage import acceptance, audit, licenses, orders, supervision
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import StoredCase

MAX_BUYER_CODE: Final = 5_120
"""Characters of a system or hardware code (spec §7: at most 5 KB)."""

Reason: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=1_000, pattern=r"\S")]
Time: TypeAlias = Annotated[str, msgspec.Meta(max_length=40, examples=["2026-11-23T16:00:00.000Z"])]
ResourceOrder: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[!-~]+$(?!\n)")]


class RecordEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`actor` caused `event` at `at`, unless now; `confirmed` says that the marketplace shows it, false that it happened here only.

    `amount` and `paid` belong to refunds, `enabled_at` and `resource_order` to the form of the proof, `buyer_code` to `code_submitted`.
    Rejections, appeals, rulings, refunds asked for or refused and reopenings have a `reason`.
    """

    event: Event
    actor: Actor = Actor.OPERATOR
    at: Time | None = None
    confirmed: bool = True
    reason: Reason | None = None
    amount: Amount | None = None
    paid: Amount | None = None
    enabled_at: Time | None = None
    resource_order: ResourceOrder | None = None
    buyer_code: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_BUYER_CODE, pattern=r"\S")] | None = None

    def __repr__(self) -> str:
        return f"RecordEvent({self.event})"


async def record_event(
    tx: Tx, rt: Runtime, case_id: str, command: RecordEvent, *, by: str, source: Source = Source.OPERATOR
) -> StoredCase:
    """Step a case. Raises NotFound, IllegalTransition, ForbiddenActor, InvalidParameter, ProofMissing, AcceptanceNotConfirmed."""
    return await record(tx, rt, await locked(tx, case_id), command, by=by, source=source)


async def record(tx: Tx, rt: Runtime, case: StoredCase, command: RecordEvent, *, by: str, source: Source) -> StoredCase:
    """Step a locked case."""
    now = rt.clock()
    submits = command.event is FLOWS[case.flow].submission
    facts = Facts(
        amount=command.amount,
        paid=command.paid,
        enabled_at=None if command.enabled_at is None else parse_rfc3339(command.enabled_at),
        resource_order=command.resource_order,
        grounds=grounds(case.flow, case.state, now) if command.event is Event.APPEALED else (),
    )
    if not submits and (facts.enabled_at is not None or facts.resource_order is not None):
        raise InvalidParameter(f"enabled_at and resource_order do not go with {command.event}")
    if (command.buyer_code is None) is (command.event is Event.CODE_SUBMITTED):
        raise InvalidParameter("buyer_code goes with code_submitted, and nothing else")
    if submits and may_submit(case, command.actor):
        await _require_standard(tx, case, facts)
    moved = await advance(
        tx,
        case,
        command.event,
        actor=command.actor,
        by=by,
        source=source,
        now=now,
        at=None if command.at is None else parse_rfc3339(command.at),
        confirmed=command.confirmed,
        reason=command.reason,
        facts=facts,
    )
    if command.buyer_code is not None:
        sealed = rt.vault.seal(command.buyer_code.encode(), buyer_code_context(case.public_id))
        await supervision.put_buyer_code(tx, case.id, sealed)
    return moved


async def locked(tx: Tx, case_id: str) -> StoredCase:
    """The case with this id, locked behind its license: activations take the two in this order. Raises NotFound."""
    seen = await supervision.by_public_id(tx, case_id)
    if seen is None:
        raise NotFound
    await licenses.by_line(tx, seen.line_ref, lock=True)
    case = await supervision.by_public_id(tx, case_id, lock=True)
    assert case is not None
    return case


async def standard_of(tx: Tx, case: StoredCase) -> AcceptanceStandard:
    """The version of the product's standard that the case started with."""
    line = await orders.line_by_id(tx, case.line_ref)
    return await acceptance.standard_of(tx, line.product_id, case.standard_version)


async def lacking(tx: Tx, case: StoredCase, facts: Facts = Facts()) -> list[str]:  # noqa: B008 -- frozen
    """What the seller must still upload or tell before the work is laid before whoever accepts it, given these `facts`."""
    flow = FLOWS[case.flow]
    if flow.submission is None:
        return []
    told = {
        FormField.ENABLED_AT: facts.enabled_at or case.state.enabled_at,
        FormField.RESOURCE_ORDER: facts.resource_order or case.state.resource_order,
    }
    return missing(
        await standard_of(tx, case),
        proofs={proof.kind for proof in await acceptance.proofs_of(tx, case.id)},
        fields={field for field, value in told.items() if value is not None},
        needs_proof=flow.submission is Event.PROOF_UPLOADED,
    )


def may_submit(case: StoredCase, actor: Actor = Actor.SELLER) -> bool:
    """Whether this actor could lay the work before whoever accepts it, as the case stands."""
    submission = FLOWS[case.flow].submission
    move = possible(case.flow, case.state).get(submission) if submission else None
    return move is not None and actor in move.actors


async def _require_standard(tx: Tx, case: StoredCase, facts: Facts) -> None:
    if absent := await lacking(tx, case, facts):
        raise ProofMissing(f"missing: {', '.join(absent)}")


def buyer_code_context(public_id: str) -> str:
    """What the vault binds the code that a buyer submitted to."""
    return f"case:{public_id}:buyer_code"


async def show_buyer_code(tx: Tx, rt: Runtime, case_id: str, *, by: str) -> str:
    """The system or hardware code that the buyer submitted; showing it is an audit event. Raises NotFound."""
    case = await supervision.by_public_id(tx, case_id)
    sealed = await supervision.buyer_code(tx, case.id) if case else None
    if case is None or sealed is None:
        raise NotFound
    event = AuditEvent(at=rt.clock(), actor=by, kind="supervision.buyer_code_shown", subject=case_id, detail={})
    await audit.append(tx, [event])
    return rt.vault.open(sealed, buyer_code_context(case_id)).decode()
