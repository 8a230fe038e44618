"""What is sold: a product of ours, its identity on the marketplace and how it is delivered.

In: products, delivery kinds, code prefixes. Out: the conditions (policy.py), supervision of a kind's orders (supervision_flows.py).
"""

import re
from enum import StrEnum
from typing import Final

import msgspec

from licensesvc.domain.errors import InvalidParameter

DEFAULT_CODE_PREFIX: Final = "LS"

_CODE_PREFIX: Final = re.compile(r"(?!PL)[A-Z][A-Z0-9]{1,7}")


class DeliveryKind(StrEnum):
    """The marketplace's ways of delivering (spec §0, §6.1, §6.2, §6.9)."""

    LICENSE_2_0 = "LICENSE_2_0"
    LICENSE_1_0 = "LICENSE_1_0"
    LICENSE_1_0_SYSTEM_CODE = "LICENSE_1_0_SYSTEM_CODE"
    LICENSE_1_0_HARDWARE_CODE = "LICENSE_1_0_HARDWARE_CODE"
    ONLINE_LICENSE = "ONLINE_LICENSE"
    GENERAL = "GENERAL"
    SOFTWARE_PACKAGE = "SOFTWARE_PACKAGE"
    SAAS_HUMAN = "SAAS_HUMAN"
    HARDWARE = "HARDWARE"
    AI_ASSET = "AI_ASSET"

    @property
    def seller_makes_code(self) -> bool:
        """Whether we make the code; else the marketplace does and we only learn it, or there is none."""
        return self is not DeliveryKind.LICENSE_2_0 and self not in _WITHOUT_CODE

    @property
    def has_code(self) -> bool:
        """Whether what is delivered is used with a license code at all."""
        return self not in _WITHOUT_CODE


_WITHOUT_CODE: Final = frozenset({DeliveryKind.SAAS_HUMAN, DeliveryKind.HARDWARE, DeliveryKind.AI_ASSET})


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


def valid_code_prefix(text: str) -> bool:
    """Whether `text` may start our license codes: 2 to 8 of A-Z and 0-9, a letter first, never `PL` (spec §5.1)."""
    return _CODE_PREFIX.fullmatch(text) is not None
