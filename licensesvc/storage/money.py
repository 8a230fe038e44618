"""Rows of `line_prices` and `transactions`, and the lines of a settlement."""

from collections.abc import Collection

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.money import LineMoney, SalesModel, TransactionKind
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

_SUM = (
    "CAST((SELECT COALESCE(SUM(x.amount), 0) FROM transactions x WHERE x.line_ref = l.id AND x.kind = '{}') AS bigint)"
)
_PAYMENTS, _REFUNDS = (_SUM.format(kind.value) for kind in TransactionKind)
_MONEY = f"p.sales_model, m.currency, m.price, {_PAYMENTS} AS payments, {_REFUNDS} AS refunds"
_PRICE = " LEFT JOIN line_prices m ON m.line_ref = l.id"


class SettlementLine(msgspec.Struct, frozen=True, kw_only=True):
    """The supervision case of an order line with its money; `month` is when it is billed, None while it is not completed."""

    id: int
    case: str
    line: str
    order_id: str
    line_id: str
    product: str
    node: str
    completed_at: Instant | None
    month: str | None
    currency: str | None
    money: LineMoney


class ProductTotal(msgspec.Struct, frozen=True, kw_only=True):
    """What is billed of one product in one currency: completed lines, their prices, what was given back of them."""

    product: str
    currency: str
    lines: int
    price: int
    refunds: int


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the marketplace's transaction list, or one that an operator entered; `amount` in hundredths."""

    id: int = 0
    public_id: str
    connection_id: int
    line_ref: int
    reference: str
    kind: TransactionKind
    amount: int
    at: Instant
    source: str


def _money(row: Row) -> LineMoney:
    return LineMoney(
        sales_model=SalesModel(row["sales_model"]), price=row["price"], payments=row["payments"], refunds=row["refunds"]
    )


async def of_line(tx: Tx, line_ref: int) -> tuple[LineMoney, str | None]:
    """The figures of a line that a foreign key promises, and its currency."""
    row = await tx.one(
        f"SELECT {_MONEY} FROM order_lines l JOIN products p ON p.id = l.product_id{_PRICE} WHERE l.id = $1", line_ref
    )
    assert row is not None
    return _money(row), row["currency"]


async def put_price(tx: Tx, line_ref: int, *, currency: str, price: int, source: str, now: Instant) -> None:
    """Write what a line costs."""
    await tx.run(
        "INSERT INTO line_prices (line_ref, currency, price, source, set_at) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (line_ref) DO UPDATE SET currency = excluded.currency, price = excluded.price,"
        " source = excluded.source, set_at = excluded.set_at",
        line_ref,
        currency,
        price,
        source,
        now,
    )


async def add_transaction(tx: Tx, transaction: Transaction, now: Instant) -> None:
    """Add a transaction; one with its reference that is there already violates a UNIQUE constraint."""
    await tx.run(
        "INSERT INTO transactions (public_id, connection_id, line_ref, reference, kind, amount, at, source, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        transaction.public_id,
        transaction.connection_id,
        transaction.line_ref,
        transaction.reference,
        transaction.kind.value,
        transaction.amount,
        transaction.at,
        transaction.source,
        now,
    )


async def by_reference(tx: Tx, connection_id: int, reference: str) -> Transaction | None:
    """Find a transaction by the marketplace's number of it."""
    found = await transactions(
        tx,
        after=0,
        limit=1,
        where=EVERYTHING.given("x.connection_id = {}", connection_id).given("x.reference = {}", reference),
    )
    return found[0] if found else None


