"""Rows of `buyers`, `orders` and `order_lines`."""

from collections.abc import Collection

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.order import LineTerms, OrderType
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

_ORDER = "id, public_id, connection_id, order_id, order_type, buyer_id, source, order_time, received_at"
_LINE = "id, public_id, order_ref, line_id, product_id, instance_id, terms"


class StoredOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A marketplace order as we know it; `order_time` is None until a source tells it."""

    id: int
    public_id: str
    connection_id: int
    order_id: str
    order_type: OrderType
    buyer_id: int | None
    source: str
    order_time: Instant | None
    received_at: Instant


class StoredLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an order: a product with the terms that the sources told."""

    id: int
    public_id: str
    order_ref: int
    line_id: str
    product_id: int
    instance_id: str | None
    terms: LineTerms


class LinePlace(msgspec.Struct, frozen=True, kw_only=True):
    """Where a line stands: our id of its order, and the marketplace's ids of order and line."""

    order: str
    order_id: str
    line_id: str


class Buyer(msgspec.Struct, frozen=True, kw_only=True):
    """Who bought, as the marketplace names them. Personal data: stays in this table."""

    customer_id: str
    name: str | None = None
    real_name: str | None = None
    email: str | None = None
    mobile: str | None = None

    def adds_to(self, known: "Buyer") -> bool:
        """Whether this tells anything that is not known yet."""
        return any(
            value is not None and value != getattr(known, name) for name, value in msgspec.structs.asdict(self).items()
        )

    def __repr__(self) -> str:
        return "Buyer(…)"


def _order(row: Row) -> StoredOrder:
    return StoredOrder(
        id=row["id"],
        public_id=row["public_id"],
        connection_id=row["connection_id"],
        order_id=row["order_id"],
        order_type=OrderType(row["order_type"]),
        buyer_id=row["buyer_id"],
        source=row["source"],
        order_time=row["order_time"],
        received_at=row["received_at"],
    )


def _line(row: Row) -> StoredLine:
    return StoredLine(
        id=row["id"],
        public_id=row["public_id"],
        order_ref=row["order_ref"],
        line_id=row["line_id"],
        product_id=row["product_id"],
        instance_id=row["instance_id"],
        terms=msgspec.json.decode(row["terms"], type=LineTerms),
    )


async def put_buyer(tx: Tx, connection_id: int, public_id: str, buyer: Buyer, now: Instant) -> int:
    """Add a buyer, or fill what is not known of them yet; return the internal id."""
    row = await tx.one(
        "INSERT INTO buyers (public_id, connection_id, customer_id, name, real_name, email, mobile, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (connection_id, customer_id) DO UPDATE"
        " SET name = COALESCE(excluded.name, buyers.name), real_name = COALESCE(excluded.real_name, buyers.real_name),"
        " email = COALESCE(excluded.email, buyers.email), mobile = COALESCE(excluded.mobile, buyers.mobile)"
        " RETURNING id",
        public_id,
        connection_id,
        buyer.customer_id,
        buyer.name,
        buyer.real_name,
        buyer.email,
        buyer.mobile,
        now,
    )
    assert row is not None
    return int(row["id"])


async def buyer_of_line(tx: Tx, line_ref: int) -> Buyer | None:
    """Who bought an order line, as far as that is known."""
    row = await tx.one(
        "SELECT b.customer_id, b.name, b.real_name, b.email, b.mobile FROM buyers b"
        " JOIN orders o ON o.buyer_id = b.id JOIN order_lines l ON l.order_ref = o.id WHERE l.id = $1",
        line_ref,
    )
    if row is None:
        return None
    return Buyer(
        customer_id=row["customer_id"],
        name=row["name"],
        real_name=row["real_name"],
        email=row["email"],
        mobile=row["mobile"],
    )


async def buyer_public_ids(tx: Tx, buyer_ids: Collection[int]) -> dict[int | None, str]:
    """Our ids of these buyers, by internal id."""
    rows = await tx.all("SELECT id, public_id FROM buyers WHERE id IN @ints($1)", sorted(buyer_ids))
    return {row["id"]: row["public_id"] for row in rows}


async def insert(tx: Tx, order: StoredOrder) -> int | None:
    """Add an order; its `id` field is ignored, the new internal id is returned; None = somebody has just added it."""
    row = await tx.one(
        "INSERT INTO orders (public_id, connection_id, order_id, order_type, buyer_id, source, order_time, received_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (connection_id, order_id) DO NOTHING RETURNING id",
        order.public_id,
        order.connection_id,
        order.order_id,
        order.order_type.value,
        order.buyer_id,
        order.source,
        order.order_time,
        order.received_at,
    )
    return int(row["id"]) if row else None


