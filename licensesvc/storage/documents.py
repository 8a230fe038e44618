"""Rows of `license_documents`: signing intents and the signatures that carried them out."""

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.storage.port import Row, Tx

_COLUMNS = "license_id, revision, kid, facts, signing_input, signature, recorded_at"


class StoredDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of a signed license; without `signature` it is an intent that awaits its key."""

    license_id: int
    revision: int
    kid: str
    facts: str
    signing_input: bytes
    signature: bytes | None
    recorded_at: Instant


def _document(row: Row) -> StoredDocument:
    return StoredDocument(
        license_id=row["license_id"],
        revision=row["revision"],
        kid=row["kid"],
        facts=row["facts"],
        signing_input=row["signing_input"],
        signature=row["signature"],
        recorded_at=row["recorded_at"],
    )


async def latest(tx: Tx, license_id: int) -> StoredDocument | None:
    """The newest revision of a license's document."""
    row = await tx.one(
        f"SELECT {_COLUMNS} FROM license_documents WHERE license_id = $1 ORDER BY revision DESC LIMIT 1", license_id
    )
    return _document(row) if row else None


async def revision(tx: Tx, license_id: int, number: int) -> StoredDocument | None:
    """One revision of a license's document."""
    row = await tx.one(
        f"SELECT {_COLUMNS} FROM license_documents WHERE license_id = $1 AND revision = $2", license_id, number
    )
    return _document(row) if row else None


async def record_intent(tx: Tx, document: StoredDocument) -> None:
    """Record the bytes that are about to be signed."""
    await tx.run(
        f"INSERT INTO license_documents ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, NULL, $6)",
        document.license_id,
        document.revision,
        document.kid,
        document.facts,
        document.signing_input,
        document.recorded_at,
    )


async def store_signature(tx: Tx, document: StoredDocument, signature: bytes) -> None:
    """Keep the signature of an intent; a signature that is there stays."""
    await tx.run(
        "UPDATE license_documents SET signature = $3 WHERE license_id = $1 AND revision = $2 AND signature IS NULL",
        document.license_id,
        document.revision,
        signature,
    )


async def kids(tx: Tx) -> list[str]:
    """The kids of all documents."""
    return [row["kid"] for row in await tx.all("SELECT DISTINCT kid FROM license_documents ORDER BY kid")]


async def page(tx: Tx, *, after: tuple[int, int], limit: int) -> list[StoredDocument]:
    """Up to `limit` documents with (license id, revision) above `after`, ascending."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM license_documents WHERE license_id > $1 OR (license_id = $1 AND revision > $2)"
        " ORDER BY license_id, revision LIMIT $3",
        *after,
        limit,
    )
    return [_document(row) for row in rows]