async def transactions(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[Transaction]:
    """Up to `limit` transactions with an internal id above `after`, ascending; conditions name `x`."""
    rows = await tx.all(
        "SELECT id, public_id, connection_id, line_ref, reference, kind, amount, at, source FROM transactions x"
        f" WHERE id > $1{where.sql(3)} ORDER BY id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [
        Transaction(
            id=row["id"],
            public_id=row["public_id"],
            connection_id=row["connection_id"],
            line_ref=row["line_ref"],
            reference=row["reference"],
            kind=TransactionKind(row["kind"]),
            amount=row["amount"],
            at=row["at"],
            source=row["source"],
        )
        for row in rows
    ]


async def settlement(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[SettlementLine]:
    """Up to `limit` cases with an internal id above `after` and their money; conditions name `c` (case), `l` (line), `p` (product)."""
    rows = await tx.all(
        "SELECT c.id, c.public_id AS case_id, l.public_id AS line, o.order_id, l.line_id, p.public_id AS product, c.node,"
        f" c.completed_at, c.settlement_month, {_MONEY} FROM supervision_cases c JOIN order_lines l ON l.id = c.line_ref"
        f" JOIN orders o ON o.id = l.order_ref JOIN products p ON p.id = l.product_id{_PRICE}"
        f" WHERE c.id > $1{where.sql(3)} ORDER BY c.id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [
        SettlementLine(
            id=row["id"],
            case=row["case_id"],
            line=row["line"],
            order_id=row["order_id"],
            line_id=row["line_id"],
            product=row["product"],
            node=row["node"],
            completed_at=row["completed_at"],
            month=row["settlement_month"],
            currency=row["currency"],
            money=_money(row),
        )
        for row in rows
    ]


async def totals(tx: Tx, *, until: str, where: Where = EVERYTHING) -> list[ProductTotal]:
    """Per product and currency what is billed up to and with the month `until`; conditions name `c` and `p`."""
    rows = await tx.all(
        "SELECT p.public_id AS product, m.currency, COUNT(*) AS lines, CAST(SUM(m.price) AS bigint) AS price,"
        f" CAST(SUM({_REFUNDS}) AS bigint) AS refunds FROM supervision_cases c"
        f" JOIN order_lines l ON l.id = c.line_ref JOIN products p ON p.id = l.product_id{_PRICE}"
        f" WHERE c.settlement_month <= $1 AND m.currency IS NOT NULL{where.sql(2)}"
        " GROUP BY p.public_id, m.currency ORDER BY p.public_id, m.currency",
        until,
        *where.values,
    )
    return [
        ProductTotal(
            product=row["product"],
            currency=row["currency"],
            lines=row["lines"],
            price=row["price"],
            refunds=row["refunds"],
        )
        for row in rows
    ]


async def line_publics(tx: Tx, line_refs: Collection[int]) -> dict[int, str]:
    """Our ids of these lines."""
    rows = await tx.all("SELECT id, public_id FROM order_lines WHERE id IN @ints($1)", sorted(line_refs))
    return {row["id"]: row["public_id"] for row in rows}


async def find_line(tx: Tx, public_id: str) -> tuple[int, int] | None:
    """Internal ids of the line with this id of ours, and of its connection; the line is locked behind its order until the commit."""
    row = await tx.one(
        "SELECT l.id, o.connection_id FROM order_lines l JOIN orders o ON o.id = l.order_ref WHERE l.public_id = $1 @lock(o, l)",
        public_id,
    )
    return (row["id"], row["connection_id"]) if row else None


async def place(tx: Tx, connection_id: int, order_id: str, line_id: str) -> str | None:
    """Our id of the line that the marketplace calls so."""
    row = await tx.one(
        "SELECT l.public_id FROM order_lines l JOIN orders o ON o.id = l.order_ref"
        " WHERE o.connection_id = $1 AND o.order_id = $2 AND l.line_id = $3",
        connection_id,
        order_id,
        line_id,
    )
    return row["public_id"] if row else None


async def set_sales_model(tx: Tx, product: str, model: SalesModel) -> bool:
    """Write how a product is sold; False = there is no such product."""
    return (
        await tx.run(
            "UPDATE products SET sales_model = $2, version = version + 1 WHERE public_id = $1", product, model.value
        )
        == 1
    )
