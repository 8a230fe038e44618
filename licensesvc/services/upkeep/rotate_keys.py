"""Rotates the keys that sign documents, gives up those that leaked, and tells of it in the audit chain."""

from pathlib import Path
from typing import Annotated

import msgspec

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import NotFound
from licensesvc.services.runtime import Runtime
from licensesvc.signing import keyset
from licensesvc.signing.keyset import Keyset, UnknownKid
from licensesvc.storage import audit
from licensesvc.storage.port import Tx


class CompromiseKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a key is given up."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=200, examples=["laptop stolen"])]


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
    rotated = await tx.aside(keyset.rotate, path, now)
    rt.signer.keyset = rotated
    return rotated


async def compromise_key(tx: Tx, rt: Runtime, path: Path, kid: str, command: CompromiseKey, *, by: str) -> Keyset:
    """Give up a key, in the file at `path` and in this process; licenses that it signed are signed anew when asked for.

    Raises NotFound, and as `keyset.load`. File and event go as in `rotate_keys`.
    """
    detail: dict[str, str | int | None] = {"reason": command.reason}
    event = AuditEvent(at=rt.clock(), actor=by, kind="keys.compromised", subject=kid, detail=detail)
    await audit.append(tx, [event])
    try:
        remaining = await tx.aside(keyset.compromise, path, kid, rt.clock())
    except UnknownKid:
        raise NotFound("no key here has this kid") from None
    rt.signer.keyset = remaining
    return remaining
