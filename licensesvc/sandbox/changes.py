"""What becomes of a purchase later: renewed, refunded, frozen, expired, released (spec §§2.1, 2.2, 5.3).

In: the new order that a change brings, what becomes of the code, and the calls that tell the seller. Out: making them (`marketplace`).
A new change is a row of `CHANGES`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC
from enum import StrEnum
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from licensesvc.domain.instants import Instant, PeriodUnit, add_period, format_stamp
from licensesvc.domain.order import OrderType, default_line_id
from licensesvc.domain.product import DeliveryKind
from licensesvc.sandbox.codes import Code
from licensesvc.sandbox.orders import (
    BEIJING,
    MAX_PERIODS,
    Activity,
    Identifier,
    PlacedOrder,
    Stage,
    end_of_period,
    new_order_id,
)


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


class Terms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a renewal buys where it is not what was bought last: another product (from month to year, from trial to formal), another period."""

    product_id: Identifier | None = None
    period_type: Literal["year", "month", "day"] | None = None
    period_number: Annotated[int, msgspec.Meta(ge=1, le=MAX_PERIODS)] | None = None


class Told(NamedTuple):
    """A call that tells the seller, with the fields that the purchase itself does not tell."""

    activity: Activity
    fields: dict[str, str]


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """The new order, if the change makes one; orders known before and the code as they are then; the calls that tell the seller."""

    order: PlacedOrder | None = None
    known: tuple[PlacedOrder, ...] = ()
    code: Code | None = None
    calls: tuple[Told, ...] = ()


class _Purchase(NamedTuple):
    order: PlacedOrder
    code: Code | None
    renewals: Sequence[PlacedOrder]
    """Those that were not taken back, oldest first."""
    terms: Terms
    now: Instant

    def further(self, order_type: OrderType) -> PlacedOrder:
        """The new order of a renewal or a refund."""
        order_id = new_order_id(self.now)
        return msgspec.structs.replace(
            self.order,
            order_id=order_id,
            order_line_id=default_line_id(order_id),
            created_at=self.now,
            order_type=order_type,
            calls=(),
            of=self.order.order_id,
            stage=Stage.PLACED,
            refunded_by=None,
        )

    @property
    def end(self) -> Instant:
        """When the service ends as it is."""
        if self.code is not None:
            end = self.code.expires_at
        elif self.renewals:
            end = self.renewals[-1].ends_at
        else:
            end = end_of_period(self.order, self.order.created_at)
        if end is None:
            raise NoSuchChange("it was bought for good: nothing is renewed")
        return end

    def renewal(self) -> PlacedOrder:
        """The order of one more period, which begins where the last one ends."""
        end = self.end
        last = self.renewals[-1] if self.renewals else self.order
        period_type = self.terms.period_type or last.period_type
        number = self.terms.period_number or (1 if self.terms.period_type else last.period_number)
        if period_type is None or number is None:  # bought for good, and ended by hand
            raise NoSuchChange("say which period is bought")
        trial = self.order.order_type is OrderType.TRIAL and not self.renewals
        return msgspec.structs.replace(
            self.further(OrderType.TRIAL_TO_FORMAL if trial else OrderType.RENEW),
            product_id=self.terms.product_id or last.product_id,
            period_type=period_type,
            period_number=number,
            ends_at=add_period(end, PeriodUnit(period_type.upper()), number, BEIJING),
            ended_at=end,
        )

    def over(self, order: PlacedOrder | None) -> tuple[PlacedOrder, ...]:
        """The purchase when it is given up, or taken back by an order."""
        stage = Stage.RELEASED if order is None else Stage.REFUNDED
        return (msgspec.structs.replace(self.order, stage=stage, refunded_by=order.order_id if order else None),)

    def announced(self, order: PlacedOrder | None) -> tuple[Told, ...]:
        """The notification of a new order, where the purchase was notified as well (spec §2.5)."""
        if order is None or Activity.ORDER_NOTIFY not in self.order.calls:
            return ()
        return (Told(Activity.ORDER_NOTIFY, _ids(order)),)

    @property
    def made(self) -> Code:
        """The code that the marketplace has made for it."""
        if self.code is None:
            raise NoSuchChange("such an order has no code")
        return self.code

    @property
    def instance(self) -> str:
        """What the seller called it when it delivered."""
        if self.order.instance_id is None:
            raise NoSuchChange("the seller has not delivered it yet")
        return self.order.instance_id


def change(
    kind: Change,
    order: PlacedOrder,
    code: Code | None,
    now: Instant,
    *,
    renewals: Sequence[PlacedOrder] = (),
    terms: Terms | None = None,
) -> Changed:
    """Carry a change of a purchase out; NoSuchChange where its dialect, or its state, has none."""
    if order.of is not None:
        raise NoSuchChange(f"it is a change itself: change {order.of}")
    make = CHANGES.get(order.dialect, {}).get(kind)
    if make is None:
        raise NoSuchChange(f"there is no such change of {order.dialect}")
    if order.stage in {Stage.RELEASED, Stage.REFUNDED}:
        raise NoSuchChange("the purchase is released")
    if terms is not None and kind is not Change.RENEW:
        raise NoSuchChange("only a renewal buys something")
    standing = [renewal for renewal in renewals if renewal.refunded_by is None]
    return make(_Purchase(order, code, standing, terms or Terms(), now))


def refund_of(order: PlacedOrder, now: Instant) -> tuple[PlacedOrder, PlacedOrder]:
    """The purchase that the marketplace takes back by itself, and the order that does it (spec §2.6)."""
    purchase = _Purchase(order, None, (), Terms(), now)
    refund = purchase.further(OrderType.UNSUBSCRIBE)
    return purchase.over(refund)[0], refund


