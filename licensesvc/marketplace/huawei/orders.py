"""order/query (spec §1.6): the question as its server reads it, the answer in both directions and both generations (`MKT.`, `CBC.`).

In: structs, tolerant decoding, encoding. Out: transport (`client`), what an order changes.
"""

import re
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from licensesvc.domain.connection import ErrorTable
from licensesvc.domain.order import OrderType
from licensesvc.marketplace.huawei.result_codes import ORDER, OrderCode
from licensesvc.strictjson import decode_object

MAX_ORDER_ID = 64

_SUCCESS = frozenset({OrderCode.SUCCESS, "CBC.0000"})
_ID = re.compile(rf"[!-~]{{1,{MAX_ORDER_ID}}}")
_NAMES = {ErrorTable.CURRENT: ("resultCode", "resultMsg"), ErrorTable.OLDER: ("error_code", "error_msg")}
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


def order_answer(order: OrderInfo, table: ErrorTable = ErrorTable.CURRENT) -> bytes:
    """Write the successful answer in the key order of the observed one; what is absent is `null`."""
    return msgspec.json.encode({**_envelope(OrderCode.SUCCESS, table), "orderInfo": order})


def order_failure(code: OrderCode, table: ErrorTable = ErrorTable.CURRENT) -> tuple[int, bytes]:
    """HTTP status and body of a refusal."""
    return ORDER[code].http_status, msgspec.json.encode(_envelope(code, table))


def _envelope(code: OrderCode, table: ErrorTable) -> dict[str, str]:
    """The older generation has other names and the prefix `CBC.`; numbers, texts and statuses are the same."""
    written = code if table is ErrorTable.CURRENT else code.replace("MKT.", "CBC.", 1)
    return dict(zip(_NAMES[table], (written, ORDER[code].message), strict=True))


class OrderFault(Exception):
    """The question cannot be answered; answer `order_failure(error_code)`."""

    def __init__(self, error_code: OrderCode) -> None:
        super().__init__(error_code)
        self.error_code = error_code


class OrderQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """Which order, or which line of it, is asked for."""

    order_id: str
    order_line_id: str | None = None


def parse_order_query(query: bytes) -> OrderQuestion:
    """Read a query string; an empty `orderLineId` is absent [I].

    Raises `OrderFault`: `INVALID_PARAMETER` for a parameter that is missing, unknown or repeated, `INPUT_FAILURE` for an id that is none.
    """
    try:
        pairs = parse_qsl(query.decode(), keep_blank_values=True, encoding="utf-8", errors="strict", max_num_fields=2)
    except UnicodeDecodeError:
        raise OrderFault(OrderCode.INPUT_FAILURE) from None
    except ValueError:
        raise OrderFault(OrderCode.INVALID_PARAMETER) from None
    given = dict(pairs)
    if len(given) < len(pairs) or not {"orderId"} <= given.keys() <= {"orderId", "orderLineId"} or not given["orderId"]:
        raise OrderFault(OrderCode.INVALID_PARAMETER)
    line_id = given.get("orderLineId") or None
    if not _ID.fullmatch(given["orderId"]) or (line_id is not None and not _ID.fullmatch(line_id)):
        raise OrderFault(OrderCode.INPUT_FAILURE)
    return OrderQuestion(order_id=given["orderId"], order_line_id=line_id)
