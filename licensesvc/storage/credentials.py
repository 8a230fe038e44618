"""Rows of `credentials`, `signature_failures` and `admin_tokens`: who may call, and who failed to prove it."""

from enum import StrEnum

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

_CREDENTIAL = "id, public_id, connection_id, product_id, name, access_key, secret, scope, created_at, revoked_at"
_TOKEN = "id, public_id, name, prefix, token_hash, role, created_at, revoked_at, last_used_at"  # noqa: S105 - column names


class Scope(StrEnum):
    """What a credential may call: software of one product, or the seller's own programs."""

    DEVICE = "device"
    SELLER = "seller"


class Role(StrEnum):
    """What an administrator may do."""

    OWNER = "owner"
    OPERATOR = "operator"
    READER = "reader"


class StoredCredential(msgspec.Struct, frozen=True, kw_only=True):
    """An AK/SK pair of the open API; `secret` is sealed."""

    id: int
    public_id: str
    connection_id: int
    product_id: int | None
    name: str
    access_key: str
    secret: bytes
    scope: Scope
    created_at: Instant
    revoked_at: Instant | None = None

    def __repr__(self) -> str:
        return f"StoredCredential({self.public_id})"


class SignatureFailures(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive bad signatures of one credential from one client address."""

    credential_id: int
    address: str
    failures: int
    last_at: Instant
    locked_until: Instant | None


class StoredToken(msgspec.Struct, frozen=True, kw_only=True):
    """An admin token: only the SHA-256 of it is kept."""

    id: int
    public_id: str
    name: str
    prefix: str
    token_hash: bytes
    role: Role
    created_at: Instant
    revoked_at: Instant | None = None
    last_used_at: Instant | None = None

    def __repr__(self) -> str:
        return f"StoredToken({self.public_id})"


def _credential(row: Row) -> StoredCredential:
    return StoredCredential(
        id=row["id"],
        public_id=row["public_id"],
        connection_id=row["connection_id"],
        product_id=row["product_id"],
        name=row["name"],
        access_key=row["access_key"],
        secret=row["secret"],
        scope=Scope(row["scope"]),
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
    )


def _token(row: Row) -> StoredToken:
    return StoredToken(
        id=row["id"],
        public_id=row["public_id"],
        name=row["name"],
        prefix=row["prefix"],
        token_hash=row["token_hash"],
        role=Role(row["role"]),
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )


async def insert(tx: Tx, credential: StoredCredential) -> None:
    """Add a credential; its `id` field is ignored."""
    await tx.run(
        "INSERT INTO credentials (public_id, connection_id, product_id, name, access_key, secret, scope, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        credential.public_id,
        credential.connection_id,
        credential.product_id,
        credential.name,
        credential.access_key,
        credential.secret,
        credential.scope.value,
        credential.created_at,
    )


async def by_access_key(tx: Tx, access_key: str) -> StoredCredential | None:
    """Find a live credential by its access key."""
    row = await tx.one(
        f"SELECT {_CREDENTIAL} FROM credentials WHERE access_key = $1 AND revoked_at IS NULL", access_key
    )
    return _credential(row) if row else None


async def page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[StoredCredential]:
    """Up to `limit` credentials with an internal id above `after`, ascending; conditions name `c`."""
    rows = await tx.all(
        f"SELECT {_CREDENTIAL} FROM credentials c WHERE id > $1{where.sql(3)} ORDER BY id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [_credential(row) for row in rows]


async def revoke(tx: Tx, public_id: str, now: Instant) -> str | None:
    """Revoke a credential and return its access key; revoking twice keeps the first instant; None = unknown."""
    row = await tx.one(
        "UPDATE credentials SET revoked_at = COALESCE(revoked_at, CAST($2 AS bigint)) WHERE public_id = $1"
        " RETURNING access_key",
        public_id,
        now,
    )
    return str(row["access_key"]) if row else None


async def put_failures(tx: Tx, failures: SignatureFailures) -> None:
    """Write the counter of one credential and address."""
    await tx.run(
        "INSERT INTO signature_failures (credential_id, address, failures, last_at, locked_until)"
        " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (credential_id, address) DO UPDATE"
        " SET failures = excluded.failures, last_at = excluded.last_at, locked_until = excluded.locked_until",
        failures.credential_id,
        failures.address,
        failures.failures,
        failures.last_at,
        failures.locked_until,
    )


async def clear_failures(tx: Tx, credential_id: int, address: str) -> None:
    """Forget the counter of one credential and address."""
    await tx.run("DELETE FROM signature_failures WHERE credential_id = $1 AND address = $2", credential_id, address)


async def forget_failures_before(tx: Tx, instant: Instant) -> None:
    """Drop counters that nothing has touched since `instant`."""
    await tx.run("DELETE FROM signature_failures WHERE last_at < $1", instant)


async def all_failures(tx: Tx) -> list[SignatureFailures]:
    """Every counter; read once at start."""
    rows = await tx.all("SELECT credential_id, address, failures, last_at, locked_until FROM signature_failures")
    return [
        SignatureFailures(
            credential_id=row["credential_id"],
            address=row["address"],
            failures=row["failures"],
            last_at=row["last_at"],
            locked_until=row["locked_until"],
        )
        for row in rows
    ]


async def insert_token(tx: Tx, token: StoredToken) -> None:
    """Add an admin token; its `id` field is ignored."""
    await tx.run(
        "INSERT INTO admin_tokens (public_id, name, prefix, token_hash, role, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        token.public_id,
        token.name,
        token.prefix,
        token.token_hash,
        token.role.value,
        token.created_at,
    )


async def token_by_prefix(tx: Tx, prefix: str) -> StoredToken | None:
    """Find a live admin token by its searchable prefix."""
    row = await tx.one(f"SELECT {_TOKEN} FROM admin_tokens WHERE prefix = $1 AND revoked_at IS NULL", prefix)
    return _token(row) if row else None


async def token_page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[StoredToken]:
    """Up to `limit` admin tokens with an internal id above `after`, ascending; conditions name `t`."""
    rows = await tx.all(
        f"SELECT {_TOKEN} FROM admin_tokens t WHERE id > $1{where.sql(3)} ORDER BY id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [_token(row) for row in rows]


async def revoke_token(tx: Tx, public_id: str, now: Instant) -> bool:
    """Revoke an admin token; say whether it was known and live."""
    changed = await tx.run(
        "UPDATE admin_tokens SET revoked_at = $2 WHERE public_id = $1 AND revoked_at IS NULL", public_id, now
    )
    return changed == 1


async def store_token_use(tx: Tx, token_id: int, now: Instant) -> None:
    """Record when a token was used last; an instant never goes back."""
    await tx.run(
        "UPDATE admin_tokens SET last_used_at = $2"
        " WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < CAST($2 AS bigint))",
        token_id,
        now,
    )
