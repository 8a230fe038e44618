"""What becomes of a purchase later: renewed, refunded, frozen, expired, released (spec §§2.1, 2.2, 5.3).

In: the new order that a change brings, what becomes of the code, and the call that tells the seller. Out: sending it (`marketplace`).
A new change is a row of `CHANGES`.
"""

from collections.abc import Callable, Mapping
from datetime import UTC
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from licensesvc.domain.instants import Instant, PeriodUnit, add_period, format_stamp
from licensesvc.domain.order import OrderType, default_line_id
from licensesvc.domain.product import DeliveryKind
from licensesvc.sandbox.codes import Code
from licensesvc.sandbox.orders import Activity, PlacedOrder, end_of_period, new_order_id


class Change(StrEnum):
    """What may happen to a purchase."""

    RENEW = "renew"
    REFUND_RENEWAL = "refund-renewal"
    REFUND = "refund"
    FREEZE = "freeze"
    UNFREEZE = "unfreeze"
    EXPIRE = "expire"
    RELEASE = "release"
    CLAIM = "claim"


class NoSuchChange(Exception):
    """The purchase cannot be changed so; one line that says why."""


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """The new order, if the change makes one, the code as it is then, and the call that tells the seller, if there is one."""

    order: PlacedOrder | None = None
    code: Code | None = None
    activity: Activity | None = None
    fields: dict[str, str] = {}


class _Purchase(NamedTuple):
    order: PlacedOrder
    code: Code | None
    now: Instant

    def further(self, order_type: OrderType) -> PlacedOrder:
        """The new order of a renewal or a refund."""
        order_id = new_order_id()
        return msgspec.structs.replace(
            self.order,
            order_id=order_id,
            order_line_id=default_line_id(order_id),
            created_at=self.now,
            order_type=order_type,
            calls=(),
            of=self.order.order_id,
        )

    def until(self, periods: int) -> Instant:
        """The end of service so many periods later, or earlier."""
        end = self.code.expires_at if self.code else end_of_period(self.order, self.order.created_at)
        if end is None or self.order.period_type is None or self.order.period_number is None:
            raise NoSuchChange("it was bought for good: nothing is renewed")
        unit = PeriodUnit(self.order.period_type.upper())
        return add_period(end, unit, self.order.period_number * periods, UTC)

    @property
    def instance(self) -> str:
        """What the seller called it when it delivered."""
        if self.order.instance_id is None:
            raise NoSuchChange("the seller has not delivered it yet")
        return self.order.instance_id


def change(kind: Change, order: PlacedOrder, code: Code | None, now: Instant) -> Changed:
    """Carry a change of a purchase out; NoSuchChange where its dialect, or its state, has none."""
    if order.of is not None:
        raise NoSuchChange(f"it is a change itself: change {order.of}")
    make = CHANGES.get(order.dialect, {}).get(kind)
    if make is None:
        raise NoSuchChange(f"there is no such change of {order.dialect}")
    if code is not None and code.released_at is not None:
        raise NoSuchChange("the code is released")
    return make(_Purchase(order, code, now))


def _refresh_code(scene: str, order_type: OrderType, periods: int) -> Callable[[_Purchase], Changed]:
    def make(purchase: _Purchase) -> Changed:
        assert purchase.code is not None
        order, end = purchase.further(order_type), purchase.until(periods)
        fields = {
            "scene": scene,
            **_ids(order),
            "license": purchase.code.code,
            "productId": order.product_id,
            "expireTime": format_stamp(end, UTC),
        }
        code = msgspec.structs.replace(purchase.code, expires_at=end)
        return Changed(order=order, code=code, activity=Activity.REFRESH_LICENSE_CODE, fields=fields)

    return make


def _status(status: str) -> Callable[[_Purchase], Changed]:
    def make(purchase: _Purchase) -> Changed:
        assert purchase.code is not None
        code = msgspec.structs.replace(purchase.code, frozen_at=purchase.now if status == "FREEZE" else None)
        fields = {"license": code.code, "status": status}
        return Changed(code=code, activity=Activity.UPDATE_LICENSE_CODE_STATUS, fields=fields)

    return make


def _release_code(order_type: OrderType | None) -> Callable[[_Purchase], Changed]:
    def make(purchase: _Purchase) -> Changed:
        assert purchase.code is not None
        order = purchase.further(order_type) if order_type else None
        fields = {"license": purchase.code.code, **(_ids(order) if order else {})}
        code = msgspec.structs.replace(purchase.code, released_at=purchase.now)
        return Changed(order=order, code=code, activity=Activity.RELEASE_LICENSE_CODE, fields=fields)

    return make


def _expire_code(purchase: _Purchase) -> Changed:
    """Nobody is told: the next query says EXPIRED (spec §5.3)."""
    assert purchase.code is not None
    return Changed(code=msgspec.structs.replace(purchase.code, expires_at=purchase.now))


def _claim(purchase: _Purchase) -> Changed:
    assert purchase.code is not None
    return Changed(code=msgspec.structs.replace(purchase.code, unclaimed=False))


def _refresh_license(purchase: _Purchase) -> Changed:
    order = purchase.further(OrderType.RENEW)
    fields = {
        "orderId": order.order_id,
        "instanceId": purchase.instance,
        "productId": order.product_id,
        "expireTime": format_stamp(purchase.until(1), UTC),
        "periodType": order.period_type or "",
        "periodNumber": str(order.period_number),
    }
    return Changed(order=order, activity=Activity.REFRESH_LICENSE, fields=fields)


def _about_instance(activity: Activity, order_type: OrderType | None = None) -> Callable[[_Purchase], Changed]:
    """ExpireLicense and releaseLicense name the purchase, not the new order (spec §2.2)."""

    def make(purchase: _Purchase) -> Changed:
        fields = {"orderId": purchase.order.order_id, "instanceId": purchase.instance}
        order = purchase.further(order_type) if order_type else None
        return Changed(order=order, activity=activity, fields=fields)

    return make


def _ids(order: PlacedOrder) -> dict[str, str]:
    return {"orderId": order.order_id, "orderLineId": order.order_line_id}


CHANGES: Final[Mapping[DeliveryKind, Mapping[Change, Callable[[_Purchase], Changed]]]] = {
    DeliveryKind.LICENSE_2_0: {
        Change.RENEW: _refresh_code("RENEWAL", OrderType.RENEW, 1),
        Change.REFUND_RENEWAL: _refresh_code("UNSUBSCRIBE_RENEWAL_PERIOD", OrderType.UNSUBSCRIBE, -1),
        Change.REFUND: _release_code(OrderType.UNSUBSCRIBE),
        Change.FREEZE: _status("FREEZE"),
        Change.UNFREEZE: _status("UNFREEZE"),
        Change.EXPIRE: _expire_code,
        Change.RELEASE: _release_code(None),
        Change.CLAIM: _claim,
    },
    DeliveryKind.LICENSE_1_0: {
        Change.RENEW: _refresh_license,
        Change.EXPIRE: _about_instance(Activity.EXPIRE_LICENSE),
        Change.RELEASE: _about_instance(Activity.RELEASE_LICENSE),
        Change.REFUND: _about_instance(Activity.RELEASE_LICENSE, OrderType.UNSUBSCRIBE),
    },
}
"""What may happen to a purchase, by dialect."""
