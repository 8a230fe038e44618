"""Rows of `reconciliation_runs` and `reconciliation_findings`, and which orders a night asks for."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.order import placeholder_order_id
from licensesvc.domain.reconciliation import Difference, FindingKind
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

SPAN: Final = 5_000
"""Orders looked through in one statement."""

_STANDS_IN: Final = placeholder_order_id("")
_OPEN_CASE: Final = (
    "EXISTS (SELECT 1 FROM order_lines l JOIN supervision_cases c ON c.line_ref = l.id"
    " LEFT JOIN licenses i ON i.line_ref = l.id LEFT JOIN license_states s ON s.license_id = i.id"
    " WHERE l.order_ref = o.id AND c.completed_at IS NULL AND (s.state IS NULL OR s.state <> 'RELEASED'))"
)
_EXPIRING: Final = (
    "EXISTS (SELECT 1 FROM order_lines l JOIN licenses i ON i.line_ref = l.id"
    " JOIN license_states s ON s.license_id = i.id WHERE l.order_ref = o.id AND s.state IN ('ISSUED', 'ACTIVE')"
    " AND s.expires_at >= $4 AND s.expires_at < $5)"
)
_FOUND: Final = (
    "EXISTS (SELECT 1 FROM reconciliation_findings f WHERE f.connection_id = o.connection_id"
    " AND f.order_id = o.order_id AND f.resolved_at IS NULL)"
)


class Stage(StrEnum):
    """What a night asks for, in this order."""

    ORDERS = "orders"
    """Orders that are open, that expire soon, or that have an open finding."""
    UNLEARNED = "unlearned"
    """Orders that were acknowledged and that order/query never told of."""
    FINDINGS = "findings"
    """Orders with an open finding that are unknown here."""


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An order to ask for and the place behind it."""

    place: int
    order_id: str


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """How far the last night of a connection is; `leased_until` without `holder` = it waits for the marketplace to recover."""

    connection_id: int
    night: str
    stage: Stage
    after: int
    started_at: Instant
    finished_at: Instant | None
    holder: str | None
    leased_until: Instant
    asked: int
    unanswered: int
    last_error: str | None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A difference between our record and the marketplace's; `how` it was resolved: vanished, repaired or dismissed."""

    id: int
    public_id: str
    connection_id: int
    order_id: str
    line_id: str
    kind: FindingKind
    ours: str | None
    theirs: str | None
    found_at: Instant
    seen_at: Instant
    resolved_at: Instant | None
    how: str | None
    resolved_by: str | None


_RUN: Final = ", ".join(Run.__struct_fields__)
_FINDING: Final = ", ".join(Finding.__struct_fields__)


async def runs(tx: Tx) -> list[Run]:
    """Every connection's last night."""
    rows = await tx.all(f"SELECT {_RUN} FROM reconciliation_runs ORDER BY connection_id")
    return [_run(row) for row in rows]


async def run_of(tx: Tx, connection_id: int) -> Run | None:
    """The last night of a connection."""
    row = await tx.one(f"SELECT {_RUN} FROM reconciliation_runs WHERE connection_id = $1", connection_id)
    return _run(row) if row else None


async def begin(tx: Tx, connection_id: int, night: str, now: Instant, *, again: bool) -> bool:
    """Begin a night unless one is under way, or, unless `again`, this very one is over; False = nothing was begun."""
    begun = await tx.run(
        "INSERT INTO reconciliation_runs (connection_id, night, stage, started_at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (connection_id) DO UPDATE SET night = excluded.night, stage = excluded.stage, after = 0,"
        " started_at = excluded.started_at, finished_at = NULL, holder = NULL, leased_until = 0, asked = 0,"
        " unanswered = 0, last_error = NULL"
        " WHERE reconciliation_runs.finished_at IS NOT NULL"
        " AND (reconciliation_runs.night <> excluded.night OR CAST($5 AS bigint) = 1)",
        connection_id,
        night,
        Stage.ORDERS.value,
        now,
        int(again),
    )
    return begun == 1


async def lease(tx: Tx, connection_id: int, holder: str, *, now: Instant, until: Instant, eager: bool) -> bool:
    """Take, or keep, the work on an unfinished night; `eager` does not wait for the marketplace to recover."""
    taken = await tx.run(
        "UPDATE reconciliation_runs SET holder = $2, leased_until = $4 WHERE connection_id = $1 AND finished_at IS NULL"
        " AND (leased_until < $3 OR holder = $2 OR (CAST($5 AS bigint) = 1 AND holder IS NULL))",
        connection_id,
        holder,
        now,
        until,
        int(eager),
    )
    return taken == 1


async def put(tx: Tx, run: Run, holder: str) -> bool:
    """Write how far the night is, if this holder still works on it."""
    kept = await tx.run(
        "UPDATE reconciliation_runs SET stage = $3, after = $4, finished_at = $5, holder = $6, leased_until = $7,"
        " asked = $8, unanswered = $9, last_error = $10"
        " WHERE connection_id = $1 AND holder = $2 AND finished_at IS NULL",
        run.connection_id,
        holder,
        run.stage.value,
        run.after,
        run.finished_at,
        run.holder,
        run.leased_until,
        run.asked,
        run.unanswered,
        run.last_error,
    )
    return kept == 1


