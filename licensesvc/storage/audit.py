"""Rows of `audit_events`: append to this process's hash chain, read every chain back."""

from collections.abc import Sequence

import msgspec

from licensesvc.domain.audit import GENESIS, AuditEvent, AuditRow, encode, event_hash
from licensesvc.storage.port import Tx

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
        "INSERT INTO audit_events (chain, seq, at, actor, kind, subject, detail, hash)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        rows,
    )


async def chains(tx: Tx) -> list[str]:
    """Names of all chains."""
    return [row["chain"] for row in await tx.all("SELECT DISTINCT chain FROM audit_events ORDER BY chain")]


async def page(tx: Tx, chain: str, *, after: int, limit: int) -> list[AuditRow]:
    """Up to `limit` events of a chain with a seq above `after`, ascending."""
    rows = await tx.all(
        "SELECT chain, seq, at, actor, kind, subject, detail, hash FROM audit_events"
        " WHERE chain = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        chain,
        after,
        limit,
    )
    return [
        AuditRow(
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
        for row in rows
    ]
