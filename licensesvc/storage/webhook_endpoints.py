"""Rows of `webhook_endpoints`, `webhook_secrets` and `webhook_cursors`: who is told, how it is signed, and how far the telling is."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.webhook_attempts import Why
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

_COLUMNS: Final = (
    "e.id, e.public_id, e.url, e.description, e.events, e.signatures, e.created_at, e.version, e.disabled_at, e.disabled_why,"
    " e.failing_since, e.paused_until"
)
_TEXTS: Final = tuple[str, ...]


class StoredEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A receiver. Without `disabled_at` it is sent to, but not before `paused_until`; `failing_since` = the first failure after the last success."""

    id: int
    public_id: str
    url: str
    description: str
    events: tuple[str, ...]
    signatures: tuple[str, ...]
    created_at: Instant
    version: int = 1
    disabled_at: Instant | None = None
    disabled_why: Why | None = None
    failing_since: Instant | None = None
    paused_until: Instant | None = None


class StoredSecret(msgspec.Struct, frozen=True, kw_only=True):
    """A sealed secret of an endpoint; it signs until `ends_at`, None = no end is set."""

    public_id: str
    endpoint_id: int
    kind: str
    sealed: bytes
    public_key: str | None
    created_at: Instant
    ends_at: Instant | None = None

    def __repr__(self) -> str:
        return f"StoredSecret({self.public_id})"


def _endpoint(row: Row) -> StoredEndpoint:
    return StoredEndpoint(
        id=row["id"],
        public_id=row["public_id"],
        url=row["url"],
        description=row["description"],
        events=msgspec.json.decode(row["events"], type=_TEXTS),
        signatures=msgspec.json.decode(row["signatures"], type=_TEXTS),
        created_at=row["created_at"],
        version=row["version"],
        disabled_at=row["disabled_at"],
        disabled_why=None if row["disabled_why"] is None else Why(row["disabled_why"]),
        failing_since=row["failing_since"],
        paused_until=row["paused_until"],
    )


async def insert(tx: Tx, endpoint: StoredEndpoint) -> int:
    """Add an endpoint and return its id; the `id` field is ignored."""
    row = await tx.one(
        "INSERT INTO webhook_endpoints (public_id, url, description, events, signatures, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6) RETURNING id",
        endpoint.public_id,
        endpoint.url,
        endpoint.description,
        _texts(endpoint.events),
        _texts(endpoint.signatures),
        endpoint.created_at,
    )
    assert row is not None
    return int(row["id"])


async def by_public_id(tx: Tx, public_id: str, *, lock: bool = False) -> StoredEndpoint | None:
    """The endpoint with this public id that was not deleted."""
    return await _one(tx, "e.public_id = $1", public_id, lock=lock)


async def by_id(tx: Tx, endpoint_id: int, *, lock: bool = False) -> StoredEndpoint | None:
    """The endpoint with this key that was not deleted."""
    return await _one(tx, "e.id = $1", endpoint_id, lock=lock)


