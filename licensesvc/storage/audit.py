"""Rows of `audit_events`: append to this process's hash chain, read every chain back."""

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from licensesvc.domain.audit import GENESIS, AuditEvent, AuditRow, encode, event_hash
from licensesvc.domain.instants import Instant
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

Place: TypeAlias = tuple[Instant, str, int]
"""Time, chain and seq of an event: where it stands among the events of all chains."""
BEGINNING: Final[Place] = (-1, "", 0)

_COLUMNS = "chain, seq, at, actor, kind, subject, detail, hash"
_encoder = msgspec.json.Encoder(order="sorted")


async def append(tx: Tx, events: Sequence[AuditEvent]) -> None:
    """Add events to the chain of this writer, in order, in the caller's transaction.

    Two writers that share a chain by mistake collide on (chain, seq): the database refuses a fork.
    """
    if not events:
        return
    head = await tx.one(
        "SELECT seq, hash FROM audit_events WHERE chain = $1 ORDER BY chain DESC, seq DESC LIMIT 1", tx.chain
    )
    seq, previous = (head["seq"], head["hash"]) if head else (0, GENESIS)
    rows = []
    for event in events:
        seq += 1
        previous = event_hash(encode(tx.chain, seq, event, previous))
        detail = _encoder.encode(event.detail).decode()
        rows.append((tx.chain, seq, event.at, event.actor, event.kind, event.subject, detail, previous))
    await tx.many(
        f"INSERT INTO audit_events ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        rows,
    )


async def chains(tx: Tx) -> list[str]:
    """Names of all chains."""
    return [row["chain"] for row in await tx.all("SELECT DISTINCT chain FROM audit_events ORDER BY chain")]


async def heads(tx: Tx) -> dict[str, int]:
    """The last seq of every chain; hops from chain to chain over the primary key, however long they are."""
    rows = await tx.all(
        "WITH RECURSIVE known (chain) AS (SELECT MIN(chain) FROM audit_events UNION ALL"
        " SELECT (SELECT MIN(e.chain) FROM audit_events e WHERE e.chain > known.chain) FROM known WHERE known.chain IS NOT NULL)"
        " SELECT chain, (SELECT MAX(e.seq) FROM audit_events e WHERE e.chain = known.chain) AS seq FROM known"
        " WHERE chain IS NOT NULL"
    )
    return {row["chain"]: row["seq"] for row in rows}


async def page(tx: Tx, chain: str, *, after: int, limit: int) -> list[AuditRow]:
    """Up to `limit` events of a chain with a seq above `after`, ascending."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM audit_events WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $3", chain, after, limit
    )
    return [_row(row) for row in rows]


async def search(tx: Tx, *, after: Place, limit: int, where: Where = EVERYTHING) -> list[AuditRow]:
    """Up to `limit` events of all chains behind a place, by time, then chain and seq; conditions name `e`."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM audit_events e WHERE (at, chain, seq) > ($1, $2, $3){where.sql(5)}"
        " ORDER BY at, chain, seq LIMIT $4",
        *after,
        limit,
        *where.values,
    )
    return [_row(row) for row in rows]


def _row(row: Row) -> AuditRow:
    return AuditRow(
        chain=row["chain"],
        seq=row["seq"],
        event=AuditEvent(
            at=row["at"],
            actor=row["actor"],
            kind=row["kind"],
            subject=row["subject"],
            detail=msgspec.json.decode(row["detail"]),
        ),
        hash=row["hash"],
    )
