"""Rows that nobody needs any more: which they are, counting them, deleting them a few at a time.

Out: the audit chains, which are never cut, and everything that proves a license.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from licensesvc.domain.instants import DAY, Instant
from licensesvc.storage.port import Tx

BATCH: Final = 500
"""Rows deleted in one transaction: hot writes wait no longer than that takes."""


_DAY_IS_PAST: Final = f"day < CAST($1 AS bigint) / {DAY}"


class Stale(msgspec.Struct, frozen=True, kw_only=True):
    """A table with its primary key and the condition under which a row is past the instant `$1`."""

    key: str
    condition: str


STALE: Final[Mapping[str, Stale]] = {
    "messages": Stale(key="id", condition="received_at < $1"),
    "outbox": Stale(key="id", condition="COALESCE(done_at, given_up_at) < $1"),
    "reconciliation_findings": Stale(key="id", condition="resolved_at IS NOT NULL AND seen_at < $1"),
    "activations": Stale(key="id", condition="released_at < $1"),
    "usage_days": Stale(key="license_id, day", condition=_DAY_IS_PAST),
    "usage_clients": Stale(key="client_key", condition=_DAY_IS_PAST),
    "relay_usage": Stale(key="id", condition="COALESCE(reported_at, refused_at) < $1"),
    "alerts": Stale(key="id", condition="cleared_at < $1"),
    "webhook_deliveries": Stale(key="id", condition="closed_at < $1"),
    "idempotency_keys": Stale(key="scope, idempotency_key", condition="created_at < $1"),
    "nonces": Stale(key="connection_id, nonce", condition="expires_at < $1"),
    "signature_failures": Stale(
        key="credential_id, address", condition="last_at < $1 AND COALESCE(locked_until, 0) < $1"
    ),
}


async def count(tx: Tx, table: str, before: Instant) -> int:
    """How many rows are past."""
    row = await tx.one(f"SELECT COUNT(*) AS stale FROM {table} WHERE {STALE[table].condition}", before)
    assert row is not None
    return int(row["stale"])


async def delete_some(tx: Tx, table: str, before: Instant) -> int:
    """Delete up to `BATCH` rows that are past; say how many."""
    stale = STALE[table]
    return await tx.run(
        f"DELETE FROM {table} WHERE ({stale.key}) IN"
        f" (SELECT {stale.key} FROM {table} WHERE {stale.condition} LIMIT {BATCH})",
        before,
    )
