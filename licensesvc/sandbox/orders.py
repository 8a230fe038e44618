"""Orders as a buyer places them and as order/query shows them (spec §§1.6, 2.2).

In: what may be ordered, the placed order, its face in order/query. Out: telling the seller (`calls`), remembering (`state`).
"""

import secrets
import string
from datetime import UTC
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from licensesvc.domain.instants import (
    Instant,
    PeriodUnit,
    add_period,
    format_stamp,
    from_datetime,
    to_datetime,
    zone_of,
)
from licensesvc.domain.order import OrderType, default_line_id, opens_case
from licensesvc.domain.product import DeliveryKind
from licensesvc.marketplace.huawei.extend_params import IDENTIFICATION_CODE
from licensesvc.marketplace.huawei.orders import BuyerInfo, ExtendParam, OrderInfo, OrderLine, ProductInfo

MAX_AMOUNT: Final = 9_999_999
MAX_PERIODS: Final = 99

BUYER: Final = BuyerInfo(
    mobile_phone="18600000000",
    customer_id="0a1b2c3d4e5f60718293a4b5c6d7e8f9",
    customer_name="sandbox_buyer",
    customer_real_name="沙箱买家",
    customer_type=0,
)
"""The one customer of the sandbox; nobody's data."""

_PLAYED: Final = frozenset(
    {DeliveryKind.LICENSE_1_0, DeliveryKind.LICENSE_2_0, DeliveryKind.GENERAL, DeliveryKind.ONLINE_LICENSE}
)
_ORDER_ID_SYMBOLS: Final = string.ascii_uppercase + string.digits
_ORDER_ID_TAIL: Final = 5
# The marketplace's days end at midnight in Beijing: `20230726155959` in UTC (spec §1.4).
BEIJING: Final = zone_of("Asia/Shanghai")

Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Activity(StrEnum):
    """The calls that the sandbox makes to the seller."""

    ORDER_NOTIFY = "orderNotify"
    GET_LICENSE = "getLicense"
    REFRESH_LICENSE = "refreshLicense"
    EXPIRE_LICENSE = "expireLicense"
    RELEASE_LICENSE = "releaseLicense"
    REFRESH_LICENSE_CODE = "refreshLicenseCode"
    UPDATE_LICENSE_CODE_STATUS = "updateLicenseCodeStatus"
    RELEASE_LICENSE_CODE = "releaseLicenseCode"
    NEW_INSTANCE = "newInstance"


V1_ACTIVITIES: Final = frozenset(
    {Activity.GET_LICENSE, Activity.REFRESH_LICENSE, Activity.EXPIRE_LICENSE, Activity.RELEASE_LICENSE}
)
"""The calls of License 1.0: GET with an authToken; all others are POST with a signed URL."""


class Stage(StrEnum):
    """Where an order stands at the marketplace, as far as its calls decide it (spec §§2.2, 2.6)."""

    PLACED = "placed"
    DELIVERING = "商家实施交付License"
    CONFIRMING = "用户确认验收"
    REFUNDED = "已退款"
    RELEASED = "已释放"


_DELIVERED_BY: Final = {
    DeliveryKind.LICENSE_1_0: Activity.GET_LICENSE,
    DeliveryKind.ONLINE_LICENSE: Activity.NEW_INSTANCE,
}
"""The call that asks the seller for what was bought, where there is one."""


class NewOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody wants to buy; without a `period_type` it is bought once for all.

    `notify` sends the order notification, `deliver` asks for the license where the dialect makes the seller's server
    deliver it, i.e. getLicense of a new or trial order in License 1.0. `claim`: the buyer must claim a License 2.0 code before it can be
    activated, as in orders before 2025-04-25. `identification_code` is what the buyer of a License 1.0 product has submitted, the system or
    hardware code that the license is bound to.
    """

    product_id: Identifier
    dialect: DeliveryKind
    sku_code: Identifier | None = None
    amount: Annotated[int, msgspec.Meta(ge=1, le=MAX_AMOUNT)] = 1
    period_type: Literal["year", "month", "day"] | None = None
    period_number: Annotated[int, msgspec.Meta(ge=1, le=MAX_PERIODS)] | None = None
    order_type: OrderType = OrderType.NEW
    notify: bool = True
    deliver: bool = True
    claim: bool = False
    identification_code: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)] | None = None

    def __post_init__(self) -> None:
        """Refuse what the sandbox does not play."""
        if self.dialect not in _PLAYED:
            raise ValueError(f"dialect is one of {', '.join(sorted(_PLAYED))}")
        if self.period_number is not None and self.period_type is None:
            raise ValueError("period_number needs a period_type")
        if self.identification_code is not None and self.dialect is not DeliveryKind.LICENSE_1_0:
            raise ValueError("identification_code belongs to LICENSE_1_0")

    @property
    def calls(self) -> tuple[Activity, ...]:
        """The calls that this order makes due, in their order."""
        asked = _DELIVERED_BY.get(self.dialect) if self.deliver and opens_case(self.order_type) else None
        return (Activity.ORDER_NOTIFY,) * self.notify + ((asked,) if asked else ())


class PlacedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order with its one line; `license` and `instance_id` are what the seller delivered, `of` the purchase that it changes."""

    order_id: str
    order_line_id: str
    created_at: Instant
    product_id: str
    dialect: DeliveryKind
    sku_code: str | None
    amount: int
    period_type: str | None
    period_number: int | None
    order_type: OrderType
    calls: tuple[Activity, ...]
    license: str | None = None
    instance_id: str | None = None
    of: str | None = None
    stage: Stage = Stage.PLACED
    identification_code: str | None = None
    ends_at: Instant | None = None
    """Of a renewal or its refund: when the service ends now."""
    ended_at: Instant | None = None
    """Of a renewal: when the service ended before."""
    refunded_by: str | None = None
    """The order that took this one back."""


def new_order_id(now: Instant) -> str:
    """`CS`, the minute, and 5 upper-case letters or digits, as in `CS2211181819B4LVS`; the minute is Beijing's [I]."""
    minute = format_stamp(now, BEIJING)[2:12]
    return f"CS{minute}" + "".join(secrets.choice(_ORDER_ID_SYMBOLS) for _ in range(_ORDER_ID_TAIL))


def place(order: NewOrder, now: Instant) -> PlacedOrder:
    """Give the order its ids, the line's with `-000001` behind the order's."""
    order_id = new_order_id(now)
    return PlacedOrder(
        order_id=order_id,
        order_line_id=default_line_id(order_id),
        created_at=now,
        product_id=order.product_id,
        dialect=order.dialect,
        sku_code=order.sku_code,
        amount=order.amount,
        period_type=order.period_type,
        period_number=order.period_number or 1 if order.period_type else None,
        order_type=order.order_type,
        calls=order.calls,
        identification_code=order.identification_code,
    )


def end_of_period(order: PlacedOrder, start: Instant) -> Instant | None:
    """When the bought period ends that began at `start`: the end of that day in Beijing [I]; None when bought once for all."""
    if order.period_type is None or order.period_number is None:
        return None
    unit = PeriodUnit(order.period_type.upper())
    last_day = to_datetime(add_period(start, unit, order.period_number, BEIJING), BEIJING)
    return from_datetime(last_day.replace(hour=23, minute=59, second=59, microsecond=0))


def expire_time(order: PlacedOrder) -> str | None:
    """The UTC stamp of the end of the bought period, or of what a renewal made of it."""
    end = order.ends_at if order.of is not None else end_of_period(order, order.created_at)
    return None if end is None else format_stamp(end, UTC)


def extend_params(order: PlacedOrder) -> tuple[ExtendParam, ...]:
    """What the buyer has added to the order."""
    if order.identification_code is None:
        return ()
    return (ExtendParam(name=IDENTIFICATION_CODE, value=order.identification_code),)


def order_info(order: PlacedOrder) -> OrderInfo:
    """The order as order/query shows it."""
    line = OrderLine(
        order_line_id=order.order_line_id,
        charging_mode="PERIOD" if order.period_type else "ONE_TIME",
        period_type=order.period_type,
        period_number=order.period_number,
        expire_time=expire_time(order),
        product_info=(
            ProductInfo(
                product_id=order.product_id,
                sku_code=order.sku_code,
                linear_value=order.amount,
                product_name="沙箱商品",
            ),
        ),
        extend_params=extend_params(order),
        currency="100",
        currency_after_discount="100",
    )
    return OrderInfo(
        order_id=order.order_id,
        order_type=order.order_type,
        create_time=format_stamp(order.created_at, UTC),
        order_line=(line,),
        buyer_info=BUYER,
        extend_params=(),
    )
