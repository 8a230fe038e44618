"""Rotates the keys that sign documents, and tells of it in the audit chain."""

import asyncio
from pathlib import Path

from licensesvc.domain.audit import AuditEvent
from licensesvc.services.runtime import Runtime
from licensesvc.signing import keyset
from licensesvc.signing.keyset import Keyset
from licensesvc.storage import audit
from licensesvc.storage.port import Tx


async def rotate_keys(tx: Tx, rt: Runtime, path: Path, *, by: str) -> Keyset:
    """Sign with the next key from now on: in the file at `path`, and in this process. Raises as `keyset.load`.

    The file comes last, so that a rotation which fails leaves no event; a crash before the commit leaves one without its event.
    """
    now = rt.clock()
    retiring, following = (
        rt.signer.kid,
        [key.kid for key in rt.signer.keyset.keys if key.status is keyset.KeyStatus.NEXT],
    )
    detail: dict[str, str | int | None] = {"to": following[0] if following else None}
    await audit.append(tx, [AuditEvent(at=now, actor=by, kind="keys.rotated", subject=retiring, detail=detail)])
    rotated = await asyncio.to_thread(keyset.rotate, path, now)
    rt.signer.keyset = rotated
    return rotated
