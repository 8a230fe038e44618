"""What the marketplace changes about a license by its calls (spec §§2.1, 2.2): the rule of the domain, the row, the audit event.

In: a locked license and what the call says. Out: finding or learning the license (receive_call.py), when a license may change
(domain/marketplace_calls.py). A call that changes nothing writes nothing. The signed document gets its next revision when it is asked for.
"""

from typing import Final, TypeAlias

import msgspec

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import StaleVersion
from licensesvc.domain.instants import Instant, rfc3339
from licensesvc.domain.license import ExpirySource
from licensesvc.domain.marketplace_calls import Effect, Outcome, Refresh, freeze, refresh, release, unfreeze
from licensesvc.domain.order import is_placeholder
from licensesvc.domain.supervision import Event, Source
from licensesvc.domain.supervision_case import possible
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.confirm_supervision import confirm_locked
from licensesvc.storage import audit, catalog, license_calls, supervision
from licensesvc.storage.license_calls import LicenseCall
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx

Detail: TypeAlias = dict[str, str | int | None]

_TOLD: Final = frozenset({ExpirySource.OPERATOR, ExpirySource.REFRESH})
"""Who knows when a license ends whose order nobody has told yet."""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who changes the license: the connection it belongs to, whom the audit names, and the way the call came."""

    connection: Connection
    by: str
    source: str


async def refresh_license(tx: Tx, rt: Runtime, caller: Caller, loaded: LoadedLicense, new: Refresh) -> str | None:
    """Move the end; return what is worth noting about it."""
    now, view, connection = rt.clock(), loaded.view, caller.connection
    new = msgspec.structs.replace(new, placed_at=await license_calls.order_time(tx, connection.id, new.order_id))
    outcome = refresh(
        view,
        loaded.sources,
        new,
        current=await license_calls.refresh_in_force(tx, view.id, connection.id),
        repeated=await license_calls.is_known(tx, view.id, "refresh", new.order_id, new.order_line_id),
        now=now,
        calendar=connection.calendar,
    )
    if outcome.effect is Effect.REPEATED:
        return outcome.note
    call = LicenseCall(
        kind="refresh",
        order_id=new.order_id,
        order_line_id=new.order_line_id,
        effect=outcome.effect,
        scene=new.scene,
        product_id=new.product_id,
        expires_at=new.expires_at,
    )
    await license_calls.insert(tx, view.id, call, now)
    detail: Detail = {"order": new.order_id, "line": new.order_line_id, "scene": new.scene, "product": new.product_id}
    detail["refresh"] = rfc3339(new.expires_at)
    if outcome.effect is not Effect.APPLIED:
        await _note(tx, caller, loaded, "license.refresh_not_applied", {**detail, "reason": outcome.effect}, now)
        return outcome.note
    ends = [None if at is None else rfc3339(at) for at in (view.expires_at, outcome.view.expires_at)]
    detail |= {"from": ends[0], "to": ends[1], "expiry_source": outcome.view.expiry_source}
    if view.frozen_at != outcome.view.frozen_at:
        detail["freeze"] = "ended" if outcome.view.frozen_at is None else "counts"
    sold = await _product_told(tx, caller, loaded, new)
    await _write(tx, caller, loaded, outcome, "license.refreshed", detail, now, sold=sold)
    return outcome.note


async def freeze_license(tx: Tx, rt: Runtime, caller: Caller, loaded: LoadedLicense) -> str | None:
    """Freeze what has expired; return what is worth noting about it."""
    now = rt.clock()
    end_known = not is_placeholder(loaded.order_id) or loaded.view.expiry_source in _TOLD
    outcome = freeze(loaded.view, loaded.sources, now=now, end_known=end_known)
    if outcome.effect is Effect.APPLIED:
        await _write(tx, caller, loaded, outcome, "license.frozen", {}, now)
    elif outcome.effect is Effect.UNHEEDED:
        ends = None if loaded.view.expires_at is None else rfc3339(loaded.view.expires_at)
        await _write(tx, caller, loaded, outcome, "license.freeze_not_applied", {"expires_at": ends}, now)
    return outcome.note


async def unfreeze_license(tx: Tx, rt: Runtime, caller: Caller, loaded: LoadedLicense) -> str | None:
    """End a freeze; return what is worth noting about it."""
    outcome = unfreeze(loaded.view, loaded.sources)
    if outcome.effect is Effect.APPLIED:
        await _write(tx, caller, loaded, outcome, "license.unfrozen", {}, rt.clock())
    return outcome.note


async def release_license(
    tx: Tx,
    rt: Runtime,
    caller: Caller,
    loaded: LoadedLicense,
    *,
    refund_order: str | None,
    refund_line: str | None,
) -> str | None:
    """End the license for good. A `refund_order` tells a refund apart; one that is told later is added."""
    now, outcome = rt.clock(), release(loaded.view, loaded.sources)
    order_id, line_id = refund_order or "", refund_line or ""
    told = await license_calls.is_known(tx, loaded.view.id, "release", order_id, line_id)
    if outcome.effect is Effect.REPEATED and (told or refund_order is None):
        return outcome.note
    if not told:
        call = LicenseCall(kind="release", order_id=order_id, order_line_id=line_id, effect=Effect.APPLIED)
        await license_calls.insert(tx, loaded.view.id, call, now)
    detail: Detail = {"refund_order": refund_order, "refund_line": refund_line}
    if outcome.effect is Effect.APPLIED:
        detail |= {"from": loaded.view.state}
        await _write(tx, caller, loaded, outcome, "license.released", detail, now)
    else:
        await _note(tx, caller, loaded, "license.refund_told", detail, now)
    if refund_order is not None:
        await _refund_case(tx, rt, caller, loaded)
    return outcome.note


async def _refund_case(tx: Tx, rt: Runtime, caller: Caller, loaded: LoadedLicense) -> None:
    """A refund ends the supervision of the purchase too, unless that was over (spec §6.8); the license is locked before its case."""
    case = (await supervision.of_lines(tx, [loaded.line_ref])).get(loaded.line_ref)
    if case is not None and (case.state.frozen or Event.REFUNDED in possible(case.flow, case.state)):
        await confirm_locked(tx, rt, case, Event.REFUNDED, at=None, by=caller.by, source=Source.MARKETPLACE)


async def _product_told(tx: Tx, caller: Caller, loaded: LoadedLicense, new: Refresh) -> str:
    """The marketplace's product that answers name from now on: the one that came with the refresh, if we sell it."""
    if new.product_id is not None and await catalog.sells(tx, caller.connection.id, new.product_id):
        return new.product_id
    return loaded.marketplace_product_id


async def _write(
    tx: Tx,
    caller: Caller,
    loaded: LoadedLicense,
    outcome: Outcome,
    kind: str,
    detail: Detail,
    now: Instant,
    *,
    sold: str | None = None,
) -> None:
    if not await license_calls.store(tx, outcome.view, outcome.sources, sold or loaded.marketplace_product_id):
        raise StaleVersion
    await _note(tx, caller, loaded, kind, detail, now)


async def _note(tx: Tx, caller: Caller, loaded: LoadedLicense, kind: str, detail: Detail, now: Instant) -> None:
    event = AuditEvent(
        at=now,
        actor=caller.by,
        kind=kind,
        subject=loaded.view.public_id,
        detail={**detail, "source": caller.source},
    )
    await audit.append(tx, [event])
