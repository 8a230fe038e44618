"""What software may do with a license: put it into service, ask for it, take a seat of it.

In: decisions over one view; each takes the view or None when the code is unknown. Out: loading it and writing the outcome.
The order of the checks is part of the contract: existence, state, then parameters.
"""

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from licensesvc.domain.errors import (
    IllegalLicenseState,
    InvalidCodeListed,
    InvalidParameter,
    LicenseNotActivated,
    LicenseNotClaimed,
    LicenseNotFound,
    NoFreeSeat,
)
from licensesvc.domain.instants import MINUTE, SECOND, Instant
from licensesvc.domain.license import LicenseState, LicenseStatus, LicenseView, WireStatus, status_at, wire_status

MAX_CLOCK_LEAD: Final = 5 * MINUTE
"""How far in the future a stated start of service may lie: clocks of customers run ahead."""


class ActivationDecision(msgspec.Struct, frozen=True, kw_only=True):
    """The license goes from ISSUED to ACTIVE with these instants."""

    activated_at: Instant
    service_start: Instant


class SeatDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What a seat request changes; neither means that the fingerprint had its seat already."""

    puts_into_service: bool
    takes_seat: bool


class ValidationCode(StrEnum):
    """Why a license may be used or not, as the native API says it."""

    VALID = "VALID"
    NOT_FOUND = "NOT_FOUND"
    NOT_ACTIVATED = "NOT_ACTIVATED"
    EXPIRED = "EXPIRED"
    FROZEN = "FROZEN"
    SUSPENDED = "SUSPENDED"
    REVOKED = "REVOKED"
    RELEASED = "RELEASED"
    FINGERPRINT_REQUIRED = "FINGERPRINT_REQUIRED"
    """The license is node-locked, and nobody said which device asks."""
    FINGERPRINT_NOT_ACTIVATED = "FINGERPRINT_NOT_ACTIVATED"


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to "may I run?"; `status` is None where the license is unknown."""

    valid: bool
    code: ValidationCode
    status: LicenseStatus | None


def decide_activation(
    view: LicenseView | None,
    *,
    connection_id: int,
    product_id: int | None,
    now: Instant,
    real_effect_time: Instant | None,
    unclaimed: bool = False,
) -> ActivationDecision:
    """Put a license into service (spec §1.3); a `product_id` of None stands for every product of the connection.

    LicenseNotFound: unknown, or of another connection or product. IllegalLicenseState: not ISSUED, frozen or suspended.
    LicenseNotClaimed: `unclaimed`, the buyer must claim the code first and has not.
    InvalidParameter: `real_effect_time` lies outside [order time, now + `MAX_CLOCK_LEAD`]. It is stated in whole seconds, so the
    second in which the order was placed counts as a whole.
    """
    view = _own(view, connection_id, product_id)
    if not _may_enter_service(view):
        raise IllegalLicenseState
    if unclaimed:
        raise LicenseNotClaimed
    if real_effect_time is None:
        return ActivationDecision(activated_at=now, service_start=now)
    earliest = view.order_time - view.order_time % SECOND
    if not earliest <= real_effect_time <= now + MAX_CLOCK_LEAD:
        raise InvalidParameter("real_effect_time lies before the order or in the future")
    return ActivationDecision(activated_at=now, service_start=real_effect_time)