async def page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[StoredEndpoint]:
    """Up to `limit` endpoints with an id above `after`, ascending; conditions name `e`."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM webhook_endpoints e WHERE e.deleted_at IS NULL AND e.id > $1{where.sql(3)} ORDER BY e.id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [_endpoint(row) for row in rows]


async def lock_all(tx: Tx, endpoint_ids: Sequence[int]) -> set[int]:
    """Lock these endpoints in order, so that nobody else adds deliveries for them; return those that are enabled."""
    rows = await tx.all(
        "SELECT e.id FROM webhook_endpoints e WHERE e.id IN @ints($1) AND e.deleted_at IS NULL AND e.disabled_at IS NULL"
        " ORDER BY e.id @lock(e)",
        list(endpoint_ids),
    )
    return {row["id"] for row in rows}


async def update(tx: Tx, endpoint: StoredEndpoint) -> bool:
    """Write an endpoint as a new version, unless it has changed since it was read."""
    changed = await tx.run(
        "UPDATE webhook_endpoints SET url = $3, description = $4, events = $5, signatures = $6, disabled_at = $7, disabled_why = $8,"
        " failing_since = $9, paused_until = $10, version = version + 1 WHERE id = $1 AND version = $2 AND deleted_at IS NULL",
        endpoint.id,
        endpoint.version,
        endpoint.url,
        endpoint.description,
        _texts(endpoint.events),
        _texts(endpoint.signatures),
        endpoint.disabled_at,
        None if endpoint.disabled_why is None else endpoint.disabled_why.value,
        endpoint.failing_since,
        endpoint.paused_until,
    )
    return changed == 1


async def note_health(tx: Tx, endpoint_id: int, *, failing_since: Instant | None, paused_until: Instant | None) -> None:
    """Remember how the last attempts went. No new version: whoever changes an endpoint decides on other things."""
    await tx.run(
        "UPDATE webhook_endpoints SET failing_since = $2, paused_until = $3 WHERE id = $1",
        endpoint_id,
        failing_since,
        paused_until,
    )


async def delete(tx: Tx, endpoint: StoredEndpoint, now: Instant) -> bool:
    """Mark an endpoint as deleted and forget its secrets, unless it has changed since it was read."""
    deleted = await tx.run(
        "UPDATE webhook_endpoints SET deleted_at = $3, version = version + 1 WHERE id = $1 AND version = $2 AND deleted_at IS NULL",
        endpoint.id,
        endpoint.version,
        now,
    )
    if deleted:
        await tx.run("DELETE FROM webhook_secrets WHERE endpoint_id = $1", endpoint.id)
    return deleted == 1


async def add_secret(tx: Tx, secret: StoredSecret) -> None:
    """Add a secret without end."""
    await tx.run(
        "INSERT INTO webhook_secrets (public_id, endpoint_id, kind, sealed, public_key, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        secret.public_id,
        secret.endpoint_id,
        secret.kind,
        secret.sealed,
        secret.public_key,
        secret.created_at,
    )


async def end_secrets(tx: Tx, endpoint_id: int, *, ends_at: Instant, now: Instant) -> None:
    """Let the secrets that have no end yet sign until `ends_at`, and forget those whose end has come."""
    await tx.run(
        "UPDATE webhook_secrets SET ends_at = $2 WHERE endpoint_id = $1 AND ends_at IS NULL", endpoint_id, ends_at
    )
    await tx.run("DELETE FROM webhook_secrets WHERE endpoint_id = $1 AND ends_at <= $2", endpoint_id, now)


async def secrets(tx: Tx, endpoint_ids: Sequence[int], now: Instant) -> list[StoredSecret]:
    """The secrets of these endpoints that sign at `now`, the newest first."""
    rows = await tx.all(
        "SELECT s.public_id, s.endpoint_id, s.kind, s.sealed, s.public_key, s.created_at, s.ends_at FROM webhook_secrets s"
        " WHERE s.endpoint_id IN @ints($1) AND (s.ends_at IS NULL OR s.ends_at > $2) ORDER BY s.endpoint_id, s.id DESC",
        list(endpoint_ids),
        now,
    )
    return [
        StoredSecret(
            public_id=row["public_id"],
            endpoint_id=row["endpoint_id"],
            kind=row["kind"],
            sealed=row["sealed"],
            public_key=row["public_key"],
            created_at=row["created_at"],
            ends_at=row["ends_at"],
        )
        for row in rows
    ]


async def cursors(tx: Tx, endpoint_ids: Sequence[int]) -> dict[int, dict[str, int]]:
    """How far each of these endpoints has been told, by chain; a chain that is missing has not begun."""
    rows = await tx.all(
        "SELECT endpoint_id, chain, seq FROM webhook_cursors WHERE endpoint_id IN @ints($1)", list(endpoint_ids)
    )
    found: dict[int, dict[str, int]] = {endpoint_id: {} for endpoint_id in endpoint_ids}
    for row in rows:
        found[row["endpoint_id"]][row["chain"]] = row["seq"]
    return found


async def advance(tx: Tx, endpoint_id: int, chain: str, *, before: int | None, to: int) -> bool:
    """Move a cursor that still stands at `before`; None = there is none yet."""
    if before is None:
        moved = await tx.run(
            "INSERT INTO webhook_cursors (endpoint_id, chain, seq) VALUES ($1, $2, $3) ON CONFLICT (endpoint_id, chain) DO NOTHING",
            endpoint_id,
            chain,
            to,
        )
    else:
        moved = await tx.run(
            "UPDATE webhook_cursors SET seq = $4 WHERE endpoint_id = $1 AND chain = $2 AND seq = $3",
            endpoint_id,
            chain,
            before,
            to,
        )
    return moved == 1


async def skip_to(tx: Tx, endpoint_id: int, heads: Mapping[str, int]) -> None:
    """Let the cursors stand at these places, whatever lies before them."""
    await tx.many(
        "INSERT INTO webhook_cursors (endpoint_id, chain, seq) VALUES ($1, $2, $3)"
        " ON CONFLICT (endpoint_id, chain) DO UPDATE SET seq = excluded.seq",
        [(endpoint_id, chain, seq) for chain, seq in heads.items()],
    )


async def _one(tx: Tx, condition: str, value: str | int, *, lock: bool) -> StoredEndpoint | None:
    locking = " @lock(e)" if lock else ""
    row = await tx.one(
        f"SELECT {_COLUMNS} FROM webhook_endpoints e WHERE {condition} AND e.deleted_at IS NULL{locking}", value
    )
    return None if row is None else _endpoint(row)


def _texts(values: Sequence[str]) -> str:
    return msgspec.json.encode(list(values)).decode()
