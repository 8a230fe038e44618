"""What a step of supervision brings about for the license of its line, in the same transaction.

In: the completion fixes the start of service, a granted refund releases, a reopening takes the settlement back. Out: which steps there are.
The license is locked before the case, as everywhere.
"""

from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.instants import Instant
from licensesvc.domain.license import LicenseEvent, LicenseState, effective_expiry, step
from licensesvc.domain.supervision import Node
from licensesvc.storage import audit, licenses
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import StoredCase


async def bring_about(
    tx: Tx, before: StoredCase, after: StoredCase, *, by: str, now: Instant, calendar: ZoneInfo
) -> None:
    """Change the license as the case has changed; a case whose line has no license, or one that is over, changes nothing."""
    if before.node is after.node or not {before.node, after.node} & _MATTER:
        return
    loaded = await licenses.by_line(tx, after.line_ref, lock=True)
    if loaded is None:
        return
    if after.node is Node.COMPLETED:
        await _fix_start(tx, loaded, after, by=by, now=now, calendar=calendar)
        await licenses.settle(
            tx, after.line_ref, after.state.completed_at
        )  # from now on even an estimated expiry binds
    elif before.node is Node.COMPLETED:
        await licenses.settle(tx, after.line_ref, None)
    elif after.node is Node.REFUNDED:
        await _release(tx, loaded, after, by=by, now=now)


_MATTER = frozenset({Node.COMPLETED, Node.REFUNDED})


async def _fix_start(
    tx: Tx, loaded: LoadedLicense, case: StoredCase, *, by: str, now: Instant, calendar: ZoneInfo
) -> None:
    """The service of a license that no software has activated starts as the proof's form says, else with the acceptance (spec §6.6)."""
    view = loaded.view
    if view.service_start is not None or view.state is not LicenseState.ISSUED:
        return
    start = case.state.enabled_at if case.state.enabled_at is not None else case.state.accepted_at
    expiry = effective_expiry(msgspec.structs.replace(loaded.sources, service_start=start), calendar)
    fixed = msgspec.structs.replace(view, service_start=start, expires_at=expiry.at, expiry_source=expiry.source)
    await licenses.store_service_start(tx, fixed)
    event = AuditEvent(
        at=now,
        actor=by,
        kind="license.service_started",
        subject=view.public_id,
        detail={"service_start": start, "expires_at": expiry.at, "case": case.public_id},
    )
    await audit.append(tx, [event])


async def _release(tx: Tx, loaded: LoadedLicense, case: StoredCase, *, by: str, now: Instant) -> None:
    if loaded.view.state is LicenseState.RELEASED:
        return
    released = msgspec.structs.replace(loaded.view, state=step(loaded.view.state, LicenseEvent.RELEASE))
    await licenses.store_change(tx, released, loaded.sources)
    event = AuditEvent(
        at=now,
        actor=by,
        kind="license.released",
        subject=loaded.view.public_id,
        detail={"case": case.public_id},
    )
    await audit.append(tx, [event])