def _renew_code(purchase: _Purchase) -> Changed:
    """A late renewal also ends the freeze (spec §5.2); in which order is not told: as the table has it [I]."""
    code, order = purchase.made, purchase.renewal()
    thaw = (Told(Activity.UPDATE_LICENSE_CODE_STATUS, _status_fields(code, "UNFREEZE")),) if code.frozen_at else ()
    return Changed(
        order=order,
        code=msgspec.structs.replace(code, expires_at=order.ends_at, product_id=order.product_id, frozen_at=None),
        calls=(*purchase.announced(order), *thaw, _refresh_code("RENEWAL", code, order)),
    )


def _refund_renewal(purchase: _Purchase) -> Changed:
    code = purchase.made
    if not purchase.renewals:
        raise NoSuchChange("there is no renewal to take back")
    renewal = purchase.renewals[-1]
    order = msgspec.structs.replace(
        purchase.further(OrderType.UNSUBSCRIBE),
        product_id=renewal.product_id,
        period_type=renewal.period_type,
        period_number=renewal.period_number,
        ends_at=renewal.ended_at,
    )
    return Changed(
        order=order,
        known=(msgspec.structs.replace(renewal, refunded_by=order.order_id),),
        code=msgspec.structs.replace(code, expires_at=renewal.ended_at),
        calls=(*purchase.announced(order), _refresh_code("UNSUBSCRIBE_RENEWAL_PERIOD", code, order)),
    )


def _refresh_code(scene: str, code: Code, order: PlacedOrder) -> Told:
    assert order.ends_at is not None
    fields = {"license": code.code, "productId": order.product_id, "expireTime": format_stamp(order.ends_at, UTC)}
    return Told(Activity.REFRESH_LICENSE_CODE, {"scene": scene, **_ids(order), **fields})


def _status(status: str) -> Callable[[_Purchase], Changed]:
    def make(purchase: _Purchase) -> Changed:
        code = msgspec.structs.replace(purchase.made, frozen_at=purchase.now if status == "FREEZE" else None)
        return Changed(code=code, calls=(Told(Activity.UPDATE_LICENSE_CODE_STATUS, _status_fields(code, status)),))

    return make


def _status_fields(code: Code, status: str) -> dict[str, str]:
    return {"license": code.code, "status": status}


def _release_code(order_type: OrderType | None) -> Callable[[_Purchase], Changed]:
    def make(purchase: _Purchase) -> Changed:
        code = msgspec.structs.replace(purchase.made, released_at=purchase.now)
        order = purchase.further(order_type) if order_type else None
        fields = {"license": code.code, **(_ids(order) if order else {})}
        return Changed(
            order=order,
            known=purchase.over(order),
            code=code,
            calls=(*purchase.announced(order), Told(Activity.RELEASE_LICENSE_CODE, fields)),
        )

    return make


def _expire_code(purchase: _Purchase) -> Changed:
    """Nobody is told: the next query says EXPIRED (spec §5.3)."""
    if purchase.made.activated_at is None:
        raise NoSuchChange("it is not in service yet: its period has not begun")
    return Changed(code=msgspec.structs.replace(purchase.made, expires_at=purchase.now))


def _claim(purchase: _Purchase) -> Changed:
    if not purchase.made.unclaimed:
        raise NoSuchChange("the buyer has the code already")
    return Changed(code=msgspec.structs.replace(purchase.made, unclaimed=False))


def _refresh_license(purchase: _Purchase) -> Changed:
    instance, order = purchase.instance, purchase.renewal()
    assert order.ends_at is not None
    fields = {
        "orderId": order.order_id,
        "instanceId": instance,
        "productId": order.product_id,
        "expireTime": format_stamp(order.ends_at, UTC),
        "periodType": str(order.period_type),
        "periodNumber": str(order.period_number),
    }
    return Changed(order=order, calls=(*purchase.announced(order), Told(Activity.REFRESH_LICENSE, fields)))


def _expire_license(purchase: _Purchase) -> Changed:
    return Changed(calls=(_about_instance(Activity.EXPIRE_LICENSE, purchase),))


def _release_license(order_type: OrderType | None) -> Callable[[_Purchase], Changed]:
    def make(purchase: _Purchase) -> Changed:
        told = _about_instance(Activity.RELEASE_LICENSE, purchase)
        order = purchase.further(order_type) if order_type else None
        return Changed(order=order, known=purchase.over(order), calls=(*purchase.announced(order), told))

    return make


def _about_instance(activity: Activity, purchase: _Purchase) -> Told:
    """ExpireLicense and releaseLicense name the purchase, not the new order (spec §2.2)."""
    return Told(activity, {"orderId": purchase.order.order_id, "instanceId": purchase.instance})


def _ids(order: PlacedOrder) -> dict[str, str]:
    return {"orderId": order.order_id, "orderLineId": order.order_line_id}


CHANGES: Final[Mapping[DeliveryKind, Mapping[Change, Callable[[_Purchase], Changed]]]] = {
    DeliveryKind.LICENSE_2_0: {
        Change.RENEW: _renew_code,
        Change.REFUND_RENEWAL: _refund_renewal,
        Change.REFUND: _release_code(OrderType.UNSUBSCRIBE),
        Change.FREEZE: _status("FREEZE"),
        Change.UNFREEZE: _status("UNFREEZE"),
        Change.EXPIRE: _expire_code,
        Change.RELEASE: _release_code(None),
        Change.CLAIM: _claim,
    },
    DeliveryKind.LICENSE_1_0: {
        Change.RENEW: _refresh_license,
        Change.EXPIRE: _expire_license,
        Change.RELEASE: _release_license(None),
        Change.REFUND: _release_license(OrderType.UNSUBSCRIBE),
    },
}
"""What may happen to a purchase, by dialect."""
