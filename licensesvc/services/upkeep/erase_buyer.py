"""Erases a buyer's personal data. Licenses, orders and the audit chain name the buyer by id only, so they stay provable."""

from typing import Annotated

import msgspec

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import NotFound
from licensesvc.services.runtime import Runtime
from licensesvc.storage import audit, buyers
from licensesvc.storage.buyers import StoredBuyer
from licensesvc.storage.port import Tx


class EraseBuyer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why; it stays in the audit chain for good, so it names no person."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=200, examples=["request of 2026-11-23"])]


async def erase_buyer(tx: Tx, rt: Runtime, public_id: str, command: EraseBuyer, *, by: str) -> StoredBuyer:
    """Empty the buyer's row; erasing twice changes nothing. Raises NotFound."""
    buyer = await buyers.by_public_id(tx, public_id)
    if buyer is None:
        raise NotFound
    if buyer.erased_at is not None:
        return buyer
    now = rt.clock()
    await buyers.erase(tx, buyer.id, mark=f"erased:{public_id}", now=now)
    event = AuditEvent(at=now, actor=by, kind="buyer.erased", subject=public_id, detail={"reason": command.reason})
    await audit.append(tx, [event])
    return msgspec.structs.replace(buyer, person=None, erased_at=now)
