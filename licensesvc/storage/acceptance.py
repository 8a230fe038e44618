"""Rows of `acceptance_standards` and `proofs`: what a product promises, and what was uploaded for a case."""

from collections.abc import Collection

import msgspec

from licensesvc.domain.acceptance import NO_STANDARD, AcceptanceStandard, ProofKind
from licensesvc.domain.instants import Instant
from licensesvc.storage.port import Row, Tx

_PROOF = "id, public_id, case_id, kind, filename, media_type, size, sha256, uploaded_at"


class StoredStandard(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a product's acceptance standard; version 0, of which there is no row, asks for nothing in particular."""

    version: int
    standard: AcceptanceStandard


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery proof; its bytes lie in the content-addressed proof store under `sha256`."""

    id: int
    public_id: str
    case_id: int
    kind: ProofKind
    filename: str
    media_type: str
    size: int
    sha256: str
    uploaded_at: Instant


async def newest_standard(tx: Tx, product_id: int) -> StoredStandard:
    """The standard that new cases of a product start with."""
    row = await tx.one(
        "SELECT version, standard FROM acceptance_standards WHERE product_id = $1 ORDER BY version DESC LIMIT 1",
        product_id,
    )
    return _standard(row) if row else StoredStandard(version=0, standard=NO_STANDARD)


async def standard_of(tx: Tx, product_id: int, version: int) -> AcceptanceStandard:
    """A version that a case has kept."""
    row = await tx.one(
        "SELECT version, standard FROM acceptance_standards WHERE product_id = $1 AND version = $2", product_id, version
    )
    return _standard(row).standard if row else NO_STANDARD


async def add_standard(tx: Tx, product_id: int, stored: StoredStandard, now: Instant) -> bool:
    """Add the next version; False = somebody else has just added it."""
    added = await tx.run(
        "INSERT INTO acceptance_standards (product_id, version, standard, created_at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (product_id, version) DO NOTHING",
        product_id,
        stored.version,
        msgspec.json.encode(stored.standard).decode(),
        now,
    )
    return added == 1


def _standard(row: Row) -> StoredStandard:
    return StoredStandard(
        version=row["version"], standard=msgspec.json.decode(row["standard"], type=AcceptanceStandard)
    )


async def insert_proof(tx: Tx, proof: Proof) -> None:
    """Record a proof whose bytes are already stored; its `id` field is ignored."""
    await tx.run(
        "INSERT INTO proofs (public_id, case_id, kind, filename, media_type, size, sha256, uploaded_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        proof.public_id,
        proof.case_id,
        proof.kind.value,
        proof.filename,
        proof.media_type,
        proof.size,
        proof.sha256,
        proof.uploaded_at,
    )


async def proof_by_public_id(tx: Tx, public_id: str) -> Proof | None:
    """Find a proof by its id."""
    row = await tx.one(f"SELECT {_PROOF} FROM proofs WHERE public_id = $1", public_id)
    return _proof(row) if row else None


async def proofs_of(tx: Tx, case_id: int) -> list[Proof]:
    """Every proof of a case, in order."""
    return (await proofs_of_cases(tx, [case_id])).get(case_id, [])


async def proofs_of_cases(tx: Tx, case_ids: Collection[int]) -> dict[int, list[Proof]]:
    """Every proof of these cases, in order, by internal id of the case."""
    rows = await tx.all(f"SELECT {_PROOF} FROM proofs WHERE case_id IN @ints($1) ORDER BY id", sorted(case_ids))
    found: dict[int, list[Proof]] = {}
    for row in rows:
        found.setdefault(row["case_id"], []).append(_proof(row))
    return found


def _proof(row: Row) -> Proof:
    return Proof(
        id=row["id"],
        public_id=row["public_id"],
        case_id=row["case_id"],
        kind=ProofKind(row["kind"]),
        filename=row["filename"],
        media_type=row["media_type"],
        size=row["size"],
        sha256=row["sha256"],
        uploaded_at=row["uploaded_at"],
    )
