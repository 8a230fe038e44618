"""Rows of `outbox`: work that was decided in a transaction and is carried out after it."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where


class OutboxState(StrEnum):
    """What became of a piece of work."""

    WAITING = "waiting"
    DONE = "done"
    GIVEN_UP = "given_up"


STATES: Final = {
    OutboxState.WAITING: "x.done_at IS NULL AND x.given_up_at IS NULL",
    OutboxState.DONE: "x.done_at IS NOT NULL",
    OutboxState.GIVEN_UP: "x.given_up_at IS NOT NULL",
}
"""The condition of each state on an item `x`; exactly one holds."""


class OutboxItem(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of work; `attempts` counts the finished ones, `restart_of` is the message that it carries out again."""

    id: int
    kind: str
    subject: str
    payload: str
    first_tried_at: Instant | None
    attempts: int
    restart_of: str | None = None


class ListedItem(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of work as it is shown, without its payload."""

    id: int
    kind: str
    subject: str
    created_at: Instant
    due_at: Instant
    attempts: int
    first_tried_at: Instant | None
    last_error: str | None
    done_at: Instant | None
    given_up_at: Instant | None

    @property
    def state(self) -> OutboxState:
        """What became of it."""
        if self.done_at is not None:
            return OutboxState.DONE
        return OutboxState.WAITING if self.given_up_at is None else OutboxState.GIVEN_UP


_LISTED: Final = ", ".join(ListedItem.__struct_fields__)


async def add(
    tx: Tx,
    *,
    kind: str,
    subject: str,
    payload: str,
    now: Instant,
    due_at: Instant | None = None,
    restart_of: str | None = None,
) -> None:
    """Queue work, due at once unless it says when."""
    await tx.run(
        "INSERT INTO outbox (kind, subject, payload, created_at, due_at, restart_of) VALUES ($1, $2, $3, $4, $5, $6)",
        kind,
        subject,
        payload,
        now,
        now if due_at is None else due_at,
        restart_of,
    )


async def page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[ListedItem]:
    """Up to `limit` items with an id above `after`, ascending; conditions name `x`."""
    rows = await tx.all(
        f"SELECT {_LISTED} FROM outbox x WHERE id > $1{where.sql(3)} ORDER BY id LIMIT $2", after, limit, *where.values
    )
    return [_listed(row) for row in rows]


async def by_id(tx: Tx, item_id: int) -> ListedItem | None:
    """Find an item."""
    row = await tx.one(f"SELECT {_LISTED} FROM outbox WHERE id = $1", item_id)
    return _listed(row) if row else None


async def revive(tx: Tx, item_id: int, now: Instant) -> bool:
    """Give an item that was given up a whole new retry window, due at once; False = it was not given up (any more)."""
    revived = await tx.run(
        "UPDATE outbox SET given_up_at = NULL, first_tried_at = NULL, attempts = 0, due_at = $2"
        " WHERE id = $1 AND given_up_at IS NOT NULL",
        item_id,
        now,
    )
    return revived == 1


def _listed(row: Row) -> ListedItem:
    return ListedItem(**{name: row[name] for name in ListedItem.__struct_fields__})


async def is_waiting(tx: Tx, *, kind: str, subject: str, payload: str | None = None) -> bool:
    """Whether work of this kind on this subject, with this payload if one is given, is open."""
    row = await tx.one(
        "SELECT 1 AS waiting FROM outbox WHERE done_at IS NULL AND given_up_at IS NULL AND kind = $1 AND subject = $2"
        " AND payload = COALESCE(CAST($3 AS text), payload)",
        kind,
        subject,
        payload,
    )
    return row is not None


async def waits_until(tx: Tx, *, kind: str, subject: str, after: Instant) -> bool:
    """Whether work of this kind on this subject is open and falls due only after an instant."""
    row = await tx.one(
        "SELECT 1 AS waiting FROM outbox WHERE done_at IS NULL AND given_up_at IS NULL AND due_at > $3"
        " AND kind = $1 AND subject = $2 LIMIT 1",
        kind,
        subject,
        after,
    )
    return row is not None


def subject_key(item: OutboxItem) -> str:
    """What an item is about, as `besides` of `due` names it."""
    return f"{item.kind}:{item.subject}"


async def due(tx: Tx, *, now: Instant, limit: int, besides: Sequence[str] = ()) -> list[OutboxItem]:
    """Up to `limit` items whose time has come, the most overdue first, but none about the subjects `besides`."""
    rows = await tx.all(
        "SELECT id, kind, subject, payload, first_tried_at, attempts, restart_of FROM outbox"
        " WHERE done_at IS NULL AND given_up_at IS NULL AND due_at <= $1 AND NOT (kind || ':' || subject IN @list($3))"
        " ORDER BY due_at, id LIMIT $2",
        now,
        limit,
        list(besides),
    )
    return [
        OutboxItem(
            id=row["id"],
            kind=row["kind"],
            subject=row["subject"],
            payload=row["payload"],
            first_tried_at=row["first_tried_at"],
            attempts=row["attempts"],
            restart_of=row["restart_of"],
        )
        for row in rows
    ]


async def next_due(tx: Tx) -> Instant | None:
    """When the next open item falls due; None = nothing is open."""
    row = await tx.one("SELECT MIN(due_at) AS due_at FROM outbox WHERE done_at IS NULL AND given_up_at IS NULL")
    return row["due_at"] if row else None


async def orders_never_asked_for(tx: Tx, kind: str, *, limit: int) -> list[str]:
    """Up to `limit` order ids whose item of this kind was given up and that no later source has told of."""
    rows = await tx.all(
        "SELECT DISTINCT subject FROM outbox WHERE kind = $1 AND given_up_at IS NOT NULL"
        " AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = outbox.subject) ORDER BY subject LIMIT $2",
        kind,
        limit,
    )
    return [row["subject"] for row in rows]


async def done(tx: Tx, item_id: int, now: Instant) -> None:
    """Close an item that was carried out."""
    await tx.run("UPDATE outbox SET done_at = $2, attempts = attempts + 1 WHERE id = $1", item_id, now)


async def again(tx: Tx, item_id: int, *, tried_at: Instant, due_at: Instant, error: str) -> None:
    """Record a failed attempt and when to try again."""
    await tx.run(
        "UPDATE outbox SET attempts = attempts + 1, first_tried_at = COALESCE(first_tried_at, CAST($2 AS bigint)),"
        " due_at = $3, last_error = $4 WHERE id = $1 AND done_at IS NULL",
        item_id,
        tried_at,
        due_at,
        error,
    )


async def give_up(tx: Tx, item_id: int, *, now: Instant, error: str) -> None:
    """Close an item whose retry window is over."""
    await tx.run(
        "UPDATE outbox SET attempts = attempts + 1, given_up_at = $2, last_error = $3 WHERE id = $1 AND done_at IS NULL",
        item_id,
        now,
        error,
    )


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What is not done: open items, since when the oldest one is, and items given up."""

    waiting: int
    oldest_at: Instant | None
    given_up: int


async def backlog(tx: Tx) -> Backlog:
    """Count what is open or was given up."""
    waiting = await tx.one(
        "SELECT count(*) AS items, min(created_at) AS oldest_at FROM outbox WHERE done_at IS NULL AND given_up_at IS NULL"
    )
    given_up = await tx.one("SELECT count(*) AS items FROM outbox WHERE given_up_at IS NOT NULL")
    assert waiting is not None
    assert given_up is not None
    return Backlog(waiting=waiting["items"], oldest_at=waiting["oldest_at"], given_up=given_up["items"])
