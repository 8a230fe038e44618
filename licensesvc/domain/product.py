"""What is sold: a product of ours, its identity on the marketplace and how it is delivered.

In: products, delivery kinds, code prefixes. Out: the conditions (policy.py).
"""

import re
from enum import StrEnum
from typing import Final

import msgspec

from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import Instant
from licensesvc.domain.supervision import FlowName

DEFAULT_CODE_PREFIX: Final = "LS"

_CODE_PREFIX: Final = re.compile(r"(?!PL)[A-Z][A-Z0-9]{1,7}")


class DeliveryKind(StrEnum):
    """The marketplace's ways of delivering a license (spec §0)."""

    LICENSE_2_0 = "LICENSE_2_0"
    LICENSE_1_0 = "LICENSE_1_0"
    ONLINE_LICENSE = "ONLINE_LICENSE"
    GENERAL = "GENERAL"

    @property
    def seller_makes_code(self) -> bool:
        """Whether we make the code; else the marketplace does and we only learn it."""
        return self is not DeliveryKind.LICENSE_2_0


_FLOWS: Final[dict[DeliveryKind, tuple[tuple[Instant, FlowName], ...]]] = {
    # Orders before 2025-04-25 had another node, the claim; they follow the oldest table there is (spec §6.3).
    DeliveryKind.LICENSE_2_0: ((0, FlowName.LICENSE_2_0_2025_04),),
    DeliveryKind.LICENSE_1_0: ((0, FlowName.SELLER_CODE),),
    DeliveryKind.ONLINE_LICENSE: ((0, FlowName.SELLER_CODE),),
    DeliveryKind.GENERAL: ((0, FlowName.SELLER_CODE),),
}
"""Per kind, the flows by the order time from which each is in force, newest first."""


class Product(msgspec.Struct, frozen=True, kw_only=True):
    """A product of one connection; `sku_code` empty maps every SKU of the marketplace's product."""

    id: int
    public_id: str
    connection_id: int
    policy_id: int
    name: str
    marketplace_product_id: str
    sku_code: str = ""
    delivery_kind: DeliveryKind
    code_prefix: str = DEFAULT_CODE_PREFIX

    def __post_init__(self) -> None:
        """Refuse a prefix that could be taken for a code of the marketplace."""
        if not valid_code_prefix(self.code_prefix):
            raise InvalidParameter(
                "a code prefix is 2 to 8 of A-Z and 0-9, starts with a letter and does not start with PL"
            )


def flow_for(kind: DeliveryKind, order_time: Instant) -> FlowName:
    """Return the supervision flow of an order of this kind placed at `order_time`."""
    return next(flow for since, flow in _FLOWS[kind] if since <= order_time)


def valid_code_prefix(text: str) -> bool:
    """Whether `text` may start our license codes: 2 to 8 of A-Z and 0-9, a letter first, never `PL` (spec §5.1)."""
    return _CODE_PREFIX.fullmatch(text) is not None
