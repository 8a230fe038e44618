"""The marketplace-compatible activation (spec §1.3): puts a license into service, takes no seat."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain.activation import ActivationDecision, decide_activation, decide_activations
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import DomainError
from licensesvc.domain.instants import Instant
from licensesvc.domain.license import LicenseEvent, LicenseView, effective_expiry, step
from licensesvc.domain.supervision import Actor
from licensesvc.services.supervision import supervise
from licensesvc.storage import audit, licenses
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import StoredCase


class Activate(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the activation interface; `product_id` None = any product of the connection."""

    code_index: str
    connection_id: int
    product_id: int | None
    calendar: ZoneInfo
    real_effect_time: Instant | None
    now: Instant
    actor: str


class ActivateAll(msgspec.Struct, frozen=True, kw_only=True):
    """One call with a list of codes; `product_id` None = any product of the connection."""

    code_indexes: tuple[str, ...]
    connection_id: int
    product_id: int | None
    calendar: ZoneInfo
    real_effect_time: Instant | None
    now: Instant
    actor: str


async def activate(tx: Tx, commands: Sequence[Activate]) -> Sequence[LoadedLicense | Exception]:
    """Hot verb: decide all waiting activations in order and write those that succeed."""
    found = await licenses.by_codes(tx, list({command.code_index for command in commands}), lock=True)
    unclaimed = await supervise.unclaimed(tx, found.values())
    service = IntoService()
    results: list[LoadedLicense | Exception] = []
    for command in commands:
        loaded = found.get(command.code_index)
        try:
            decision = decide_activation(
                service.current(loaded),
                connection_id=command.connection_id,
                product_id=command.product_id,
                now=command.now,
                real_effect_time=command.real_effect_time,
                unclaimed=loaded is not None and loaded.view.id in unclaimed,
            )
        except DomainError as no:
            results.append(no)
            continue
        assert loaded is not None
        results.append(service.put(loaded, decision, calendar=command.calendar, actor=command.actor))
    await service.store(tx)
    return results


async def activate_all(tx: Tx, commands: Sequence[ActivateAll]) -> Sequence[int | Exception]:
    """Hot verb: put every license of a list into service, or none of it; the result says how many."""
    indexes = {index for command in commands for index in command.code_indexes}
    found = await licenses.by_codes(tx, sorted(indexes), lock=True)
    unclaimed = await supervise.unclaimed(tx, found.values())
    service = IntoService()
    results: list[int | Exception] = []
    for command in commands:
        listed = [found.get(index) for index in command.code_indexes]
        try:
            decided = decide_activations(
                [service.current(loaded) for loaded in listed],
                connection_id=command.connection_id,
                product_id=command.product_id,
                now=command.now,
                real_effect_time=command.real_effect_time,
                unclaimed=unclaimed,
            )
        except DomainError as no:
            results.append(no)
            continue
        by_id = {loaded.view.id: loaded for loaded in listed if loaded is not None}
        for license_id, decision in decided.items():
            service.put(by_id[license_id], decision, calendar=command.calendar, actor=command.actor)
        results.append(len(decided))
    await service.store(tx)
    return results


class IntoService:
    """Licenses that a batch puts into service: later commands of the batch see them as ACTIVE."""

    def __init__(self) -> None:
        self._changed: dict[int, LoadedLicense] = {}
        self._actors: dict[int, str] = {}

    def current(self, loaded: LoadedLicense | None) -> LicenseView | None:
        """The license as the batch has left it so far."""
        if loaded is None:
            return None
        return self._changed.get(loaded.view.id, loaded).view

    def put(
        self, loaded: LoadedLicense, decision: ActivationDecision, *, calendar: ZoneInfo, actor: str
    ) -> LoadedLicense:
        """Fix service start and expiry of a license that was decided to activate; a start that is fixed already stays."""
        start = decision.service_start if loaded.view.service_start is None else loaded.view.service_start
        expiry = effective_expiry(msgspec.structs.replace(loaded.sources, service_start=start), calendar)
        view = msgspec.structs.replace(
            loaded.view,
            state=step(loaded.view.state, LicenseEvent.ACTIVATE),
            activated_at=decision.activated_at,
            service_start=start,
            expires_at=expiry.at,
            expiry_source=expiry.source,
        )
        active = msgspec.structs.replace(loaded, view=view)
        self._changed[view.id] = active
        self._actors[view.id] = actor
        return active

    async def store(self, tx: Tx) -> None:
        """Write the licenses, move their supervision cases and append the audit events."""
        if not self._changed:
            return
        await licenses.store_activated(tx, [loaded.view for loaded in self._changed.values()])
        moved = await supervise.software_activated(
            tx, {loaded.line_ref: _activated_at(loaded) for loaded in self._changed.values()}, actor=Actor.SOFTWARE
        )
        await audit.append(tx, [self._event(loaded, moved.get(loaded.line_ref)) for loaded in self._changed.values()])

    def _event(self, loaded: LoadedLicense, case: StoredCase | None) -> AuditEvent:
        return AuditEvent(
            at=_activated_at(loaded),
            actor=self._actors[loaded.view.id],
            kind="license.activated",
            subject=loaded.view.public_id,
            detail={
                "service_start": loaded.view.service_start,
                "expires_at": loaded.view.expires_at,
                "case": case.public_id if case else None,
                "node": case.node if case else None,
            },
        )


def _activated_at(loaded: LoadedLicense) -> Instant:
    assert loaded.view.activated_at is not None
    return loaded.view.activated_at
