"""Orders: what the sources say about one order line, and what we make of it.

In: order types, facts, merging them. Out: who said it and when to ask (services), the license itself (license.py).
"""

from enum import StrEnum
from typing import Final

import msgspec

from licensesvc.domain.errors import OrderConflict
from licensesvc.domain.instants import Instant
from licensesvc.domain.policy import Period
from licensesvc.domain.product import DeliveryKind

ONE_TIME: Final = "ONE_TIME"
"""The charging mode that buys for good (spec §1.6)."""
FOR_A_PERIOD: Final = "PERIOD"
"""The charging mode that buys a length of time (spec §1.6)."""

_PLACEHOLDER: Final = "LEARNED-"


class OrderType(StrEnum):
    """What an order does (spec §1.6)."""

    NEW = "NEW"
    TRIAL = "TRIAL"
    TRIAL_TO_FORMAL = "TRIAL_TO_FORMAL"
    UNSUBSCRIBE = "UNSUBSCRIBE"
    RENEW = "RENEW"
    CHANGE = "CHANGE"


class OrderFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What one source (getLicense, a line of order/query, an operator) says; None where it says nothing.

    `expiry_order_query` and `expiry_estimate` are both called expireTime on the wire: the first stands in order/query
    (spec §1.6), the second in getLicense (spec §2.2). `presumed_one_time`
    is a guess of a source that names neither period nor expiry. Without a `line_id` the order's first line is meant.
    `identification_code` names the device that the license is for (spec §2.2); it is a fingerprint, so it never reaches logs or messages.
    `enablement_cloud` marks a 赋能云 order (spec §6.3), of which no interface tells.
    """

    order_id: str
    order_type: OrderType
    line_id: str | None = None
    order_time: Instant | None = None
    marketplace_product_id: str | None = None
    sku_code: str | None = None
    charging_mode: str | None = None
    presumed_one_time: bool | None = None
    period: Period | None = None
    amount: int | None = None
    expiry_order_query: Instant | None = None
    expiry_estimate: Instant | None = None
    instance_id: str | None = None
    identification_code: str | None = None
    enablement_cloud: bool | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.order_id!r}, {self.line_id!r})"


class LineTerms(OrderFacts, frozen=True, kw_only=True):
    """Everything the sources have said about one line, whose id is settled, and when we first heard of it."""

    line_id: str
    received_at: Instant

    @property
    def bought_for_good(self) -> bool:
        """Whether the order bought a license without end: as charged, or presumed while no source tells more."""
        if self.charging_mode is not None:
            return self.charging_mode == ONE_TIME
        nothing_told = (self.period, self.expiry_order_query, self.expiry_estimate) == (None, None, None)
        return self.presumed_one_time is True and nothing_told

    @property
    def ordered_at(self) -> Instant:
        """When the buyer placed the order; until a source says so, when we heard of it."""
        return self.received_at if self.order_time is None else self.order_time


def default_line_id(order_id: str) -> str:
    """Return the id of an order's first line (spec §1.6)."""
    return f"{order_id}-000001"


def placeholder_order_id(mark: str) -> str:
    """Return the id of the order that stands in for the unknown one of a learned code; `mark` is 32 hex digits by that code."""
    return f"{_PLACEHOLDER}{mark}"


def is_placeholder(order_id: str) -> bool:
    """Whether an order only stands in for one that nobody has told yet."""
    return order_id.startswith(_PLACEHOLDER)


def open_line(facts: OrderFacts, received_at: Instant) -> LineTerms:
    """Return the terms of a line that nobody has spoken of before."""
    said = msgspec.structs.asdict(facts)
    said["line_id"] = facts.line_id or default_line_id(facts.order_id)
    return LineTerms(**said, received_at=received_at)


def merge(known: LineTerms, facts: OrderFacts) -> LineTerms:
    """Return `known` with its gaps filled from `facts`; what is known stays, so a repeat changes nothing.

    Facts of another line, or of another product for this line, raise OrderConflict.
    """
    if (known.order_id, known.line_id) != (facts.order_id, facts.line_id or default_line_id(facts.order_id)):
        raise OrderConflict("the facts belong to another order line")
    products = {known.marketplace_product_id, facts.marketplace_product_id} - {None}
    if len(products) > 1:
        raise OrderConflict("the order line is known with another product")
    gaps = {name: getattr(facts, name) for name in facts.__struct_fields__ if getattr(known, name) is None}
    return msgspec.structs.replace(known, **gaps)


def opens_case(order_type: OrderType) -> bool:
    """Whether such an order opens a line with a supervision case; the others are linked to one (spec §6.1)."""
    return order_type in {OrderType.NEW, OrderType.TRIAL}


def issues_license(order_type: OrderType, delivery_kind: DeliveryKind) -> bool:
    """Whether such an order is issued a license of ours."""
    return opens_case(order_type) and delivery_kind.seller_makes_code
