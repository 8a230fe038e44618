"""The acceptance standard of a product: the seller changes it for new cases, old ones keep the version they started with."""

from typing import Annotated

import msgspec

from licensesvc.domain.acceptance import MAX_DELIVERY_DAYS, AcceptanceStandard, FormField, ProofKind
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import NotFound, StaleVersion
from licensesvc.services.runtime import Runtime
from licensesvc.storage import acceptance, audit, catalog
from licensesvc.storage.acceptance import StoredStandard
from licensesvc.storage.port import Tx


class ChangeStandard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which proofs and fields of the form are needed, and within how many calendar days the product is delivered (null = not told)."""

    proofs: tuple[ProofKind, ...] = ()
    fields: tuple[FormField, ...] = ()
    delivery_days: Annotated[int, msgspec.Meta(ge=1, le=MAX_DELIVERY_DAYS)] | None = None


async def standard_of_product(tx: Tx, product_id: str) -> StoredStandard:
    """The newest version; version 0 where none was ever set. Raises NotFound."""
    product = await catalog.product_by_public_id(tx, product_id)
    if product is None:
        raise NotFound
    return await acceptance.newest_standard(tx, product.id)


async def change_standard(
    tx: Tx, rt: Runtime, product_id: str, command: ChangeStandard, *, version: int, by: str
) -> StoredStandard:
    """Add the next version behind the one that was seen; the same once more changes nothing.

    Raises NotFound, StaleVersion, InvalidParameter.
    """
    product = await catalog.product_by_public_id(tx, product_id)
    if product is None:
        raise NotFound
    known = await acceptance.newest_standard(tx, product.id)
    if known.version != version:
        raise StaleVersion
    standard = AcceptanceStandard(**msgspec.structs.asdict(command))
    if standard == known.standard:
        return known
    now = rt.clock()
    changed = StoredStandard(version=version + 1, standard=standard)
    if not await acceptance.add_standard(tx, product.id, changed, now):
        raise StaleVersion
    detail: dict[str, str | int | None] = {
        "version": changed.version,
        "proofs": ", ".join(standard.proofs),
        "fields": ", ".join(standard.fields),
        "delivery_days": standard.delivery_days,
    }
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind="product.standard_changed", subject=product_id, detail=detail)]
    )
    return changed
