"""`/orders`: orders with their lines, from every source, and those entered by hand."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from licensesvc.domain.errors import NotFound
from licensesvc.domain.instants import rfc3339
from licensesvc.domain.order import OrderType
from licensesvc.domain.policy import Period
from licensesvc.services.orders.enter_order import EnterOrder, enter_order
from licensesvc.services.runtime import Runtime
from licensesvc.storage import catalog, connections, licenses, orders, supervision
from licensesvc.storage.orders import StoredOrder
from licensesvc.storage.port import Tx
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import OPERATOR, READER
from licensesvc.web.admin.answers import IdempotencyKey, OrderId, OurId, PublicId, Time, perform, time_or_none
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """An order; `order_id` is the marketplace's, `order_time` null until a source tells it, `buyer` our id or null."""

    id: str
    connection: str
    order_id: str
    order_type: OrderType
    source: str
    buyer: str | None
    order_time: Time | None
    received_at: Time


class LineView(msgspec.Struct, frozen=True, kw_only=True):
    """A line with what the sources told of it; `license` and `case` are our ids, null where there is none."""

    id: str
    line_id: str
    product: str
    instance_id: str | None
    amount: int | None
    period: Period | None
    charging_mode: str | None
    license: str | None
    case: str | None


class OrderDetail(OrderView, frozen=True, kw_only=True):
    """An order with its lines."""

    lines: list[LineView]


async def order_views(tx: Tx, records: Sequence[StoredOrder]) -> list[OrderView]:
    """What is shown of these orders."""
    connection_ids = await connections.public_ids(tx, {order.connection_id for order in records})
    buyer_ids = await orders.buyer_public_ids(tx, {order.buyer_id for order in records if order.buyer_id is not None})
    return [_view(order, connection_ids[order.connection_id], buyer_ids.get(order.buyer_id)) for order in records]


def _view(order: StoredOrder, connection: str, buyer: str | None) -> OrderView:
    return OrderView(
        id=order.public_id,
        connection=connection,
        order_id=order.order_id,
        order_type=order.order_type,
        source=order.source,
        buyer=buyer,
        order_time=time_or_none(order.order_time),
        received_at=rfc3339(order.received_at),
    )


async def order_details(tx: Tx, records: Sequence[StoredOrder]) -> list[OrderDetail]:
    """What is shown of these orders and their lines."""
    views = await order_views(tx, records)
    lines = await orders.lines_of(tx, [order.id for order in records])
    refs = [line.id for line in lines]
    product_ids = await catalog.product_public_ids(tx, {line.product_id for line in lines})
    license_ids = await licenses.public_ids_of_lines(tx, refs)
    case_ids = await supervision.public_ids_of_lines(tx, refs)
    shown: dict[int, list[LineView]] = {order.id: [] for order in records}
    for line in lines:
        view = LineView(
            id=line.public_id,
            line_id=line.line_id,
            product=product_ids[line.product_id],
            instance_id=line.instance_id,
            amount=line.terms.amount,
            period=line.terms.period,
            charging_mode=line.terms.charging_mode,
            license=license_ids.get(line.id),
            case=case_ids.get(line.id),
        )
        shown[line.order_ref].append(view)
    return [
        OrderDetail(**msgspec.structs.asdict(view), lines=shown[order.id])
        for order, view in zip(records, views, strict=True)
    ]


@post(
    "/orders",
    opt=OPERATOR,
    operation_id="enterOrder",
    responses=problems(
        *JSON_BODY,
        "INVALID_PARAMETER",
        "PRODUCT_NOT_MAPPED",
        "ORDER_CONFLICT",
        "NOT_ISSUABLE",
        "ALREADY_EXISTS",
        "IDEMPOTENCY_KEY_REUSED",
    ),
)
async def add_order(
    request: JSONRequest,
    data: JSONBody[EnterOrder],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[OrderDetail]:
    """Enter an order by hand; where we make the codes, its lines are issued licenses. The same order again changes nothing."""

    async def verb(tx: Tx) -> OrderDetail:
        received = await enter_order(tx, runtime, data, by=request.user.name)
        return (await order_details(tx, [received[0].order]))[0]

    return await perform(request, runtime, idempotency_key, verb)


@get("/orders", opt=READER, operation_id="listOrders", responses=problems("INVALID_CURSOR"))
async def list_orders(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    order_id: OrderId = None,
    connection: OurId = None,
    buyer: OurId = None,
    order_type: Annotated[OrderType | None, QueryParameter(description="Only orders that do this.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[OrderView]]:
    """List orders, the oldest first."""
    where = (
        EVERYTHING.given("o.order_id = {}", order_id)
        .given("o.connection_id = (SELECT id FROM connections WHERE public_id = {})", connection)
        .given("o.buyer_id = (SELECT id FROM buyers WHERE public_id = {})", buyer)
        .given("o.order_type = {}", order_type)
    )

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, OrderView]]:
        records = await orders.page(tx, after=after, limit=count, where=where)
        return list(zip([order.id for order in records], await order_views(tx, records), strict=True))

    return await page_of(request, runtime.db, "orders", cursor=cursor, limit=limit, fetch=fetch)


@get("/orders/{our_id:str}", opt=READER, operation_id="getOrder", responses=problems("NOT_FOUND"))
async def get_order(our_id: PublicId, runtime: NamedDependency[Runtime]) -> OrderDetail:
    """Return an order with its lines."""

    async def detail(tx: Tx) -> OrderDetail:
        order = await orders.by_public_id(tx, our_id)
        if order is None:
            raise NotFound
        return (await order_details(tx, [order]))[0]

    return await runtime.db.read(detail)


ROUTES: Final = (add_order, list_orders, get_order)
