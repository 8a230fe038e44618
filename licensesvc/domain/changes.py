"""What the seller changes about a license by hand; each takes what is known and returns what it becomes.

In: who may change what in which state. Out: reasons, audit and storing (services/licenses/change_license.py). A change that is there already
returns the view as it was given: asking twice does nothing twice.
"""

from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain.errors import IllegalLicenseState, InvalidParameter, LicenseNotActivated, SeatsInUse
from licensesvc.domain.instants import Instant, add_period
from licensesvc.domain.license import (
    ExpirySource,
    ExpirySources,
    LicenseEvent,
    LicenseState,
    LicenseView,
    effective_expiry,
    step,
)
from licensesvc.domain.policy import MAX_SEATS, Period

_FINAL = frozenset({LicenseState.REVOKED, LicenseState.RELEASED})


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """A license with everything that was said about its expiry."""

    view: LicenseView
    sources: ExpirySources


def require_in_force(view: LicenseView) -> None:
    """Refuse a license that has ended for good with IllegalLicenseState."""
    if view.state in _FINAL:
        raise IllegalLicenseState(f"the license is {view.state}, which is final")


def suspend(view: LicenseView, now: Instant) -> LicenseView:
    """Stop the license until it is reinstated; its time runs on."""
    require_in_force(view)
    return view if view.suspended_at is not None else msgspec.structs.replace(view, suspended_at=now)


def reinstate(view: LicenseView) -> LicenseView:
    """End a suspension."""
    require_in_force(view)
    return view if view.suspended_at is None else msgspec.structs.replace(view, suspended_at=None)


def revoke(view: LicenseView) -> LicenseView:
    """End the license for good; one that the marketplace released raises IllegalTransition."""
    if view.state is LicenseState.REVOKED:
        return view
    return msgspec.structs.replace(view, state=step(view.state, LicenseEvent.REVOKE))


def change_quantity(view: LicenseView, quantity: int) -> LicenseView:
    """Sell more or fewer seats, never fewer than are taken: SeatsInUse."""
    require_in_force(view)
    if not 1 <= quantity <= MAX_SEATS:
        raise InvalidParameter(f"the quantity must be 1 to {MAX_SEATS}")
    if quantity < view.seats_taken:
        raise SeatsInUse(f"{view.seats_taken} seats are taken: free some of them first")
    return view if quantity == view.seats else msgspec.structs.replace(view, seats=quantity)


def move_expiry(known: Timed, at: Instant | None, calendar: ZoneInfo) -> Timed:
    """Let the license end at `at`, whatever other sources say; None takes the operator's word back.

    InvalidParameter: without the operator nobody says when it ends.
    """
    require_in_force(known.view)
    sources = msgspec.structs.replace(known.sources, operator=at)
    view = known.view
    start = view.order_time if view.service_start is None else view.service_start
    expiry = effective_expiry(msgspec.structs.replace(sources, service_start=start), calendar)
    if expiry.at is None and expiry.source is not ExpirySource.PERPETUAL:
        raise InvalidParameter("nobody but the operator says when this license ends: give a time")
    moved = msgspec.structs.replace(view, expires_at=expiry.at, expiry_source=expiry.source)
    return Timed(view=moved, sources=sources)


def renew(known: Timed, period: Period | None, *, now: Instant, calendar: ZoneInfo) -> Timed:
    """Add `period`, or the license's own, to its end; one that has ended already begins anew at `now`.

    IllegalLicenseState: it never ends. LicenseNotActivated: its time has not begun. InvalidParameter: no period is known.
    """
    view = known.view
    require_in_force(view)
    if view.expires_at is None:
        raise IllegalLicenseState("the license never expires")
    if view.state is LicenseState.ISSUED and view.expiry_source is ExpirySource.SERVICE_PERIOD:
        raise LicenseNotActivated("the time of this license has not begun: it counts from its activation")
    added = period or known.sources.period
    if added is None:
        raise InvalidParameter("the license has no period of its own: say for how long to renew it")
    return move_expiry(known, add_period(max(view.expires_at, now), added.unit, added.count, calendar), calendar)
