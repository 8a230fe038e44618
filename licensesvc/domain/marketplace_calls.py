"""What calls of the marketplace make of a license: later end, freeze, release; each takes what is known and returns what it becomes.

In: which of two refreshes is the newer, what a call may still change, the note for whoever reads the message. Out: finding the license,
storing, audit (services/calls/change_by_call.py). Calls come late, twice and out of order (spec §2.1): the same calls shall lead to the same end.
Two rules do it. A refresh counts by the age of its order, not by when it arrived. And the marketplace freezes only what has
expired, so a freeze never stands beside an end that lies ahead.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.license import (
    ExpirySource,
    ExpirySources,
    LicenseEvent,
    LicenseState,
    LicenseView,
    effective_expiry,
    step,
)
from licensesvc.domain.licensecode import CodeKind, inspect

_OVER: Final = frozenset({LicenseState.REVOKED, LicenseState.RELEASED})
_MARKETPLACE_CODE: Final = re.compile(r"[!-~]{1,64}")
_PLACED_AT: Final = re.compile(r"[A-Z]{2}([0-9]{10})[0-9A-Z]*")


class Scene(StrEnum):
    """Why a code is refreshed (spec §2.1.1)."""

    RENEWAL = "RENEWAL"
    UNSUBSCRIBE_RENEWAL_PERIOD = "UNSUBSCRIBE_RENEWAL_PERIOD"


class Effect(StrEnum):
    """What became of a call."""

    APPLIED = "applied"
    REPEATED = "repeated"
    """It was carried out before."""
    OLDER = "older"
    """A refresh that a newer one has overtaken."""
    UNHEEDED = "unheeded"
    """A freeze of a license whose end lies ahead."""
    OVER = "over"
    """The license has ended for good."""


class Refresh(msgspec.Struct, frozen=True, kw_only=True):
    """An order that moves the end of a license to `expires_at`, whatever it was.

    `scene` is None for License 1.0, which does not tell it; `order_line_id` is empty there. `placed_at` is the time of the order where a
    source told it. `product_id` is the marketplace's product from now on, where it changes.
    """

    order_id: str
    order_line_id: str
    scene: Scene | None
    expires_at: Instant
    product_id: str | None = None
    placed_at: Instant | None = None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The license after a call, what became of the call, and why where that may surprise."""

    view: LicenseView
    sources: ExpirySources
    effect: Effect
    note: str | None = None


def may_be_learned(code: str) -> bool:
    """Whether an unknown code can be one that the marketplace made: printable ASCII, and not of the form of ours."""
    return _MARKETPLACE_CODE.fullmatch(code) is not None and inspect(code).kind in {
        CodeKind.MARKETPLACE,
        CodeKind.FOREIGN,
    }


def supersedes(new: Refresh, current: Refresh | None) -> bool:
    """Say whether `new` is by a newer order than `current`.

    By the times of the orders, as told by order/query; else by the minute that their ids carry (`CS2211181819B4LVS`); else renewals only ever
    lengthen and refunds of them only ever shorten; else the one that arrived later is the newer.
    """
    if current is None:
        return True
    if new.placed_at is not None and current.placed_at is not None and new.placed_at != current.placed_at:
        return new.placed_at > current.placed_at
    ours, theirs = minute_in_order_id(new.order_id), minute_in_order_id(current.order_id)
    if ours is not None and theirs is not None and ours != theirs:
        return ours > theirs
    if new.scene is not None and new.scene is current.scene:
        longer = new.expires_at > current.expires_at
        return longer if new.scene is Scene.RENEWAL else new.expires_at < current.expires_at
    return True


def minute_in_order_id(order_id: str) -> datetime | None:
    """Return the wall time that the marketplace writes into its order ids, None where there is none; only good for comparing."""
    form = _PLACED_AT.fullmatch(order_id)
    if form is None:
        return None
    try:
        return datetime.strptime(form[1], "%y%m%d%H%M")  # noqa: DTZ007 - of an unknown zone, compared among themselves
    except ValueError:
        return None


