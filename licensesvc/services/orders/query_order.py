"""Asks the marketplace for an order (spec §1.6) and receives what it answers, line by line."""

from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import DomainError, InvalidParameter
from licensesvc.domain.instants import Instant, parse_stamp
from licensesvc.domain.order import OrderFacts
from licensesvc.marketplace.huawei.client import MarketplaceClient
from licensesvc.marketplace.huawei.orders import BuyerInfo, OrderInfo, OrderLine
from licensesvc.marketplace.huawei.periods import period_of
from licensesvc.services.catalog.marketplace_account import CannotAsk, account_of
from licensesvc.services.interface_messages import OutboundCall, Redo
from licensesvc.services.orders.notify_order import OUTBOX_KIND, OrderQuery
from licensesvc.services.orders.receive_order import receive_line
from licensesvc.services.runtime import Runtime
from licensesvc.storage import connections
from licensesvc.storage.connections import StoredConnection
from licensesvc.storage.orders import Buyer
from licensesvc.storage.port import Tx

SOURCE: Final = "order/query"


async def query_order(
    rt: Runtime, client: MarketplaceClient, query: OrderQuery, *, restart_of: str | None = None
) -> None:
    """Ask for one order and receive every line of the answer; the call is kept as a message, as the restart of another one if told.

    Each line has a transaction of its own: one that cannot be received, say for a product that is not mapped yet, keeps no other back.

    Raises CannotAsk, the client's MarketplaceUnreachable, MarketplaceRefusal and MalformedAnswer, and what receiving raises.
    """
    stored = await _connection(rt, query)
    async with _call(rt, stored, query, restart_of):
        info = await client.order_query(account_of(rt, stored), query.order_id, query.order_line_id, rt.clock())
        await receive_answer(rt, stored.connection, info)


async def ask_order(rt: Runtime, client: MarketplaceClient, query: OrderQuery) -> OrderInfo:
    """Ask for one order and only tell what was answered; the call is kept as a message. Raises as `query_order`, but for receiving."""
    stored = await _connection(rt, query)
    async with _call(rt, stored, query, None):
        return await client.order_query(account_of(rt, stored), query.order_id, query.order_line_id, rt.clock())


async def _connection(rt: Runtime, query: OrderQuery) -> StoredConnection:
    stored = await rt.db.read(lambda tx: connections.by_public_id(tx, query.connection))
    if stored is None:
        raise CannotAsk(f"connection {query.connection} is gone")
    return stored


def _call(rt: Runtime, stored: StoredConnection, query: OrderQuery, restart_of: str | None) -> OutboundCall:
    return OutboundCall(
        rt,
        stored.connection,
        activity=SOURCE,
        order_id=query.order_id,
        redo=Redo(kind=OUTBOX_KIND, subject=query.order_id, payload=msgspec.json.encode(query).decode()),
        restart_of=restart_of,
    )


async def receive_answer(rt: Runtime, connection: Connection, info: OrderInfo) -> None:
    """Receive every line; the first refusal of one is raised once all were tried."""
    buyer = _buyer(info.buyer_info)
    refusals: list[DomainError] = []
    for line in info.order_line:
        try:
            facts = _facts(info, line, connection.wire)
            await rt.db.write(partial(_receive_line, rt=rt, connection=connection, facts=facts, buyer=buyer))
        except DomainError as refused:
            refusals.append(refused)
    if refusals:
        raise refusals[0]


async def _receive_line(tx: Tx, *, rt: Runtime, connection: Connection, facts: OrderFacts, buyer: Buyer | None) -> None:
    await receive_line(tx, rt, connection, facts, buyer=buyer, source=SOURCE, by=connection.public_id)


def _facts(info: OrderInfo, line: OrderLine, wire: ZoneInfo) -> OrderFacts:
    product = line.product_info[0] if line.product_info else None
    return OrderFacts(
        order_id=info.order_id,
        order_type=info.order_type,
        line_id=line.order_line_id,
        order_time=parse_stamp(info.create_time, wire),
        marketplace_product_id=product.product_id if product else None,
        sku_code=product.sku_code if product else None,
        charging_mode=line.charging_mode,
        # a unit alone buys nothing, whatever it is called: no reason to leave the order unknown
        period=None if line.period_number is None else period_of(line.period_type, line.period_number),
        amount=product.linear_value if product else None,
        expiry_order_query=_stamp(line.expire_time, wire),
    )


def _stamp(text: str | None, wire: ZoneInfo) -> Instant | None:
    if not text:
        return None
    try:
        return parse_stamp(text, wire)
    except InvalidParameter as error:
        raise InvalidParameter(f"expireTime of the order line: {error.message}") from None


def _buyer(info: BuyerInfo | None) -> Buyer | None:
    if info is None or not info.customer_id:
        return None
    return Buyer(
        customer_id=info.customer_id,
        name=info.customer_name,
        real_name=info.customer_real_name,
        email=info.email,
        mobile=info.mobile_phone,
    )


def decode_query(payload: str) -> OrderQuery:
    """Read what the outbox kept."""
    return msgspec.json.decode(payload, type=OrderQuery)
