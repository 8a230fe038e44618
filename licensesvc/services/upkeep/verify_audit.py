"""Verifies the audit chains while others append to them: each page is read on its own, nobody waits."""

from functools import partial

import msgspec

from licensesvc.domain.audit import AuditBroken, AuditRow, ChainHead, verify_chain
from licensesvc.services.runtime import Runtime
from licensesvc.storage import audit
from licensesvc.storage.port import Tx

PAGE = 500
"""Events read, and hashed, at once."""


class ChainReport(msgspec.Struct, frozen=True, kw_only=True):
    """How far one chain holds: whole pages of `events` with the hash of the last of them, and the first that does not."""

    chain: str
    events: int
    head: str | None
    broken_at: int | None


async def verify_audit(rt: Runtime) -> list[ChainReport]:
    """Re-compute the hash of every event of every chain."""
    return [await _verify(rt, chain) for chain in await rt.db.read(audit.chains)]


async def _verify(rt: Runtime, chain: str) -> ChainReport:
    head: ChainHead | None = None
    broken_at = None
    try:
        while page := await rt.db.read(partial(_page, chain=chain, head=head)):
            head = verify_chain(page, after=head)
    except AuditBroken as broken:
        broken_at = broken.seq
    return ChainReport(
        chain=chain,
        events=head.seq if head else 0,
        head=head.hash.hex() if head else None,
        broken_at=broken_at,
    )


async def _page(tx: Tx, *, chain: str, head: ChainHead | None) -> list[AuditRow]:
    return await audit.page(tx, chain, after=head.seq if head else 0, limit=PAGE)
