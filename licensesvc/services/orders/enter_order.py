"""Enters an order by hand, with all its lines at once, as if a source of the marketplace had told of it."""

from typing import Annotated

import msgspec

from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import Instant, parse_rfc3339
from licensesvc.domain.licensecode import MAX_LENGTH
from licensesvc.domain.order import OrderFacts, OrderType
from licensesvc.domain.product import Product
from licensesvc.services.catalog.manage_catalog import MarketplaceId, PeriodFields
from licensesvc.services.orders.receive_order import ReceivedLine, receive_line
from licensesvc.services.runtime import Runtime
from licensesvc.storage import catalog, connections
from licensesvc.storage.orders import Buyer
from licensesvc.storage.port import Tx

SOURCE = "operator"

Time = Annotated[str, msgspec.Meta(max_length=40, examples=["2026-11-23T16:00:00.000Z"])]
PersonalText = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class EnterLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A line: a product (our id), how much of it, for how long; `license_code` only where the marketplace made the code.

    `enablement_cloud` marks a 赋能云 order, whose acceptance papers the marketplace reviews.
    """

    line_id: MarketplaceId | None = None
    product: str
    amount: Annotated[int, msgspec.Meta(ge=1, le=999_999_999)] | None = None
    period: PeriodFields | None = None
    expires_at: Time | None = None
    license_code: (
        Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_LENGTH, pattern=r"^[!-~]+$(?!\n)")] | None
    ) = None
    enablement_cloud: bool | None = None

    def __repr__(self) -> str:
        return f"EnterLine({self.product})"


class EnterBuyer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who bought, as the marketplace names them."""

    customer_id: PersonalText
    name: PersonalText | None = None
    real_name: PersonalText | None = None
    email: PersonalText | None = None
    mobile: PersonalText | None = None

    def __repr__(self) -> str:
        return "EnterBuyer(…)"


class EnterOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An order of a connection; only a single line may leave its `line_id` out."""

    connection: str
    order_id: MarketplaceId
    order_type: OrderType = OrderType.NEW
    order_time: Time | None = None
    buyer: EnterBuyer | None = None
    lines: Annotated[tuple[EnterLine, ...], msgspec.Meta(min_length=1, max_length=100)]


async def enter_order(tx: Tx, rt: Runtime, command: EnterOrder, *, by: str) -> list[ReceivedLine]:
    """Receive every line in one transaction. Raises InvalidParameter and what `receive_line` raises."""
    stored = await connections.by_public_id(tx, command.connection)
    if stored is None:
        raise InvalidParameter(f"there is no connection {command.connection}")
    line_ids = [line.line_id for line in command.lines]
    if len(line_ids) > 1 and (None in line_ids or len(set(line_ids)) < len(line_ids)):
        raise InvalidParameter("several lines need a line_id each, all different")
    buyer = Buyer(**msgspec.structs.asdict(command.buyer)) if command.buyer else None
    received = []
    for line in command.lines:
        product = await catalog.product_by_public_id(tx, line.product)
        if product is None or product.connection_id != stored.connection.id:
            raise InvalidParameter(f"the connection has no product {line.product}")
        received.append(
            await receive_line(
                tx,
                rt,
                stored.connection,
                _facts(command, line, product),
                buyer=buyer,
                source=SOURCE,
                by=by,
                marketplace_code=line.license_code,
            )
        )
    return received


def _facts(command: EnterOrder, line: EnterLine, product: Product) -> OrderFacts:
    return OrderFacts(
        order_id=command.order_id,
        order_type=command.order_type,
        line_id=line.line_id,
        order_time=_instant(command.order_time),
        marketplace_product_id=product.marketplace_product_id,
        sku_code=product.sku_code or None,
        period=line.period.period() if line.period else None,
        amount=line.amount,
        expiry_order_query=_instant(line.expires_at),
        enablement_cloud=line.enablement_cloud,
    )


def _instant(text: str | None) -> Instant | None:
    return None if text is None else parse_rfc3339(text)
