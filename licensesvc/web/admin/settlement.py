"""`/settlement…`: what each order line costs, what was paid, in which month it is billed, and what is billed of each product."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, post, put
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from licensesvc.domain.errors import NotFound
from licensesvc.domain.instants import rfc3339
from licensesvc.domain.money import PaymentState, SalesModel, TransactionKind
from licensesvc.domain.supervision import Node
from licensesvc.services.money.settle import (
    EnterTransaction,
    SetPrice,
    SetSalesModel,
    enter_transaction,
    set_price,
    set_sales_model,
)
from licensesvc.services.runtime import Runtime
from licensesvc.storage import money
from licensesvc.storage.money import SettlementLine, Transaction
from licensesvc.storage.port import Tx
from licensesvc.storage.where import EVERYTHING, Where
from licensesvc.web.admin.access import OPERATOR, OWNER, READER
from licensesvc.web.admin.answers import IdempotencyKey, OrderId, OurId, PublicId, Time, perform, time_or_none
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems

Month = Annotated[str, QueryParameter(pattern=r"^\d{4}-(0[1-9]|1[0-2])$(?!\n)", description="Such as 2027-01.")]
MonthOrNone = Annotated[
    str | None,
    QueryParameter(pattern=r"^\d{4}-(0[1-9]|1[0-2])$(?!\n)", description="Only lines that are billed in this month."),
]


class LineView(msgspec.Struct, frozen=True, kw_only=True):
    """An order line with its money, amounts in hundredths of `currency`.

    `month` is when it is billed, null until its supervision is completed; `billed` the price without what was given back.
    """

    case: str
    line: str
    order_id: str
    line_id: str
    product: str
    sales_model: SalesModel
    node: Node
    completed_at: Time | None
    month: str | None
    currency: str | None
    price: int | None
    paid: int
    payment: PaymentState
    refunded: int
    billed: int | None


class TotalView(msgspec.Struct, frozen=True, kw_only=True):
    """What is billed of a product in one currency up to and with a month: completed lines with a price, the sum, what was given back."""

    product: str
    currency: str
    lines: int
    price: int
    refunded: int
    billed: int


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The totals of all products; `until` is the last month that counts."""

    until: str
    totals: list[TotalView]


class TransactionView(msgspec.Struct, frozen=True, kw_only=True):
    """A payment or refund; `amount` in hundredths of the line's currency."""

    id: str
    line: str
    reference: str
    kind: TransactionKind
    amount: int
    at: Time
    source: str


def line_view(line: SettlementLine) -> LineView:
    """What is shown of a line."""
    return LineView(
        case=line.case,
        line=line.line,
        order_id=line.order_id,
        line_id=line.line_id,
        product=line.product,
        sales_model=line.money.sales_model,
        node=Node(line.node),
        completed_at=time_or_none(line.completed_at),
        month=line.month,
        currency=line.currency,
        price=line.money.price,
        paid=line.money.paid,
        payment=line.money.state,
        refunded=line.money.refunds,
        billed=line.money.billed,
    )


def _transaction_view(transaction: Transaction, line: str) -> TransactionView:
    return TransactionView(
        id=transaction.public_id,
        line=line,
        reference=transaction.reference,
        kind=transaction.kind,
        amount=transaction.amount,
        at=rfc3339(transaction.at),
        source=transaction.source,
    )


def _sold(product: str | None, connection: str | None) -> Where:
    return EVERYTHING.given("p.public_id = {}", product).given(
        "c.connection_id = (SELECT id FROM connections WHERE public_id = {})", connection
    )


@get("/settlement/lines", opt=READER, operation_id="listSettlementLines", responses=problems("INVALID_CURSOR"))
async def list_lines(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    month: MonthOrNone = None,
    product: OurId = None,
    connection: OurId = None,
    order_id: OrderId = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[LineView]]:
    """List order lines with their money, the oldest case first."""
    where = _sold(product, connection).given("c.settlement_month = {}", month).given("o.order_id = {}", order_id)

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, LineView]]:
        lines = await money.settlement(tx, after=after, limit=count, where=where)
        return [(line.id, line_view(line)) for line in lines]

    return await page_of(request, runtime.db, "settlement", cursor=cursor, limit=limit, fetch=fetch)


