"""Adds a proof of delivery to a case; the one that completes the acceptance standard moves the case on."""

from typing import Final

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.acceptance import ProofKind
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import IllegalTransition, NotFound
from licensesvc.domain.supervision import Actor, Event, Node, Source
from licensesvc.domain.supervision_flows import FLOWS
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.record_supervision import lacking, locked, may_submit
from licensesvc.services.supervision.supervise import advance
from licensesvc.storage import acceptance, audit
from licensesvc.storage.acceptance import Proof
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import StoredCase

TAKES_PROOFS: Final = frozenset({Node.DELIVERING, Node.PROVING, Node.REVIEWING, Node.BUYER_CONFIRMING, Node.ACCEPTED})
"""Where proofs are taken: before the step that they are for, and behind it."""


class StoredFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the proof store; `size` in bytes."""

    filename: str
    media_type: str
    size: int
    sha256: str


async def add_proof(tx: Tx, rt: Runtime, case_id: str, kind: ProofKind, file: StoredFile, *, by: str) -> StoredCase:
    """Add a proof whose bytes are stored. Raises NotFound, IllegalTransition.

    Where the flow waits for proofs and the standard is met with this one, the seller has uploaded the proof: here, not yet there. A
    proof may support an appeal, so a case that is frozen takes some anywhere; it moves nobody then.
    """
    case = await locked(tx, case_id)
    if case.node not in takes_proofs(case) and not case.state.frozen:
        raise IllegalTransition(case.node, Event.PROOF_UPLOADED)
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
    await acceptance.insert_proof(tx, proof)
    detail: dict[str, str | int | None] = {"case": case.public_id, "kind": kind, "sha256": file.sha256}
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind="supervision.proof_added", subject=proof.public_id, detail=detail)]
    )
    submission = FLOWS[case.flow].submission
    if submission is not Event.PROOF_UPLOADED or not may_submit(case) or await lacking(tx, case):
        return case
    return await advance(
        tx, case, submission, actor=Actor.SELLER, by=by, source=Source.OPERATOR, now=now, confirmed=False
    )


def takes_proofs(case: StoredCase) -> frozenset[Node]:
    """The nodes of the case's flow where proofs are taken; DELIVERING only where the delivery is what they prove."""
    return TAKES_PROOFS if FLOWS[case.flow].submission is Event.DELIVERED else TAKES_PROOFS - {Node.DELIVERING}


async def proof_of(tx: Tx, proof_id: str) -> Proof:
    """The proof with this id. Raises NotFound."""
    proof = await acceptance.proof_by_public_id(tx, proof_id)
    if proof is None:
        raise NotFound
    return proof
