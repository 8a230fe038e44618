"""The answer of order/query (spec §1.6), both directions and both generations (`MKT.` and `CBC.`).

In: structs, tolerant decoding, the simulator's encoding. Out: transport (`client`), what an order changes.
"""

from typing import Any

import msgspec

from licensesvc.domain.order import OrderType
from licensesvc.marketplace.huawei.result_codes import ORDER, OrderCode
from licensesvc.strictjson import decode_object

_SUCCESS = frozenset({OrderCode.SUCCESS, "CBC.0000"})
_UNKNOWN_ORDER = frozenset({OrderCode.ILLEGAL_OPERATION, "CBC.0150"})
_TOO_FREQUENT = frozenset({OrderCode.TOO_FREQUENT, "CBC.0250", "APIG.0308"})


class MarketplaceRefusal(Exception):
    """The marketplace answered with an error code."""

    def __init__(self, result_code: str, message: str) -> None:
        super().__init__(f"{result_code}: {message}")
        self.result_code = result_code
        self.message = message

    @property
    def order_unknown(self) -> bool:
        """Whether it says that the order is none of this seller's (spec §1.6: does not belong to the AK/SK's seller)."""
        return self.result_code in _UNKNOWN_ORDER

    @property
    def too_frequent(self) -> bool:
        """Whether it says that it was asked too often."""
        return self.result_code in _TOO_FREQUENT


class MalformedAnswer(Exception):
    """The marketplace's answer is not what the protocol describes; the text says where."""


class ExtendParam(msgspec.Struct, frozen=True, kw_only=True):
    """One name/value pair that the buyer or the product added."""

    name: str
    value: Any = None


class ProductInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was bought; `linear_value` is the amount of a quantity-type product."""

    product_id: str
    sku_code: str | None = None
    linear_value: int | None = None
    product_name: str | None = None


class OrderLine(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One line; `expire_time` is `yyyyMMddHHmmss` in the connection's wire zone, prices are kept as received."""

    order_line_id: str
    charging_mode: str
    period_type: str | None = None
    period_number: int | None = None
    expire_time: str | None = None
    product_info: tuple[ProductInfo, ...] | None = None
    extend_params: tuple[ExtendParam, ...] | None = None
    currency: str | float | None = None
    currency_after_discount: str | float | None = None


class BuyerInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Personal data of the buyer, all of it optional; never part of a repr."""

    mobile_phone: str | None = None
    email: str | None = None
    customer_id: str | None = None
    customer_name: str | None = None
    customer_real_name: str | None = None
    customer_type: int | None = None
    user_id: str | None = None
    user_name: str | None = None

    def __repr__(self) -> str:
        return f"BuyerInfo(customer_id={self.customer_id!r}, …)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("customer_id", self.customer_id)]


class OrderInfo(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One order; `create_time` is `yyyyMMddHHmmss`, the instant of placement, not of effect."""

    order_id: str
    order_type: OrderType
    create_time: str
    order_line: tuple[OrderLine, ...]
    buyer_info: BuyerInfo | None = None
    extend_params: tuple[ExtendParam, ...] | None = None


class _Envelope(msgspec.Struct, frozen=True, kw_only=True):
    result_code: str | None = msgspec.field(name="resultCode", default=None)
    result_msg: str | None = msgspec.field(name="resultMsg", default=None)
    error_code: str | None = None
    error_msg: str | None = None
    order_info: Any = msgspec.field(name="orderInfo", default=None)


def parse_order_answer(body: bytes) -> OrderInfo:
    """Read an answer whatever its HTTP status, deciding by its code; unknown fields are ignored, numbers may be texts.

    Raises `MarketplaceRefusal` for any code but success (the gateway's `APIG.` too), `MalformedAnswer` for the rest.
    """
    try:
        envelope = msgspec.convert(decode_object(body), _Envelope)
        code = envelope.result_code or envelope.error_code
        if not code:
            raise MalformedAnswer("neither resultCode nor error_code")
        if code not in _SUCCESS:
            raise MarketplaceRefusal(code, envelope.result_msg or envelope.error_msg or "")
        return msgspec.convert(envelope.order_info, OrderInfo, strict=False)
    except ValueError as error:
        raise MalformedAnswer(str(error)) from None


def order_answer(order: OrderInfo) -> bytes:
    """Write the successful answer in the key order of the observed one; what is absent is `null`."""
    return msgspec.json.encode(
        {"resultCode": OrderCode.SUCCESS, "resultMsg": ORDER[OrderCode.SUCCESS].message, "orderInfo": order}
    )


def order_failure(code: OrderCode) -> tuple[int, bytes]:
    """HTTP status and body of a refusal."""
    outcome = ORDER[code]
    return outcome.http_status, msgspec.json.encode({"resultCode": code, "resultMsg": outcome.message})