def refresh(
    view: LicenseView,
    sources: ExpirySources,
    new: Refresh,
    *,
    current: Refresh | None,
    repeated: bool,
    now: Instant,
    calendar: ZoneInfo,
) -> Outcome:
    """Move the end of the license. `current` is the refresh in force, `repeated` says that this very order has done its work.

    An end that lies ahead ends a freeze, for only what has expired is frozen; License 1.0 has no other call that would. One that has passed
    lets a freeze count that came too early.
    """
    same = Outcome(view=view, sources=sources, effect=Effect.REPEATED)
    if repeated:
        return same
    if view.state in _OVER:
        return _no(same, Effect.OVER, f"the license is {view.state}: kept, nothing changed")
    if not supersedes(new, current):
        return _no(same, Effect.OLDER, "a newer order has moved the end already: kept, nothing changed")
    sources = msgspec.structs.replace(sources, refresh=new.expires_at)
    start = view.order_time if view.service_start is None else view.service_start
    expiry = effective_expiry(msgspec.structs.replace(sources, service_start=start), calendar)
    frozen_at = view.frozen_at
    if new.expires_at > now:
        frozen_at = None
    elif frozen_at is None and view.freeze_unheeded_at is not None:
        frozen_at = now
    view = msgspec.structs.replace(
        view, expires_at=expiry.at, expiry_source=expiry.source, frozen_at=frozen_at, freeze_unheeded_at=None
    )
    note = None
    if expiry.source is not ExpirySource.REFRESH:
        note = "the seller has set the end by hand, which outranks the marketplace"
    return Outcome(view=view, sources=sources, effect=Effect.APPLIED, note=note)


def freeze(view: LicenseView, sources: ExpirySources, *, now: Instant, end_known: bool) -> Outcome:
    """Freeze what has expired. `end_known` False: the license was learned, and its end is only the policy's guess.

    A freeze of a license whose end lies ahead comes late, behind a renewal, or early, before the refund of one. It is remembered, not obeyed.
    """
    same = Outcome(view=view, sources=sources, effect=Effect.REPEATED)
    if view.state in _OVER:
        return _no(same, Effect.OVER, f"the license is {view.state}: nothing changed")
    if view.frozen_at is not None:
        return same
    if end_known and _ends_ahead(view, now):
        note = "the end of the license lies ahead: not frozen"
        if view.freeze_unheeded_at is not None:
            return _no(same, Effect.REPEATED, note)
        flagged = msgspec.structs.replace(view, freeze_unheeded_at=now)
        return Outcome(view=flagged, sources=sources, effect=Effect.UNHEEDED, note=note)
    frozen = msgspec.structs.replace(view, frozen_at=now, freeze_unheeded_at=None)
    return Outcome(view=frozen, sources=sources, effect=Effect.APPLIED)


def unfreeze(view: LicenseView, sources: ExpirySources) -> Outcome:
    """End a freeze, also one that was not obeyed."""
    same = Outcome(view=view, sources=sources, effect=Effect.REPEATED)
    if view.state in _OVER:
        return _no(same, Effect.OVER, f"the license is {view.state}: nothing changed")
    if view.frozen_at is None and view.freeze_unheeded_at is None:
        return same
    thawed = msgspec.structs.replace(view, frozen_at=None, freeze_unheeded_at=None)
    return Outcome(view=thawed, sources=sources, effect=Effect.APPLIED)


def release(view: LicenseView, sources: ExpirySources) -> Outcome:
    """End the license for good, whatever it was."""
    same = Outcome(view=view, sources=sources, effect=Effect.REPEATED)
    if view.state is LicenseState.RELEASED:
        return same
    released = msgspec.structs.replace(view, state=step(view.state, LicenseEvent.RELEASE), freeze_unheeded_at=None)
    return Outcome(view=released, sources=sources, effect=Effect.APPLIED)


def _ends_ahead(view: LicenseView, now: Instant) -> bool:
    """Whether we know that the end lies ahead; an estimate is no knowledge, and what never ends has not ended."""
    if view.expiry_source is ExpirySource.ESTIMATE:
        return False
    return view.expires_at is None or view.expires_at > now


def _no(same: Outcome, effect: Effect, note: str) -> Outcome:
    return msgspec.structs.replace(same, effect=effect, note=note)
