"""The native door of activation: a fingerprint takes a seat, or gives it back. Never more seats than bought."""

from collections.abc import Sequence
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain import ids, ratelimit
from licensesvc.domain.activation import ActivationDecision, decide_seat
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import ActivationNotFound, DomainError
from licensesvc.domain.instants import HOUR, Instant
from licensesvc.domain.license import LicenseView
from licensesvc.domain.ratelimit import Limit
from licensesvc.services.licenses.activate import IntoService
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision import supervise
from licensesvc.storage import activations, audit, buckets, connections, licenses
from licensesvc.storage.activations import StoredActivation
from licensesvc.storage.port import Tx

GIVEN_BACK: Final = Limit(name="seats-given-back", count=1_000, window=HOUR)
"""How many seats of one license may be given back."""

_FINGERPRINT_INDEX = "fingerprint"


class TakeSeat(msgspec.Struct, frozen=True, kw_only=True):
    """One call for a seat; `activation_id` is used if a seat is taken."""

    code_index: str
    fingerprint_index: str
    activation_id: str
    now: Instant


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """The seat of a fingerprint: new, or the one that it held already."""

    activation_id: str
    license_id: str
    created_at: Instant
    is_new: bool
    seats: int
    seats_taken: int


def fingerprint_index(rt: Runtime, fingerprint: str) -> str:
    """The lookup value of a fingerprint; the fingerprint itself is not stored."""
    return rt.vault.index(_FINGERPRINT_INDEX, fingerprint)


async def take_seat(rt: Runtime, code: str, fingerprint: str) -> Seat:
    """Give this fingerprint a seat. Raises LicenseNotFound, IllegalLicenseState, LicenseNotClaimed, NoFreeSeat."""
    now = rt.clock()
    command = TakeSeat(
        code_index=code_index(rt, code),
        fingerprint_index=fingerprint_index(rt, fingerprint),
        activation_id=rt.new_id(ids.ACTIVATION, now),
        now=now,
    )
    return await rt.db.submit(take_seats, command)


async def give_back(rt: Runtime, activation_id: str, limit: Limit = GIVEN_BACK) -> None:
    """Free a seat; the id is its holder's proof. Freeing it twice is fine; an unknown id raises ActivationNotFound.

    Every write that a license code allows again and again begins with a free seat, so this is where they are limited: beyond
    `limit`, or twice the seats of the license if that is more, RateLimited is raised and nothing is changed.
    """
    if "\0" in activation_id:  # PostgreSQL takes no such text
        raise ActivationNotFound
    await rt.db.write(lambda tx: _release(tx, activation_id, limit, rt.clock()))


async def take_seats(tx: Tx, commands: Sequence[TakeSeat]) -> Sequence[Seat | Exception]:
    """Hot verb: decide all waiting calls in order; the first seat puts a license into service."""
    found = await licenses.by_codes(tx, list({command.code_index for command in commands}), lock=True)
    license_ids = {loaded.view.id for loaded in found.values()}
    held = await activations.live(tx, list(license_ids), list({command.fingerprint_index for command in commands}))
    calendars = await _calendars(tx, [loaded.view for loaded in found.values()])
    unclaimed = await supervise.unclaimed(tx, found.values())
    service = IntoService()
    taken: list[StoredActivation] = []
    counts: dict[int, int] = {}
    results: list[Seat | Exception] = []
    for command in commands:
        loaded = found.get(command.code_index)
        view = service.current(loaded)
        if view is not None:
            view = msgspec.structs.replace(view, seats_taken=counts.get(view.id, view.seats_taken))
        known = held.get((view.id, command.fingerprint_index)) if view else None
        try:
            decision = decide_seat(
                view,
                already=known is not None,
                now=command.now,
                unclaimed=view is not None and view.id in unclaimed,
            )
        except DomainError as no:
            results.append(no)
            continue
        assert loaded is not None
        assert view is not None
        if decision.puts_into_service:
            started = ActivationDecision(activated_at=command.now, service_start=command.now)
            service.put(loaded, started, calendar=calendars[view.connection_id], actor=command.activation_id)
        if known is None:
            known = StoredActivation(
                id=0,
                public_id=command.activation_id,
                license_id=view.id,
                fingerprint_index=command.fingerprint_index,
                created_at=command.now,
            )
            taken.append(known)
            held[view.id, command.fingerprint_index] = known
            counts[view.id] = view.seats_taken + 1
        results.append(
            Seat(
                activation_id=known.public_id,
                license_id=view.public_id,
                created_at=known.created_at,
                is_new=decision.takes_seat,
                seats=view.seats,
                seats_taken=counts.get(view.id, view.seats_taken),
            )
        )
    await service.store(tx)
    if taken:
        await activations.take_seats(tx, taken)
        names = {loaded.view.id: loaded.view.public_id for loaded in found.values()}
        await audit.append(tx, [_event(a, "seat.taken", names[a.license_id], a.created_at) for a in taken])
    return results


async def _release(tx: Tx, activation_id: str, limit: Limit, now: Instant) -> None:
    activation = await activations.by_public_id(tx, activation_id)
    if activation is None:
        raise ActivationNotFound
    if await activations.release(tx, activation, now):
        view = (await licenses.by_id(tx, activation.license_id)).view
        limit = msgspec.structs.replace(limit, count=max(limit.count, 2 * view.seats))
        drained_at = await buckets.charge(tx, f"{limit.name} {view.public_id}", limit, now)
        if ratelimit.overdrawn(limit, drained_at, now):
            raise ratelimit.refusal(limit, ratelimit.wait(limit, drained_at, now) - limit.interval)
        await audit.append(tx, [_event(activation, "seat.given_back", view.public_id, now)])


async def _calendars(tx: Tx, views: Sequence[LicenseView]) -> dict[int, ZoneInfo]:
    found = {}
    for connection_id in {view.connection_id for view in views}:
        found[connection_id] = (await connections.by_id(tx, connection_id)).connection.calendar
    return found


def _event(activation: StoredActivation, kind: str, license_id: str, at: Instant) -> AuditEvent:
    return AuditEvent(
        at=at, actor=activation.public_id, kind=kind, subject=license_id, detail={"activation": activation.public_id}
    )
