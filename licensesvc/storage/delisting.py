"""What the delisting guard reads of messages and locks, and the rows of `marketplace_figures`, `sale_declarations`, `open_api_refusals`.

In: SQL that stays inside the indexes of migrations 10 and 16, so that looking every minute costs little. Out: what it means (`domain.delisting`).
"""

from collections.abc import Collection
from typing import Final

import msgspec

from licensesvc.domain.calendar import QUARTER
from licensesvc.domain.delisting import FailingCall, OnSale
from licensesvc.domain.instants import Instant
from licensesvc.storage.port import Row, Tx

FAILING_CALLS_READ: Final = 500
"""Failing calls of one connection that are looked at, the latest by order and as many by license; far beyond every limit."""

_LIVE: Final = "{m}.direction = 'in' AND {m}.purpose = 'live' AND {m}.authenticated_at IS NOT NULL"
# What an operator restarts, the marketplace does not see; only the success of it ends the story of a call here.
_FAILED: Final = "{m}.outcome <> '000000' AND {m}.restart_of IS NULL"


def _failing_calls(subject: str, stories: str, same: str, told: str, same_failure: str = "") -> str:
    """The query for one kind of story: `subject` groups the messages `m` that `stories` lets through.

    `same` says which messages `s` belong to a story `f`, `same_failure` which of them alone fail it; `told` are its columns.
    """
    call = (
        f"FROM messages s WHERE s.connection_id = $1 AND s.activity = f.activity AND {same} AND {_LIVE.format(m='s')}"
    )
    failed = f"{call} AND {_FAILED.format(m='s')}{same_failure}"
    since_success = f"{failed} AND s.received_at > COALESCE(f.last_success, -1)"
    return f"""
    WITH failing AS (
      SELECT m.activity, {subject} AS subject, MAX(m.received_at) AS last_at
      FROM messages m
      WHERE m.connection_id = $1 AND m.received_at >= $2 AND m.activity IN @list($3)
        AND {_LIVE.format(m="m")} AND {_FAILED.format(m="m")} AND {stories}
      GROUP BY m.activity, {subject}
      ORDER BY last_at DESC LIMIT {FAILING_CALLS_READ}
    ),
    succeeded AS (
      SELECT f.activity, f.subject,
        (SELECT MIN(s.received_at) {call} AND s.outcome = '000000' AND s.restart_of IS NULL) AS first_success,
        (SELECT MAX(s.received_at) {call} AND s.outcome = '000000') AS last_success
      FROM failing f
    )
    SELECT f.activity, {told}, f.first_success,
      (SELECT MIN(s.received_at) {failed}) AS first_failure,
      (SELECT MIN(s.received_at) {since_success}) AS failing_since,
      (SELECT COUNT(*) {since_success}) AS attempts
    FROM succeeded f
"""


_STORIES: Final = (
    # By order; what names neither an order nor a license we know is one story, which any call without an order ends: the license may
    # have become known in between.
    _failing_calls(
        subject="COALESCE(m.order_id, '')",
        stories="(m.order_id IS NOT NULL OR m.license_id IS NULL)",
        same="COALESCE(s.order_id, '') = f.subject",
        same_failure=" AND (s.order_id IS NOT NULL OR s.license_id IS NULL)",
        told="f.subject AS order_id, NULL AS license,"
        " EXISTS (SELECT 1 FROM orders o WHERE o.connection_id = $1 AND o.order_id = f.subject) AS learned",
    ),
    _failing_calls(
        subject="m.license_id",
        stories="m.order_id IS NULL AND m.license_id IS NOT NULL",
        same="s.order_id IS NULL AND s.license_id IS NOT NULL AND s.license_id = f.subject",
        told="NULL AS order_id, (SELECT l.public_id FROM licenses l WHERE l.id = f.subject) AS license, 1 AS learned",
    ),
)


class ReportedFigure(msgspec.Struct, frozen=True, kw_only=True):
    """The marketplace's own count of failed orders in a month, as an operator read it."""

    month: str
    failed_orders: int
    reported_at: Instant
    reported_by: str
    version: int


class SaleDeclaration(msgspec.Struct, frozen=True, kw_only=True):
    """Whether products of the connection are on sale, as an operator says."""

    on_sale: OnSale
    declared_at: Instant
    declared_by: str
    version: int


async def failing_calls(
    tx: Tx, connection_id: int, activities: Collection[str], *, since: Instant
) -> list[FailingCall]:
    """Live calls of these activities that failed since then, each with all its tries that are kept.

    At most `FAILING_CALLS_READ` by order, and as many by license. A restart by an operator counts as a success of ours, but not as one that the
    marketplace has seen.
    """
    rows = [row for story in _STORIES for row in await tx.all(story, connection_id, since, sorted(activities))]
    return [
        FailingCall(
            activity=row["activity"],
            order_id=row["order_id"] or None,
            license=row["license"],
            attempts=row["attempts"],
            failing_since=row["failing_since"],
            first_failure=row["first_failure"],
            first_success=row["first_success"],
            learned=bool(row["learned"]),
        )
        for row in rows
    ]