@get("/settlement/totals", opt=READER, operation_id="getSettlementTotals", responses=problems())
async def get_totals(
    runtime: NamedDependency[Runtime],
    until: Month,
    product: OurId = None,
    connection: OurId = None,
) -> Totals:
    """Return what is billed of each product, all months up to and with this one together."""
    found = await runtime.db.read(lambda tx: money.totals(tx, until=until, where=_sold(product, connection)))
    return Totals(
        until=until,
        totals=[
            TotalView(
                product=total.product,
                currency=total.currency,
                lines=total.lines,
                price=total.price,
                refunded=total.refunds,
                billed=total.price - total.refunds,
            )
            for total in found
        ],
    )


@put(
    "/settlement/lines/{line_ref:str}/price",
    opt=OPERATOR,
    operation_id="setLinePrice",
    responses=problems("NOT_FOUND", *JSON_BODY, "INVALID_PARAMETER", "ORDER_CONFLICT"),
)
async def put_price(
    request: JSONRequest, line_ref: PublicId, data: JSONBody[SetPrice], runtime: NamedDependency[Runtime]
) -> LineView:
    """Tell what an order line (`lin_…`) costs; the same again changes nothing."""

    async def verb(tx: Tx) -> LineView:
        await set_price(tx, runtime, line_ref, data, by=request.user.name)
        found = await money.settlement(tx, after=0, limit=1, where=EVERYTHING.given("l.public_id = {}", line_ref))
        if not found:
            raise NotFound("the order line has no supervision case, so nothing of it is billed")
        return line_view(found[0])

    return await runtime.db.write(verb)


@post(
    "/settlement/transactions",
    opt=OPERATOR,
    operation_id="enterTransaction",
    responses=problems("NOT_FOUND", *JSON_BODY, "INVALID_PARAMETER", "ORDER_CONFLICT", "IDEMPOTENCY_KEY_REUSED"),
)
async def add_transaction(
    request: JSONRequest,
    data: JSONBody[EnterTransaction],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[TransactionView]:
    """Enter a payment or refund; the same reference with the same contents again is the same transaction."""

    async def verb(tx: Tx) -> TransactionView:
        transaction, _ = await enter_transaction(tx, runtime, data, by=request.user.name)
        return _transaction_view(transaction, data.line)

    return await perform(request, runtime, idempotency_key, verb)


@get("/settlement/transactions", opt=READER, operation_id="listTransactions", responses=problems("INVALID_CURSOR"))
async def list_transactions(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    line: OurId = None,
    connection: OurId = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[TransactionView]]:
    """List payments and refunds in the order in which we learned of them."""
    where = EVERYTHING.given("x.line_ref = (SELECT id FROM order_lines WHERE public_id = {})", line).given(
        "x.connection_id = (SELECT id FROM connections WHERE public_id = {})", connection
    )

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, TransactionView]]:
        found = await money.transactions(tx, after=after, limit=count, where=where)
        lines = await money.line_publics(tx, {one.line_ref for one in found})
        return [(one.id, _transaction_view(one, lines[one.line_ref])) for one in found]

    return await page_of(request, runtime.db, "transactions", cursor=cursor, limit=limit, fetch=fetch)


@put(
    "/products/{product_id:str}/sales-model",
    opt=OWNER,
    operation_id="setSalesModel",
    status_code=204,
    responses=problems("NOT_FOUND", *JSON_BODY),
)
async def put_sales_model(
    request: JSONRequest, product_id: PublicId, data: JSONBody[SetSalesModel], runtime: NamedDependency[Runtime]
) -> None:
    """Tell how a product is sold: general (paid with the order) or joint (paid later, 联营)."""
    await runtime.db.write(
        lambda tx: set_sales_model(tx, runtime, product_id, data.sales_model, data.reason, by=request.user.name)
    )


ROUTES: Final = (list_lines, get_totals, put_price, add_transaction, list_transactions, put_sales_model)
