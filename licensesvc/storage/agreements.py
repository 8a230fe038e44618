"""Rows of `agreements` and `agreement_acceptances`."""

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

_AGREEMENT = (
    "a.id, a.public_id, c.public_id AS connection, p.public_id AS product, a.title, a.version, a.sha256, a.effective_at,"
    " a.ends_at FROM agreements a JOIN connections c ON c.id = a.connection_id LEFT JOIN products p ON p.id = a.product_id"
)


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an agreement; without a `product` the seller's own with the marketplace. `sha256` names its text."""

    id: int = 0
    public_id: str
    connection: str
    product: str | None
    title: str
    version: str
    sha256: str | None
    effective_at: Instant
    ends_at: Instant | None


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """Which version the buyer of an order line has accepted; `buyer` by id, None where nobody told."""

    id: int
    agreement: str
    line: str
    order_id: str
    buyer: str | None
    accepted_at: Instant
    source: str


def _agreement(row: Row) -> Agreement:
    return Agreement(
        id=row["id"],
        public_id=row["public_id"],
        connection=row["connection"],
        product=row["product"],
        title=row["title"],
        version=row["version"],
        sha256=row["sha256"],
        effective_at=row["effective_at"],
        ends_at=row["ends_at"],
    )


async def insert(tx: Tx, agreement: Agreement, *, connection_id: int, product_id: int | None, now: Instant) -> None:
    """Add an agreement; its `id` field is ignored."""
    await tx.run(
        "INSERT INTO agreements (public_id, connection_id, product_id, title, version, sha256, effective_at, ends_at,"
        " created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        agreement.public_id,
        connection_id,
        product_id,
        agreement.title,
        agreement.version,
        agreement.sha256,
        agreement.effective_at,
        agreement.ends_at,
        now,
    )


async def by_public_id(tx: Tx, public_id: str) -> Agreement | None:
    """Find an agreement by its id."""
    row = await tx.one(f"SELECT {_AGREEMENT} WHERE a.public_id = $1", public_id)
    return _agreement(row) if row else None


async def page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[Agreement]:
    """Up to `limit` agreements with an internal id above `after`, ascending; conditions name `a`, `c` (connection), `p` (product)."""
    rows = await tx.all(
        f"SELECT {_AGREEMENT} WHERE a.id > $1{where.sql(3)} ORDER BY a.id LIMIT $2", after, limit, *where.values
    )
    return [_agreement(row) for row in rows]


async def accept(tx: Tx, agreement_id: int, line_ref: int, *, at: Instant, source: str) -> bool:
    """Record that a buyer has accepted it with an order line; False = that is known already."""
    added = await tx.run(
        "INSERT INTO agreement_acceptances (agreement_id, line_ref, accepted_at, source) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT DO NOTHING",
        agreement_id,
        line_ref,
        at,
        source,
    )
    return added == 1


async def acceptances(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[Accepted]:
    """Up to `limit` acceptances with an internal id above `after`, ascending; conditions name `a` (agreement), `l` (line), `o` (order)."""
    rows = await tx.all(
        "SELECT x.id, a.public_id AS agreement, l.public_id AS line, o.order_id, b.public_id AS buyer, x.accepted_at,"
        " x.source FROM agreement_acceptances x JOIN agreements a ON a.id = x.agreement_id"
        " JOIN order_lines l ON l.id = x.line_ref JOIN orders o ON o.id = l.order_ref"
        f" LEFT JOIN buyers b ON b.id = o.buyer_id WHERE x.id > $1{where.sql(3)} ORDER BY x.id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [
        Accepted(
            id=row["id"],
            agreement=row["agreement"],
            line=row["line"],
            order_id=row["order_id"],
            buyer=row["buyer"],
            accepted_at=row["accepted_at"],
            source=row["source"],
        )
        for row in rows
    ]
