"""What the seller changes about a license by hand: a reason, the rule of the domain, the row, the audit event.

Every verb takes the version that its caller has seen and raises NotFound, StaleVersion and what domain/changes.py refuses. A change
that is there already writes nothing. The signed document gets its next revision when it is asked for.
"""

from typing import Annotated, TypeAlias

import msgspec

from licensesvc.domain import changes, licensecode
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.changes import Timed
from licensesvc.domain.errors import ActivationNotFound, IllegalLicenseState, NotFound, StaleVersion
from licensesvc.domain.instants import parse_rfc3339, rfc3339
from licensesvc.domain.license import ExpirySources, LicenseView
from licensesvc.domain.policy import MAX_SEATS
from licensesvc.services.catalog.manage_catalog import PeriodFields
from licensesvc.services.licenses.issue_license import code_index, seal_code
from licensesvc.services.licenses.seats import fingerprint_index
from licensesvc.services.runtime import Runtime
from licensesvc.storage import activations, audit, catalog, connections, licenses, orders
from licensesvc.storage.activations import StoredActivation
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx

Reason: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=500,
        pattern=r"\S",
        description="why; stays in the audit for good, so it names nobody",
        examples=["refund agreed, ticket 4711"],
    ),
]
Time: TypeAlias = Annotated[str, msgspec.Meta(max_length=40, examples=["2027-11-23T16:00:00.000Z"])]
Detail: TypeAlias = dict[str, str | int | None]