def decide_activations(
    views: Iterable[LicenseView | None],
    *,
    connection_id: int,
    product_id: int | None,
    now: Instant,
    real_effect_time: Instant | None,
    unclaimed: Collection[int] = (),
) -> dict[int, ActivationDecision]:
    """Put the licenses of a list into service, all or none; by internal id, for a license that is listed twice counts once.

    `unclaimed` are ids of licenses. InvalidCodeListed: one is unknown, unclaimed, or in a state that forbids it; LicenseNotClaimed where
    the list is that one. InvalidParameter: as `decide_activation`, for one of them.
    """
    views = list(views)
    decided: dict[int, ActivationDecision] = {}
    unknown, illegal = 0, False
    refused: InvalidParameter | None = None
    for view in views:
        try:
            decision = decide_activation(
                view,
                connection_id=connection_id,
                product_id=product_id,
                now=now,
                real_effect_time=real_effect_time,
                unclaimed=view is not None and view.id in unclaimed,
            )
        except LicenseNotFound:
            unknown += 1
        except LicenseNotClaimed:
            if len(views) == 1:
                raise
            illegal = True
        except IllegalLicenseState:
            illegal = True
        except InvalidParameter as no:
            refused = no
        else:
            assert view is not None
            decided[view.id] = decision
    if unknown or illegal:
        raise InvalidCodeListed(unknown)
    if refused is not None:
        raise refused
    return decided


def decide_heartbeat(
    view: LicenseView | None, *, connection_id: int, product_id: int | None, now: Instant
) -> WireStatus:
    """Return the status that a query answers (spec §§1.4, 5.2); raises LicenseNotFound, LicenseNotActivated."""
    return wire_status(status_at(_own(view, connection_id, product_id), now))


def decide_heartbeats(
    views: Sequence[LicenseView | None], *, connection_id: int, product_id: int | None, now: Instant
) -> list[WireStatus]:
    """Return the statuses that a query of a list answers, in its order; InvalidCodeListed: one is unknown or not activated."""
    statuses: list[WireStatus] = []
    unknown = 0
    for view in views:
        try:
            statuses.append(decide_heartbeat(view, connection_id=connection_id, product_id=product_id, now=now))
        except LicenseNotFound:
            unknown += 1
        except LicenseNotActivated:
            pass
    if len(statuses) < len(views):
        raise InvalidCodeListed(unknown)
    return statuses


def decide_seat(view: LicenseView | None, *, already: bool, now: Instant, unclaimed: bool = False) -> SeatDecision:
    """Give a fingerprint its seat; `already` says that it holds one, and a second is never taken.

    The first seat puts the license into service. LicenseNotFound: unknown. IllegalLicenseState: neither alive nor free to
    enter service. LicenseNotClaimed: free to, but the buyer must claim the code first. NoFreeSeat: all are taken.
    """
    if view is None:
        raise LicenseNotFound
    puts_into_service = _may_enter_service(view)
    if not puts_into_service and status_at(view, now) is not LicenseStatus.ALIVE:
        raise IllegalLicenseState
    if puts_into_service and unclaimed:
        raise LicenseNotClaimed
    if not already and view.seats_taken >= view.seats:
        raise NoFreeSeat
    return SeatDecision(puts_into_service=puts_into_service, takes_seat=not already)


def validate(
    view: LicenseView | None,
    *,
    now: Instant,
    fingerprint_given: bool,
    fingerprint_active: bool,
    fingerprint_needed: bool = False,
) -> Validation:
    """Say whether the license may be used, and by this fingerprint if one is given; node-locked ones need one."""
    if view is None:
        return Validation(valid=False, code=ValidationCode.NOT_FOUND, status=None)
    status = status_at(view, now)
    if status is not LicenseStatus.ALIVE:
        return Validation(valid=False, code=ValidationCode(status), status=status)
    if fingerprint_needed and not fingerprint_given:
        return Validation(valid=False, code=ValidationCode.FINGERPRINT_REQUIRED, status=status)
    if fingerprint_given and not fingerprint_active:
        return Validation(valid=False, code=ValidationCode.FINGERPRINT_NOT_ACTIVATED, status=status)
    return Validation(valid=True, code=ValidationCode.VALID, status=status)


def _own(view: LicenseView | None, connection_id: int, product_id: int | None) -> LicenseView:
    """A stranger cannot tell a foreign license from an unknown one."""
    if view is None or view.connection_id != connection_id or product_id not in {None, view.product_id}:
        raise LicenseNotFound
    return view


def _may_enter_service(view: LicenseView) -> bool:
    return view.state is LicenseState.ISSUED and view.frozen_at is None and view.suspended_at is None