async def probes_by_quarter(tx: Tx, connection_id: int, *, since: Instant) -> list[tuple[int, int, int]]:
    """Debug cases that the marketplace replayed since then, as (quarter of an hour since 1970, cases, failed)."""
    rows = await tx.all(
        f"SELECT received_at / {QUARTER} AS quarter, COUNT(*) AS cases,"
        " COUNT(CASE WHEN outcome <> '000000' THEN 1 END) AS failed FROM messages"
        " WHERE connection_id = $1 AND received_at >= $2"
        " AND direction = 'in' AND purpose = 'test' AND authenticated_at IS NOT NULL GROUP BY quarter",
        connection_id,
        since,
    )
    return [(row["quarter"], row["cases"], row["failed"]) for row in rows]


async def last_probe_at(tx: Tx, connection_id: int) -> Instant | None:
    """When the last debug case of the marketplace came; None = none is kept."""
    row = await tx.one(
        "SELECT MAX(received_at) AS last_at FROM messages WHERE connection_id = $1"
        " AND direction = 'in' AND purpose = 'test' AND authenticated_at IS NOT NULL",
        connection_id,
    )
    return row["last_at"] if row else None


async def software_locked(tx: Tx, connection_id: int, now: Instant) -> int:
    """Live credentials of the connection that are locked after bad signatures, from one address at least."""
    row = await tx.one(
        "SELECT COUNT(DISTINCT f.credential_id) AS locked FROM signature_failures f"
        " JOIN credentials c ON c.id = f.credential_id"
        " WHERE f.locked_until > $2 AND c.connection_id = $1 AND c.revoked_at IS NULL",
        connection_id,
        now,
    )
    assert row is not None
    return int(row["locked"])


async def observe_refusals(tx: Tx, connection_id: int, refusals: int, now: Instant) -> None:
    """Keep how many refusals in a row this process counts; 0 forgets it."""
    if refusals == 0:
        await tx.run("DELETE FROM open_api_refusals WHERE connection_id = $1 AND node = $2", connection_id, tx.chain)
        return
    await tx.run(
        "INSERT INTO open_api_refusals (connection_id, node, refusals, observed_at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (connection_id, node) DO UPDATE"
        " SET refusals = excluded.refusals, observed_at = excluded.observed_at",
        connection_id,
        tx.chain,
        refusals,
        now,
    )


async def refusals(tx: Tx, connection_id: int, *, after: Instant, before: Instant) -> int:
    """The most refusals in a row that any process has counted between the two instants."""
    row = await tx.one(
        "SELECT MAX(refusals) AS most FROM open_api_refusals"
        " WHERE connection_id = $1 AND observed_at BETWEEN $2 AND $3",
        connection_id,
        after,
        before,
    )
    return (row["most"] or 0) if row else 0


def _figure(row: Row) -> ReportedFigure:
    return ReportedFigure(
        month=row["month"],
        failed_orders=row["failed_orders"],
        reported_at=row["reported_at"],
        reported_by=row["reported_by"],
        version=row["version"],
    )


async def figure(tx: Tx, connection_id: int, month: str) -> ReportedFigure | None:
    """The marketplace's figure of a month, where somebody entered it."""
    row = await tx.one(
        "SELECT month, failed_orders, reported_at, reported_by, version FROM marketplace_figures"
        " WHERE connection_id = $1 AND month = $2",
        connection_id,
        month,
    )
    return _figure(row) if row else None


async def put_figure(tx: Tx, connection_id: int, told: ReportedFigure) -> bool:
    """Write a figure over the one with `told.version` (0 = there is none yet); say whether it was still that one."""
    values = (connection_id, told.month, told.failed_orders, told.reported_at, told.reported_by)
    if told.version == 0:
        added = await tx.run(
            "INSERT INTO marketplace_figures (connection_id, month, failed_orders, reported_at, reported_by)"
            " VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            *values,
        )
        return added == 1
    changed = await tx.run(
        "UPDATE marketplace_figures SET failed_orders = $3, reported_at = $4, reported_by = $5, version = version + 1"
        " WHERE connection_id = $1 AND month = $2 AND version = $6",
        *values,
        told.version,
    )
    return changed == 1


async def declaration(tx: Tx, connection_id: int) -> SaleDeclaration | None:
    """What the operator says about sales, where something was said."""
    row = await tx.one(
        "SELECT on_sale, declared_at, declared_by, version FROM sale_declarations WHERE connection_id = $1",
        connection_id,
    )
    if row is None:
        return None
    return SaleDeclaration(
        on_sale=OnSale(row["on_sale"]),
        declared_at=row["declared_at"],
        declared_by=row["declared_by"],
        version=row["version"],
    )


async def put_declaration(tx: Tx, connection_id: int, said: SaleDeclaration) -> bool:
    """Write a declaration over the one with `said.version` (0 = there is none yet); say whether it was still that one."""
    values = (connection_id, said.on_sale.value, said.declared_at, said.declared_by)
    if said.version == 0:
        added = await tx.run(
            "INSERT INTO sale_declarations (connection_id, on_sale, declared_at, declared_by)"
            " VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            *values,
        )
        return added == 1
    changed = await tx.run(
        "UPDATE sale_declarations SET on_sale = $2, declared_at = $3, declared_by = $4, version = version + 1"
        " WHERE connection_id = $1 AND version = $5",
        *values,
        said.version,
    )
    return changed == 1
