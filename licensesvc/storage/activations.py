"""Rows of `activations`: seats taken by fingerprints, counted in `license_states`."""

from collections.abc import Sequence

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.storage.port import Row, Tx

_COLUMNS = "id, public_id, license_id, fingerprint_index, created_at, released_at"


class StoredActivation(msgspec.Struct, frozen=True, kw_only=True):
    """A seat taken by one fingerprint, until `released_at`."""

    id: int
    public_id: str
    license_id: int
    fingerprint_index: str
    created_at: Instant
    released_at: Instant | None = None


def _activation(row: Row) -> StoredActivation:
    return StoredActivation(
        id=row["id"],
        public_id=row["public_id"],
        license_id=row["license_id"],
        fingerprint_index=row["fingerprint_index"],
        created_at=row["created_at"],
        released_at=row["released_at"],
    )


async def live(
    tx: Tx, license_ids: Sequence[int], fingerprint_indexes: Sequence[str]
) -> dict[tuple[int, str], StoredActivation]:
    """The seats that these fingerprints hold now of these licenses, by (license id, fingerprint index)."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM activations"
        " WHERE license_id IN @ints($1) AND fingerprint_index IN @list($2) AND released_at IS NULL",
        list(license_ids),
        list(fingerprint_indexes),
    )
    found = [_activation(row) for row in rows]
    return {(activation.license_id, activation.fingerprint_index): activation for activation in found}


async def take_seats(tx: Tx, taken: Sequence[StoredActivation]) -> None:
    """Insert activations and count them; the CHECK of license_states refuses what would oversell."""
    await tx.many(
        "UPDATE license_states SET seats_taken = seats_taken + 1, version = version + 1 WHERE license_id = $1",
        [(activation.license_id,) for activation in taken],
    )
    await tx.many(
        "INSERT INTO activations (public_id, license_id, fingerprint_index, created_at) VALUES ($1, $2, $3, $4)",
        [(a.public_id, a.license_id, a.fingerprint_index, a.created_at) for a in taken],
    )


async def by_public_id(tx: Tx, public_id: str) -> StoredActivation | None:
    """Find an activation, live or released, by its id."""
    row = await tx.one(f"SELECT {_COLUMNS} FROM activations WHERE public_id = $1", public_id)
    return _activation(row) if row else None


async def release(tx: Tx, activation: StoredActivation, now: Instant) -> bool:
    """Free a seat; False = it was free already."""
    changed = await tx.run(
        "UPDATE activations SET released_at = $2 WHERE id = $1 AND released_at IS NULL", activation.id, now
    )
    if changed == 0:
        return False
    await tx.run(
        "UPDATE license_states SET seats_taken = seats_taken - 1, version = version + 1 WHERE license_id = $1",
        activation.license_id,
    )
    return True


async def of_license(tx: Tx, license_id: int, *, limit: int) -> list[StoredActivation]:
    """Up to `limit` seats held now, oldest first."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM activations WHERE license_id = $1 AND released_at IS NULL ORDER BY id LIMIT $2",
        license_id,
        limit,
    )
    return [_activation(row) for row in rows]


async def miscounted(tx: Tx) -> list[str]:
    """Public ids of licenses whose seat counter differs from the seats held (at most 100)."""
    rows = await tx.all(
        "SELECT l.public_id FROM licenses l JOIN license_states s ON s.license_id = l.id"
        " LEFT JOIN (SELECT license_id, COUNT(*) AS held FROM activations WHERE released_at IS NULL"
        " GROUP BY license_id) a ON a.license_id = l.id"
        " WHERE s.seats_taken <> COALESCE(a.held, 0) OR s.seats_taken > s.seats ORDER BY l.id LIMIT 100"
    )
    return [row["public_id"] for row in rows]
