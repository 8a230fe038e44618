"""Tells of an order what we know of it, in the marketplace's words (spec §1.6)."""

import msgspec

from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import OrderLineNotFound, OrderNotFound
from licensesvc.domain.instants import wire_stamp
from licensesvc.domain.order import FOR_A_PERIOD, ONE_TIME, LineTerms
from licensesvc.domain.policy import Period, Policy, Term
from licensesvc.marketplace.huawei.orders import BuyerInfo, OrderInfo, OrderLine, OrderQuestion, ProductInfo
from licensesvc.marketplace.huawei.orders_mock import MOCK_ORDERS
from licensesvc.marketplace.huawei.periods import fields_of
from licensesvc.storage import buyers, catalog, licenses, orders
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.orders import Buyer, StoredLine
from licensesvc.storage.port import Tx


async def tell_order(tx: Tx, connection: Connection, question: OrderQuestion) -> OrderInfo:
    """Return an order of the connection, or one of the mock orders that every seller may ask for.

    OrderNotFound: unknown, or of another connection. OrderLineNotFound: the order has other lines.
    """
    info = await _own(tx, connection, question.order_id) or MOCK_ORDERS.get(question.order_id)
    if info is None:
        raise OrderNotFound
    if question.order_line_id is None:
        return info
    lines = tuple(line for line in info.order_line if line.order_line_id == question.order_line_id)
    if not lines:
        raise OrderLineNotFound
    return msgspec.structs.replace(info, order_line=lines)


async def _own(tx: Tx, connection: Connection, order_id: str) -> OrderInfo | None:
    order = await orders.by_order_id(tx, connection.id, order_id)
    if order is None:
        return None
    buyer = None if order.buyer_id is None else await buyers.person(tx, order.buyer_id)
    lines = [await _line(tx, connection, line) for line in await orders.lines_of(tx, [order.id])]
    placed = order.received_at if order.order_time is None else order.order_time
    return OrderInfo(
        order_id=order.order_id,
        order_type=order.order_type,
        create_time=wire_stamp(placed, connection.wire),
        order_line=tuple(lines),
        buyer_info=None if buyer is None else _buyer(buyer),
        extend_params=(),
    )


async def _line(tx: Tx, connection: Connection, line: StoredLine) -> OrderLine:
    product = await catalog.product_by_id(tx, line.product_id)
    policy = await catalog.policy_by_id(tx, product.policy_id)
    loaded = await licenses.by_line(tx, line.id)
    mode, period = _bought(line.terms, policy)
    period_type, period_number = fields_of(period)
    sold = ProductInfo(
        product_id=product.marketplace_product_id,
        sku_code=line.terms.sku_code or product.sku_code or None,
        linear_value=line.terms.amount,
        product_name=product.name,
    )
    return OrderLine(
        order_line_id=line.line_id,
        charging_mode=mode,
        period_type=period_type,
        period_number=period_number,
        expire_time=_expire_time(connection, line.terms, loaded),
        product_info=(sold,),
        extend_params=(),
    )


def _bought(terms: LineTerms, policy: Policy) -> tuple[str, Period | None]:
    """The charging mode is mandatory: where no source has told it, it follows from what was bought, or from our own terms [I]."""
    period = terms.period or policy.period
    if terms.charging_mode is not None:
        return terms.charging_mode, terms.period
    if terms.bought_for_good or policy.term is Term.PERPETUAL:
        return ONE_TIME, None
    told = (period, terms.expiry_order_query, terms.expiry_estimate)
    return (ONE_TIME, None) if told == (None, None, None) else (FOR_A_PERIOD, period)


def _expire_time(connection: Connection, terms: LineTerms, loaded: LoadedLicense | None) -> str | None:
    """When the license ends by all that was told; before there is one, what the order says."""
    told = terms.expiry_estimate if terms.expiry_order_query is None else terms.expiry_order_query
    ends = told if loaded is None else loaded.view.expires_at
    return None if ends is None else wire_stamp(ends, connection.wire)


def _buyer(buyer: Buyer) -> BuyerInfo:
    return BuyerInfo(
        mobile_phone=buyer.mobile,
        email=buyer.email,
        customer_id=buyer.customer_id,
        customer_name=buyer.name,
        customer_real_name=buyer.real_name,
    )
