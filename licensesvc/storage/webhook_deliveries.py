"""Rows of `webhook_deliveries`: one message for one endpoint, claimed by one process at a time, in order of its subject."""

from collections.abc import Sequence
from typing import Final

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.webhook_attempts import Outcome
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

_COLUMNS: Final = (
    "d.id, d.public_id, d.endpoint_id, d.message_id, d.type, d.subject, d.payload, d.created_at, d.due_at, d.claims, d.attempts, d.log,"
    " d.closed_at, d.outcome"
)
_RETURNED: Final = _COLUMNS.replace("d.", "")
# Within a subject the oldest open delivery alone is sent. Ids ascend in the order of events: whoever adds deliveries has locked the endpoint.
_FIRST_OF_SUBJECT: Final = (
    "NOT EXISTS (SELECT 1 FROM webhook_deliveries o WHERE o.endpoint_id = d.endpoint_id AND o.subject = d.subject"
    " AND o.closed_at IS NULL AND o.id < d.id)"
)


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One call: `status` of the answer and its beginning, or the `error` that came instead."""

    at: Instant
    duration_ms: int
    status: int | None = None
    error: str | None = None
    answer: str = ""


class NewDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery to add, due at once."""

    public_id: str
    endpoint_id: int
    message_id: str
    type: str
    subject: str
    payload: str


class StoredDelivery(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery; `claims` names the claim under which it is worked on, `log` holds its attempts."""

    id: int
    public_id: str
    endpoint_id: int
    message_id: str
    type: str
    subject: str
    payload: str
    created_at: Instant
    due_at: Instant
    claims: int
    attempts: int
    log: tuple[Attempt, ...]
    closed_at: Instant | None
    outcome: Outcome | None


def _delivery(row: Row) -> StoredDelivery:
    return StoredDelivery(
        id=row["id"],
        public_id=row["public_id"],
        endpoint_id=row["endpoint_id"],
        message_id=row["message_id"],
        type=row["type"],
        subject=row["subject"],
        payload=row["payload"],
        created_at=row["created_at"],
        due_at=row["due_at"],
        claims=row["claims"],
        attempts=row["attempts"],
        log=msgspec.json.decode(row["log"], type=tuple[Attempt, ...]),
        closed_at=row["closed_at"],
        outcome=None if row["outcome"] is None else Outcome(row["outcome"]),
    )


async def add(tx: Tx, deliveries: Sequence[NewDelivery], now: Instant) -> None:
    """Add deliveries in order; the caller has locked their endpoints."""
    await tx.many(
        "INSERT INTO webhook_deliveries (public_id, endpoint_id, message_id, type, subject, payload, created_at, due_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        [
            (new.public_id, new.endpoint_id, new.message_id, new.type, new.subject, new.payload, now, now)
            for new in deliveries
        ],
    )


async def claim(tx: Tx, endpoint_id: int, *, now: Instant, lease_until: Instant, limit: int) -> list[StoredDelivery]:
    """Take up to `limit` due deliveries, the most overdue first: nobody else gets them before `lease_until`."""
    rows = await tx.all(
        "UPDATE webhook_deliveries SET due_at = $3, claims = claims + 1 WHERE closed_at IS NULL AND due_at <= $2 AND id IN ("
        "SELECT d.id FROM webhook_deliveries d WHERE d.endpoint_id = $1 AND d.closed_at IS NULL AND d.due_at <= $2"
        f" AND {_FIRST_OF_SUBJECT} ORDER BY d.due_at, d.id LIMIT $4) RETURNING {_RETURNED}",
        endpoint_id,
        now,
        lease_until,
        limit,
    )
    return sorted((_delivery(row) for row in rows), key=lambda delivery: delivery.id)


async def record(
    tx: Tx,
    delivery: StoredDelivery,
    log: Sequence[Attempt],
    *,
    due_at: Instant | None,
    outcome: Outcome | None,
    now: Instant,
) -> bool:
    """Write what an attempt led to, unless the claim was lost to another one meanwhile."""
    changed = await tx.run(
        "UPDATE webhook_deliveries SET attempts = attempts + 1, log = $3, due_at = COALESCE(CAST($4 AS bigint), due_at), closed_at = $5,"
        " outcome = $6 WHERE id = $1 AND claims = $2 AND closed_at IS NULL",
        delivery.id,
        delivery.claims,
        msgspec.json.encode(list(log)).decode(),
        due_at,
        None if outcome is None else now,
        None if outcome is None else outcome.value,
    )
    return changed == 1


async def give_up_all(tx: Tx, endpoint_id: int, now: Instant) -> int:
    """Close what is open for an endpoint that is there no more; return how many."""
    return await tx.run(
        "UPDATE webhook_deliveries SET closed_at = $2, outcome = 'given_up' WHERE endpoint_id = $1 AND closed_at IS NULL",
        endpoint_id,
        now,
    )


async def by_public_id(tx: Tx, public_id: str) -> StoredDelivery | None:
    """The delivery with this public id."""
    row = await tx.one(f"SELECT {_COLUMNS} FROM webhook_deliveries d WHERE d.public_id = $1", public_id)
    return None if row is None else _delivery(row)


async def page(tx: Tx, endpoint_id: int, *, after: int, limit: int, where: Where = EVERYTHING) -> list[StoredDelivery]:
    """Up to `limit` deliveries of an endpoint with an id above `after`, ascending; conditions name `d`."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM webhook_deliveries d WHERE d.endpoint_id = $1 AND d.id > $2{where.sql(4)} ORDER BY d.id LIMIT $3",
        endpoint_id,
        after,
        limit,
        *where.values,
    )
    return [_delivery(row) for row in rows]


class OpenWork(msgspec.Struct, frozen=True):
    """Open deliveries of an endpoint, and when the first of them is due; it may have to wait for an earlier one of its subject."""

    waiting: int
    due_at: Instant


async def open_work(tx: Tx, endpoint_ids: Sequence[int]) -> dict[int, OpenWork]:
    """What is open, for each of these endpoints that has something."""
    rows = await tx.all(
        "SELECT endpoint_id, COUNT(*) AS waiting, MIN(due_at) AS due_at FROM webhook_deliveries"
        " WHERE closed_at IS NULL AND endpoint_id IN @ints($1) GROUP BY endpoint_id",
        list(endpoint_ids),
    )
    return {row["endpoint_id"]: OpenWork(row["waiting"], row["due_at"]) for row in rows}


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What is open for endpoints that are enabled: how many, and since when the oldest is."""

    waiting: int
    oldest_at: Instant | None


async def backlog(tx: Tx) -> Backlog:
    """Count what is open."""
    row = await tx.one(
        "SELECT COUNT(*) AS waiting, MIN(d.created_at) AS oldest_at FROM webhook_deliveries d"
        " JOIN webhook_endpoints e ON e.id = d.endpoint_id WHERE d.closed_at IS NULL AND e.disabled_at IS NULL"
    )
    assert row is not None
    return Backlog(waiting=row["waiting"], oldest_at=row["oldest_at"])
