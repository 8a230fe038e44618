"""The license: its stored state, where its expiry comes from, and the status that follows from both.

In: transitions as a table, the ranked expiry, status at an instant, the status on the wire. Out: codes (licensecode.py)
and what software may do with a license (activation.py).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, Literal, TypeAlias
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain.errors import IllegalTransition, LicenseNotActivated
from licensesvc.domain.instants import Instant, add_period
from licensesvc.domain.policy import Period

PERPETUAL_WIRE_EXPIRY: Final = "20991231155959"
"""`expire_time` of a license that never expires (spec §5.2 [I])."""

WireStatus: TypeAlias = Literal["ALIVE", "EXPIRED", "RELEASED"]


class LicenseState(StrEnum):
    """What is stored; everything that depends on the time is derived."""

    ISSUED = "ISSUED"
    ACTIVE = "ACTIVE"
    REVOKED = "REVOKED"
    RELEASED = "RELEASED"


class LicenseEvent(StrEnum):
    """What changes the stored state: software activates, the seller revokes, the marketplace releases."""

    ACTIVATE = "activate"
    REVOKE = "revoke"
    RELEASE = "release"


TABLE: Final[Mapping[LicenseState, Mapping[LicenseEvent, LicenseState]]] = {
    LicenseState.ISSUED: {
        LicenseEvent.ACTIVATE: LicenseState.ACTIVE,
        LicenseEvent.REVOKE: LicenseState.REVOKED,
        LicenseEvent.RELEASE: LicenseState.RELEASED,
    },
    LicenseState.ACTIVE: {
        LicenseEvent.REVOKE: LicenseState.REVOKED,
        LicenseEvent.RELEASE: LicenseState.RELEASED,
    },
    LicenseState.REVOKED: {LicenseEvent.RELEASE: LicenseState.RELEASED},
    LicenseState.RELEASED: {},
}


def step(state: LicenseState, event: LicenseEvent) -> LicenseState:
    """Return the state that `event` leads to; a missing cell raises IllegalTransition."""
    try:
        return TABLE[state][event]
    except KeyError:
        raise IllegalTransition(state, event) from None


class ExpirySource(StrEnum):
    """Who says when a license expires, the strongest first."""

    OPERATOR = "OPERATOR"
    REFRESH = "REFRESH"
    PERPETUAL = "PERPETUAL"
    SERVICE_PERIOD = "SERVICE_PERIOD"
    ORDER_QUERY = "ORDER_QUERY"
    ESTIMATE = "ESTIMATE"


class ExpirySources(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that has been said about the expiry of one license; None where nothing was said.

    `refresh` is the absolute expireTime of the last refresh call (spec §2.1), `service_start` and `period` give the time in
    service, `order_query` and `estimate` are the expireTime of order/query and of getLicense (spec §§1.6, 2.2).
    """

    operator: Instant | None = None
    refresh: Instant | None = None
    perpetual: bool = False
    service_start: Instant | None = None
    period: Period | None = None
    order_query: Instant | None = None
    estimate: Instant | None = None


class Expiry(msgspec.Struct, frozen=True, kw_only=True):
    """When a license expires; `at` None means never with source PERPETUAL, else that nobody has said yet."""

    at: Instant | None
    source: ExpirySource


def effective_expiry(sources: ExpirySources, zone: ZoneInfo) -> Expiry:
    """Return what the strongest source says; periods are counted in `zone`, the connection's calendar."""
    if sources.operator is not None:
        return Expiry(at=sources.operator, source=ExpirySource.OPERATOR)
    if sources.refresh is not None:
        return Expiry(at=sources.refresh, source=ExpirySource.REFRESH)
    if sources.perpetual:
        return Expiry(at=None, source=ExpirySource.PERPETUAL)
    if sources.service_start is not None and sources.period is not None:
        end = add_period(sources.service_start, sources.period.unit, sources.period.count, zone)
        return Expiry(at=end, source=ExpirySource.SERVICE_PERIOD)
    if sources.order_query is not None:
        return Expiry(at=sources.order_query, source=ExpirySource.ORDER_QUERY)
    return Expiry(at=sources.estimate, source=ExpirySource.ESTIMATE)


class LicenseView(msgspec.Struct, frozen=True, kw_only=True):
    """The narrow row that decisions need; `settled_at` is when the supervision case was completed.

    `frozen_at` (the marketplace's doing) and `suspended_at` (the seller's) are independent of the state and of each other;
    `freeze_unheeded_at` is when a freeze was asked for that did not fit the license's end (marketplace_calls.py).
    """

    id: int
    public_id: str
    connection_id: int
    product_id: int
    state: LicenseState
    version: int
    order_time: Instant
    activated_at: Instant | None = None
    service_start: Instant | None = None
    expires_at: Instant | None = None
    expiry_source: ExpirySource
    settled_at: Instant | None = None
    frozen_at: Instant | None = None
    freeze_unheeded_at: Instant | None = None
    suspended_at: Instant | None = None
    seats: int
    seats_taken: int


class LicenseStatus(StrEnum):
    """What a license is at an instant."""

    NOT_ACTIVATED = "NOT_ACTIVATED"
    ALIVE = "ALIVE"
    EXPIRED = "EXPIRED"
    FROZEN = "FROZEN"
    SUSPENDED = "SUSPENDED"
    REVOKED = "REVOKED"
    RELEASED = "RELEASED"


def status_at(view: LicenseView, now: Instant) -> LicenseStatus:
    """Return the status at `now`: what is final first, then what holds it up, then time."""
    match view.state:
        case LicenseState.RELEASED:
            return LicenseStatus.RELEASED
        case LicenseState.REVOKED:
            return LicenseStatus.REVOKED
        case LicenseState.ISSUED:
            return LicenseStatus.NOT_ACTIVATED
        case LicenseState.ACTIVE if view.suspended_at is not None:
            return LicenseStatus.SUSPENDED
        case LicenseState.ACTIVE if view.frozen_at is not None:
            return LicenseStatus.FROZEN
        case LicenseState.ACTIVE:
            return LicenseStatus.EXPIRED if _has_expired(view, now) else LicenseStatus.ALIVE


def _has_expired(view: LicenseView, now: Instant) -> bool:
    """An estimate binds nobody until the case is completed (spec §1.3: an estimate)."""
    if view.expires_at is None or (view.expiry_source is ExpirySource.ESTIMATE and view.settled_at is None):
        return False
    return now >= view.expires_at


_ON_THE_WIRE: Final[Mapping[LicenseStatus, WireStatus]] = {
    LicenseStatus.ALIVE: "ALIVE",
    LicenseStatus.EXPIRED: "EXPIRED",
    LicenseStatus.FROZEN: "EXPIRED",
    LicenseStatus.SUSPENDED: "EXPIRED",
    LicenseStatus.REVOKED: "RELEASED",
    LicenseStatus.RELEASED: "RELEASED",
}


def wire_status(status: LicenseStatus) -> WireStatus:
    """Return the status as a query of the marketplace's open API answers it (spec §5.2 [I]).

    It has no word for NOT_ACTIVATED, which raises LicenseNotActivated.
    """
    if status is LicenseStatus.NOT_ACTIVATED:
        raise LicenseNotActivated
    return _ON_THE_WIRE[status]
