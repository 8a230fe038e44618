"""Records what an operator saw of a supervision case: an event, or a proof of delivery."""

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import IllegalTransition, InvalidParameter, NotFound
from licensesvc.domain.supervision import FLOWS, Actor, Event, Node
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervise import advance
from licensesvc.storage import audit, connections, licenses, supervision
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import Proof, StoredCase

SOURCE = "operator"

_MORE_PROOFS: Final = {Node.BUYER_CONFIRMING, Node.ACCEPTED}
"""Where the first proof has moved the case on, and others may follow it."""


class ProofKind(StrEnum):
    """What a proof shows (spec §6.6)."""

    REQUIREMENT = "requirement"
    ACCEPTANCE = "acceptance"
    VALIDITY_SCREENSHOT = "validity_screenshot"
    DEPLOYMENT_SCREENSHOT = "deployment_screenshot"
    OTHER = "other"


class RecordEvent(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`actor` caused `event`; a rejection has a `reason`."""

    event: Event
    actor: Actor = Actor.OPERATOR
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)] | None = None


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the proof store; `size` in bytes."""

    filename: str
    media_type: str
    size: int
    sha256: str


async def record_event(tx: Tx, rt: Runtime, case_id: str, command: RecordEvent, *, by: str) -> StoredCase:
    """Step a case. Raises NotFound, IllegalTransition, InvalidParameter."""
    case = await _locked(tx, case_id)
    cell = FLOWS[case.flow][case.node].get(command.event)
    if cell is None:
        raise IllegalTransition(case.node, command.event)
    if command.actor not in cell.actors:
        allowed = ", ".join(sorted(cell.actors))
        raise InvalidParameter(f"in {case.node} the event {command.event} comes from {allowed}")
    if command.event is Event.REJECTED and command.reason is None:
        raise InvalidParameter("a rejection needs a reason")
    return await _advance(tx, rt, case, command.event, actor=command.actor, by=by, reason=command.reason)


async def record_proof(tx: Tx, rt: Runtime, case_id: str, kind: ProofKind, file: StoredFile, *, by: str) -> StoredCase:
    """Add a proof whose bytes are stored; the first one moves the case on. Raises NotFound, IllegalTransition."""
    case = await _locked(tx, case_id)
    now = rt.clock()
    proof = Proof(
        id=0,
        public_id=rt.new_id(ids.PROOF, now),
        case_id=case.id,
        kind=kind,
        filename=file.filename,
        media_type=file.media_type,
        size=file.size,
        sha256=file.sha256,
        uploaded_at=now,
    )
    await supervision.insert_proof(tx, proof)
    detail: dict[str, str | int | None] = {"case": case.public_id, "kind": kind, "sha256": file.sha256}
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind="supervision.proof_added", subject=proof.public_id, detail=detail)]
    )
    if case.node in _MORE_PROOFS:
        return case
    return await _advance(tx, rt, case, Event.PROOF_UPLOADED, actor=Actor.SELLER, by=by, reason=None)


async def _locked(tx: Tx, case_id: str) -> StoredCase:
    """The case, locked behind its license: activations take the two in this order."""
    seen = await supervision.by_public_id(tx, case_id)
    if seen is None:
        raise NotFound
    await licenses.by_line(tx, seen.line_ref, lock=True)
    case = await supervision.by_public_id(tx, case_id, lock=True)
    assert case is not None
    return case


async def _advance(
    tx: Tx, rt: Runtime, case: StoredCase, event: Event, *, actor: Actor, by: str, reason: str | None
) -> StoredCase:
    connection = (await connections.by_id(tx, case.connection_id)).connection
    return await advance(
        tx,
        case,
        event,
        actor=actor,
        by=by,
        source=SOURCE,
        now=rt.clock(),
        calendar=connection.calendar,
        reason=reason,
    )
