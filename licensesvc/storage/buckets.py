"""Rows of `buckets`: what `domain/ratelimit.py` computes, in one statement, so that several nodes share one count."""

from licensesvc.domain.instants import Instant
from licensesvc.domain.ratelimit import Limit
from licensesvc.storage.port import Tx

FORGOTTEN_AT_ONCE = 1_000
"""Rows that one call of `forget_drained` removes."""


async def charge(tx: Tx, name: str, limit: Limit, now: Instant, events: int = 1) -> Instant:
    """Pay for the events of one call and return when the bucket is drained (`ratelimit.charged`)."""
    row = await tx.one(
        "INSERT INTO buckets AS b (name, drained_at) VALUES ($1, CAST($2 AS bigint) + CAST($3 AS bigint))"
        " ON CONFLICT (name) DO UPDATE SET drained_at = CASE"
        " WHEN b.drained_at <= CAST($2 AS bigint) THEN excluded.drained_at"
        " WHEN b.drained_at + CAST($3 AS bigint) < CAST($4 AS bigint) THEN b.drained_at + CAST($3 AS bigint)"
        " ELSE CAST($4 AS bigint) END"
        " RETURNING drained_at",
        name,
        now,
        limit.interval * events,
        now + limit.fullest,
    )
    assert row is not None
    return int(row["drained_at"])


async def forget_drained(tx: Tx, now: Instant) -> None:
    """Drop some buckets that are drained. They are locked in the order of their names, as batches charge them."""
    await tx.run(
        "DELETE FROM buckets WHERE name IN (SELECT b.name FROM buckets b WHERE b.drained_at <= $1"
        f" ORDER BY b.name LIMIT {FORGOTTEN_AT_ONCE} @lock(b))",
        now,
    )