async def update(tx: Tx, order: StoredOrder) -> None:
    """Write back what later sources told: type, buyer and order time."""
    await tx.run(
        "UPDATE orders SET order_type = $2, buyer_id = $3, order_time = $4 WHERE id = $1",
        order.id,
        order.order_type.value,
        order.buyer_id,
        order.order_time,
    )


async def find(tx: Tx, connection_id: int, order_id: str) -> StoredOrder | None:
    """Find an order by the marketplace's id and keep it, with all that hangs on it, until the commit."""
    row = await tx.one(
        f"SELECT {_ORDER} FROM orders o WHERE connection_id = $1 AND order_id = $2 @lock(o)", connection_id, order_id
    )
    return _order(row) if row else None


async def by_order_id(tx: Tx, connection_id: int, order_id: str) -> StoredOrder | None:
    """Find an order by the marketplace's id, only to show it."""
    row = await tx.one(
        f"SELECT {_ORDER} FROM orders WHERE connection_id = $1 AND order_id = $2", connection_id, order_id
    )
    return _order(row) if row else None


async def by_public_id(tx: Tx, public_id: str) -> StoredOrder | None:
    """Find an order by our id."""
    row = await tx.one(f"SELECT {_ORDER} FROM orders WHERE public_id = $1", public_id)
    return _order(row) if row else None


async def page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[StoredOrder]:
    """Up to `limit` orders with an internal id above `after`, ascending; conditions name `o`."""
    rows = await tx.all(
        f"SELECT {_ORDER} FROM orders o WHERE id > $1{where.sql(3)} ORDER BY id LIMIT $2", after, limit, *where.values
    )
    return [_order(row) for row in rows]


async def insert_line(tx: Tx, line: StoredLine, now: Instant) -> int:
    """Add a line; its `id` field is ignored, the new internal id is returned."""
    row = await tx.one(
        "INSERT INTO order_lines (public_id, order_ref, line_id, product_id, instance_id, terms, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
        line.public_id,
        line.order_ref,
        line.line_id,
        line.product_id,
        line.instance_id,
        msgspec.json.encode(line.terms).decode(),
        now,
    )
    assert row is not None
    return int(row["id"])


async def update_line(tx: Tx, line: StoredLine) -> None:
    """Write back what later sources told: instance id and terms."""
    await tx.run(
        "UPDATE order_lines SET instance_id = $2, terms = $3 WHERE id = $1",
        line.id,
        line.instance_id,
        msgspec.json.encode(line.terms).decode(),
    )


async def find_line(tx: Tx, order_ref: int, line_id: str) -> StoredLine | None:
    """Find a line of an order by the marketplace's line id."""
    row = await tx.one(f"SELECT {_LINE} FROM order_lines WHERE order_ref = $1 AND line_id = $2", order_ref, line_id)
    return _line(row) if row else None


async def lines_of(tx: Tx, order_refs: Collection[int]) -> list[StoredLine]:
    """All lines of these orders, ascending."""
    rows = await tx.all(f"SELECT {_LINE} FROM order_lines WHERE order_ref IN @ints($1) ORDER BY id", sorted(order_refs))
    return [_line(row) for row in rows]


async def line_by_id(tx: Tx, line_ref: int) -> StoredLine:
    """Load a line that a foreign key promises."""
    row = await tx.one(f"SELECT {_LINE} FROM order_lines WHERE id = $1", line_ref)
    assert row is not None
    return _line(row)


async def places_of(tx: Tx, line_refs: Collection[int]) -> dict[int, LinePlace]:
    """To which order each of these lines belongs, by internal id of the line."""
    rows = await tx.all(
        "SELECT l.id, l.line_id, o.public_id, o.order_id FROM order_lines l JOIN orders o ON o.id = l.order_ref"
        " WHERE l.id IN @ints($1)",
        sorted(line_refs),
    )
    return {
        row["id"]: LinePlace(order=row["public_id"], order_id=row["order_id"], line_id=row["line_id"]) for row in rows
    }


async def by_id(tx: Tx, order_ref: int) -> StoredOrder:
    """Load an order that a foreign key promises."""
    row = await tx.one(f"SELECT {_ORDER} FROM orders WHERE id = $1", order_ref)
    assert row is not None
    return _order(row)


async def instance_id_taken(tx: Tx, instance_id: str) -> bool:
    """Say whether a line already carries this instance id."""
    return await tx.one("SELECT 1 AS taken FROM order_lines WHERE instance_id = $1", instance_id) is not None


async def delete_with_line(tx: Tx, order_ref: int, line_ref: int) -> None:
    """Remove an order whose only line nothing hangs on any more."""
    await tx.run("DELETE FROM order_lines WHERE id = $1", line_ref)
    await tx.run("DELETE FROM orders WHERE id = $1", order_ref)
