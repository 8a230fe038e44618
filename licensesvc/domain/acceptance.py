"""The acceptance standard (商家自定义验收规则): what the seller of a product must upload before whoever accepts it is asked (spec §6.6).

In: kinds of proof, fields of the form, what is still missing. Out: files (services/supervision/proof_store.py), when it matters (supervision_flows.py).
"""

from collections.abc import Collection
from enum import StrEnum
from typing import Final

import msgspec

from licensesvc.domain.errors import InvalidParameter

MAX_DELIVERY_DAYS: Final = 3_650
"""Calendar days."""


class ProofKind(StrEnum):
    """What a proof shows (spec §6.6)."""

    REQUIREMENT = "requirement"
    ACCEPTANCE = "acceptance"
    VALIDITY_SCREENSHOT = "validity_screenshot"
    DEPLOYMENT_SCREENSHOT = "deployment_screenshot"
    OTHER = "other"


class FormField(StrEnum):
    """What the form asks beside files: when the service was enabled, and the order number of the resource it runs on."""

    ENABLED_AT = "enabled_at"
    RESOURCE_ORDER = "resource_order"


class AcceptanceStandard(msgspec.Struct, frozen=True, kw_only=True):
    """One version of what a product promises: proofs and fields, and within how many calendar days it is delivered (None = not told)."""

    proofs: tuple[ProofKind, ...] = ()
    fields: tuple[FormField, ...] = ()
    delivery_days: int | None = None

    def __post_init__(self) -> None:
        """Refuse doubles and a period that no calendar has."""
        if len(set(self.proofs)) < len(self.proofs) or len(set(self.fields)) < len(self.fields):
            raise InvalidParameter("each proof and each field is named once")
        if self.delivery_days is not None and not 1 <= self.delivery_days <= MAX_DELIVERY_DAYS:
            raise InvalidParameter(f"delivery_days is 1 to {MAX_DELIVERY_DAYS}")


NO_STANDARD: Final = AcceptanceStandard()
"""Version 0, of a product whose seller has defined none: any one proof will do where a proof is asked for at all."""

ANY_PROOF: Final = "any_proof"


def missing(
    standard: AcceptanceStandard,
    *,
    proofs: Collection[ProofKind],
    fields: Collection[FormField],
    needs_proof: bool,
) -> list[str]:
    """Return what is not there yet, in the order of the standard; `needs_proof` where the flow has a node for the proof."""
    lacking: list[str] = [kind for kind in standard.proofs if kind not in proofs]
    lacking += [field for field in standard.fields if field not in fields]
    if needs_proof and not proofs and not standard.proofs:
        lacking.insert(0, ANY_PROOF)
    return lacking