async def next_order(
    tx: Tx, connection_id: int, after: int, *, expiring_from: Instant, expiring_until: Instant
) -> tuple[Candidate | None, int | None]:
    """The next order to ask for, and the place up to which there is none; both None = there is no more."""
    last = await tx.one("SELECT MAX(id) AS id FROM orders")
    if last is None or last["id"] is None or after >= last["id"]:
        return None, None
    row = await tx.one(
        f"SELECT o.id, o.order_id FROM orders o WHERE o.connection_id = $1 AND o.id > $2 AND o.id <= $3"
        f" AND ({_OPEN_CASE} OR {_EXPIRING} OR {_FOUND}) AND substr(o.order_id, 1, {len(_STANDS_IN)}) <> $6"
        " ORDER BY o.id LIMIT 1",
        connection_id,
        after,
        after + SPAN,
        expiring_from,
        expiring_until,
        _STANDS_IN,
    )
    if row is None:
        return None, after + SPAN
    return Candidate(place=row["id"], order_id=row["order_id"]), row["id"]


async def unlearned(tx: Tx, kind: str, after: int, *, limit: int) -> list[tuple[int, str]]:
    """Up to `limit` given-up items of the outbox behind `after` whose order is unknown, each as (id, payload)."""
    rows = await tx.all(
        "SELECT x.id, x.payload FROM outbox x WHERE x.kind = $1 AND x.given_up_at IS NOT NULL AND x.id > $2"
        " AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.order_id = x.subject) ORDER BY x.id LIMIT $3",
        kind,
        after,
        limit,
    )
    return [(row["id"], row["payload"]) for row in rows]


async def next_found(tx: Tx, connection_id: int, after: int, *, seen_before: Instant) -> Candidate | None:
    """The next open finding about an order that is unknown here and that this night has not asked for."""
    row = await tx.one(
        "SELECT f.id, f.order_id FROM reconciliation_findings f WHERE f.connection_id = $1 AND f.id > $2"
        " AND f.resolved_at IS NULL AND f.seen_at < $3 AND NOT EXISTS (SELECT 1 FROM orders o"
        " WHERE o.connection_id = f.connection_id AND o.order_id = f.order_id) ORDER BY f.id LIMIT 1",
        connection_id,
        after,
        seen_before,
    )
    return Candidate(place=row["id"], order_id=row["order_id"]) if row else None


async def of_order(tx: Tx, connection_id: int, order_id: str) -> list[Finding]:
    """The findings about an order that are open or were dismissed, ascending."""
    rows = await tx.all(
        f"SELECT {_FINDING} FROM reconciliation_findings f WHERE connection_id = $1 AND order_id = $2"
        " AND (resolved_at IS NULL OR how = 'dismissed') ORDER BY id @lock(f)",
        connection_id,
        order_id,
    )
    return [_finding(row) for row in rows]


async def add(tx: Tx, connection_id: int, order_id: str, difference: Difference, public_id: str, now: Instant) -> bool:
    """Add a finding; False = it is open already."""
    added = await tx.run(
        "INSERT INTO reconciliation_findings"
        " (public_id, connection_id, order_id, line_id, kind, ours, theirs, found_at, seen_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, CAST($8 AS bigint), CAST($8 AS bigint)) ON CONFLICT DO NOTHING",
        public_id,
        connection_id,
        order_id,
        difference.line_id,
        difference.kind.value,
        difference.ours,
        difference.theirs,
        now,
    )
    return added == 1


async def seen_again(tx: Tx, finding_ids: Sequence[int], now: Instant) -> None:
    """Record that these findings are still true."""
    await tx.run("UPDATE reconciliation_findings SET seen_at = $2 WHERE id IN @ints($1)", list(finding_ids), now)


async def retold(tx: Tx, finding_id: int, difference: Difference, now: Instant) -> None:
    """Record that the two sides of an open finding say something else by now."""
    await tx.run(
        "UPDATE reconciliation_findings SET ours = $2, theirs = $3, seen_at = $4 WHERE id = $1 AND resolved_at IS NULL",
        finding_id,
        difference.ours,
        difference.theirs,
        now,
    )


async def resolve(tx: Tx, finding_id: int, how: str, *, by: str, now: Instant) -> bool:
    """Close an open finding; False = somebody else did."""
    closed = await tx.run(
        "UPDATE reconciliation_findings SET resolved_at = $4, how = $2, resolved_by = $3"
        " WHERE id = $1 AND resolved_at IS NULL",
        finding_id,
        how,
        by,
        now,
    )
    return closed == 1


async def by_public_id(tx: Tx, public_id: str, *, lock: bool = False) -> Finding | None:
    """Find a finding by its id."""
    row = await tx.one(
        f"SELECT {_FINDING} FROM reconciliation_findings f WHERE public_id = $1" + (" @lock(f)" if lock else ""),
        public_id,
    )
    return _finding(row) if row else None


async def page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[Finding]:
    """Up to `limit` findings with an internal id above `after`, ascending; conditions name `f`."""
    rows = await tx.all(
        f"SELECT {_FINDING} FROM reconciliation_findings f WHERE id > $1{where.sql(3)} ORDER BY id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [_finding(row) for row in rows]


async def count_open(tx: Tx, connection_id: int) -> int:
    """How many findings of a connection are open."""
    row = await tx.one(
        "SELECT COUNT(*) AS findings FROM reconciliation_findings WHERE connection_id = $1 AND resolved_at IS NULL",
        connection_id,
    )
    assert row is not None
    return int(row["findings"])


async def count_all_open(tx: Tx) -> int:
    """How many findings are open."""
    row = await tx.one("SELECT COUNT(*) AS findings FROM reconciliation_findings WHERE resolved_at IS NULL")
    assert row is not None
    return int(row["findings"])


def _run(row: Row) -> Run:
    return msgspec.convert({name: row[name] for name in Run.__struct_fields__}, Run)


def _finding(row: Row) -> Finding:
    return msgspec.convert({name: row[name] for name in Finding.__struct_fields__}, Finding)
