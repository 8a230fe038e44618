"""Shows a license code in clear to an administrator, and remembers to whom."""

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import NotFound
from licensesvc.services.licenses.issue_license import open_code
from licensesvc.services.runtime import Runtime
from licensesvc.storage import audit, licenses
from licensesvc.storage.port import Tx


async def show_code(tx: Tx, rt: Runtime, public_id: str, *, by: str) -> str:
    """Return the code of a license; NotFound when there is none."""
    loaded = await licenses.by_public_id(tx, public_id)
    if loaded is None:
        raise NotFound
    await audit.append(
        tx, [AuditEvent(at=rt.clock(), actor=by, kind="license.code_shown", subject=public_id, detail={})]
    )
    return await open_code(tx, rt, loaded)