class WithReason(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A change that needs nothing but its reason."""

    reason: Reason


class Renew(WithReason, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Add a period to the end; without one the license's own."""

    period: PeriodFields | None = None


class MoveExpiry(WithReason, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End at a time, whatever the marketplace says later; null takes the operator's word back."""

    expires_at: Time | None


class ChangeQuantity(WithReason, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many seats the license has from now on."""

    quantity: Annotated[int, msgspec.Meta(ge=1, le=MAX_SEATS)]


class FreeSeat(WithReason, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Free the seat of this activation (`act_…`), or the one that was taken first."""

    activation: Annotated[str, msgspec.Meta(min_length=1, max_length=40)] | None = None


class ResetActivation(WithReason, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Free the seat of the device with this fingerprint, which was installed anew and now has another."""

    fingerprint: Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]

    def __repr__(self) -> str:
        return "ResetActivation(…)"


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Which license, as its caller has seen it, and who changes it why."""

    license_id: str
    version: int
    by: str
    reason: str


async def seen(tx: Tx, target: Target) -> LoadedLicense:
    """Load and lock a license that is still as its caller has seen it. Raises NotFound, StaleVersion."""
    loaded = await licenses.by_public_id(tx, target.license_id, lock=True)
    if loaded is None:
        raise NotFound
    if loaded.view.version != target.version:
        raise StaleVersion
    return loaded


async def note(tx: Tx, rt: Runtime, target: Target, kind: str, detail: Detail) -> None:
    """Append the audit event of a change, with its reason."""
    event = AuditEvent(
        at=rt.clock(),
        actor=target.by,
        kind=kind,
        subject=target.license_id,
        detail={**detail, "reason": target.reason},
    )
    await audit.append(tx, [event])


async def suspend(tx: Tx, rt: Runtime, target: Target) -> LoadedLicense:
    """Stop the license until it is reinstated."""
    loaded = await seen(tx, target)
    return await _store(tx, rt, target, loaded, changes.suspend(loaded.view, rt.clock()), "license.suspended")


async def reinstate(tx: Tx, rt: Runtime, target: Target) -> LoadedLicense:
    """End a suspension."""
    loaded = await seen(tx, target)
    return await _store(tx, rt, target, loaded, changes.reinstate(loaded.view), "license.reinstated")


async def revoke(tx: Tx, rt: Runtime, target: Target) -> LoadedLicense:
    """End the license for good."""
    loaded = await seen(tx, target)
    return await _store(tx, rt, target, loaded, changes.revoke(loaded.view), "license.revoked")


async def renew(tx: Tx, rt: Runtime, target: Target, period: PeriodFields | None) -> LoadedLicense:
    """Add a period to the end of the license."""
    loaded = await seen(tx, target)
    calendar = (await connections.by_id(tx, loaded.view.connection_id)).connection.calendar
    known = Timed(view=loaded.view, sources=loaded.sources)
    timed = changes.renew(known, period.period() if period else None, now=rt.clock(), calendar=calendar)
    return await _store_time(tx, rt, target, loaded, timed, "license.renewed")


async def move_expiry(tx: Tx, rt: Runtime, target: Target, expires_at: str | None) -> LoadedLicense:
    """Let the license end at this time (RFC 3339), or when the other sources say."""
    loaded = await seen(tx, target)
    calendar = (await connections.by_id(tx, loaded.view.connection_id)).connection.calendar
    at = None if expires_at is None else parse_rfc3339(expires_at)
    timed = changes.move_expiry(Timed(view=loaded.view, sources=loaded.sources), at, calendar)
    return await _store_time(tx, rt, target, loaded, timed, "license.expiry_moved")


async def change_quantity(tx: Tx, rt: Runtime, target: Target, quantity: int) -> LoadedLicense:
    """Sell more or fewer seats: in the state, in the license's own terms, and in the order line, so that no source undoes it."""
    known = await licenses.by_public_id(tx, target.license_id)
    if known is not None:
        await orders.find(
            tx, known.view.connection_id, known.order_id
        )  # locks are taken in one order, the order's first
    loaded = await seen(tx, target)
    view = changes.change_quantity(loaded.view, quantity)
    if view == loaded.view and loaded.amount == quantity:
        return loaded
    policy = await licenses.policy_of(tx, view.id)
    await licenses.store_quantity(tx, view.id, quantity, msgspec.structs.replace(policy, seats=quantity))
    line = await orders.line_by_id(tx, loaded.line_ref)
    terms = msgspec.structs.replace(line.terms, amount=quantity)
    await orders.update_line(tx, msgspec.structs.replace(line, terms=terms))
    detail: Detail = {"from": loaded.view.seats, "to": quantity}
    return await _write(tx, rt, target, view, loaded.sources, "license.quantity_changed", detail)


async def replace_code(tx: Tx, rt: Runtime, target: Target) -> LoadedLicense:
    """Give the license another code; from now on the old one is unknown. A code that the marketplace made is not ours to replace."""
    loaded = await seen(tx, target)
    changes.require_in_force(loaded.view)
    if await licenses.code_kinds(tx, loaded.view.id) != {"own"}:
        raise IllegalLicenseState("the marketplace made the code of this license; only the marketplace can replace it")
    product = await catalog.product_by_id(tx, loaded.view.product_id)
    code = licensecode.generate(product.code_prefix, rt.entropy)
    now = rt.clock()
    await licenses.replace_own_code(
        tx,
        loaded.view,
        code_index=code_index(rt, code),
        sealed=seal_code(rt, code, loaded.view.public_id),
        hint=licensecode.hint(code),
        now=now,
    )
    detail: Detail = {"from": loaded.code_hint, "to": licensecode.hint(code)}
    await note(tx, rt, target, "license.code_replaced", detail)
    return await licenses.by_id(tx, loaded.view.id)


async def free_seat(tx: Tx, rt: Runtime, target: Target, activation_id: str | None) -> LoadedLicense:
    """Free the seat of an activation, or the oldest one. Raises ActivationNotFound."""
    loaded = await seen(tx, target)
    if activation_id is None:
        taken = await activations.of_license(tx, loaded.view.id, after=0, limit=1)
        return await _free(tx, rt, target, loaded, taken[0] if taken else None)
    activation = await activations.by_public_id(tx, activation_id)
    belongs = activation is not None and activation.license_id == loaded.view.id
    return await _free(tx, rt, target, loaded, activation if belongs else None)


async def reset_activation(tx: Tx, rt: Runtime, target: Target, fingerprint: str) -> LoadedLicense:
    """Free the seat that a fingerprint holds. Raises ActivationNotFound."""
    loaded = await seen(tx, target)
    index = fingerprint_index(rt, fingerprint)
    held = await activations.live(tx, [loaded.view.id], [index])
    return await _free(tx, rt, target, loaded, held.get((loaded.view.id, index)))


async def _free(
    tx: Tx, rt: Runtime, target: Target, loaded: LoadedLicense, activation: StoredActivation | None
) -> LoadedLicense:
    if activation is None:
        raise ActivationNotFound("the license has no such activation")
    if not await activations.release(tx, activation, rt.clock()):
        return loaded
    await note(tx, rt, target, "seat.freed", {"activation": activation.public_id})
    return await licenses.by_id(tx, loaded.view.id)


async def _store_time(
    tx: Tx, rt: Runtime, target: Target, loaded: LoadedLicense, timed: Timed, kind: str
) -> LoadedLicense:
    if timed == Timed(view=loaded.view, sources=loaded.sources):
        return loaded
    ends = [None if at is None else rfc3339(at) for at in (loaded.view.expires_at, timed.view.expires_at)]
    detail: Detail = {"from": ends[0], "to": ends[1], "source": timed.view.expiry_source}
    return await _write(tx, rt, target, timed.view, timed.sources, kind, detail)


async def _store(
    tx: Tx, rt: Runtime, target: Target, loaded: LoadedLicense, view: LicenseView, kind: str
) -> LoadedLicense:
    if view == loaded.view:
        return loaded
    return await _write(tx, rt, target, view, loaded.sources, kind, {})


async def _write(
    tx: Tx, rt: Runtime, target: Target, view: LicenseView, sources: ExpirySources, kind: str, detail: Detail
) -> LoadedLicense:
    if not await licenses.store_change(tx, view, sources):
        raise StaleVersion
    await note(tx, rt, target, kind, detail)
    return await licenses.by_id(tx, view.id)
