"""The relay between end-user software and the marketplace: what to do with each answer, and how long the last one stands.

In: outcomes of calls as values, the tables, the last known good answer. Out: the calls themselves, who shares one, and storing.

A relayed code has two masters. The marketplace's word counts unless our own license says no (suspended, frozen, revoked, released):
such a code is answered by us alone, and nothing is asked.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain import usage
from licensesvc.domain.errors import (
    DomainError,
    IllegalLicenseState,
    InvalidParameter,
    LicenseNotActivated,
    LicenseNotClaimed,
    LicenseNotFound,
)
from licensesvc.domain.instants import MINUTE, Instant
from licensesvc.domain.license import LicenseStatus, WireStatus

ASK_AGAIN: Final = 10 * MINUTE
"""After which a code that was not usable is asked for again on the same day: its buyer may have renewed (spec §5.3)."""


class Heard(StrEnum):
    """What came of a call about one code or one list."""

    SUCCESS = "success"
    INVALID = "invalid"
    ILLEGAL_STATE = "illegal-state"
    NOT_CLAIMED = "not-claimed"
    UNKNOWN = "unknown"
    NOT_ACTIVATED = "not-activated"
    BAD_LIST = "bad-list"
    TROUBLE = "trouble"
    """Nothing was sent, or the answer says nothing about the code: the marketplace is away."""
    LOST = "lost"
    """Sent, and no answer that could be read: the call may have had its effect."""


HEARD: Final[Mapping[str, Heard]] = {
    "92020000": Heard.SUCCESS,
    "92020002": Heard.INVALID,
    "92020003": Heard.ILLEGAL_STATE,
    "92020004": Heard.NOT_CLAIMED,
    "92020005": Heard.UNKNOWN,
    "92020011": Heard.NOT_ACTIVATED,
    "92020020": Heard.BAD_LIST,
    "95000001": Heard.INVALID,
}
"""By `error_code` (spec §1.8); every other code, the gateway's too, is `TROUBLE`."""


class Then(StrEnum):
    """What to do next."""

    RECORD = "record"
    ASK = "ask"
    """Query the code: only that tells what became of it."""
    PASS_ON = "pass-on"  # noqa: S105 - no secret
    LATER = "later"
    """Answer the last known good, or that the software shall come back."""


ACTIVATION: Final[Mapping[Heard, Then]] = {
    Heard.SUCCESS: Then.RECORD,
    Heard.INVALID: Then.PASS_ON,
    # We may have activated it ourselves a moment ago, in another process or in a call whose answer was lost.
    Heard.ILLEGAL_STATE: Then.ASK,
    Heard.NOT_CLAIMED: Then.PASS_ON,
    Heard.UNKNOWN: Then.PASS_ON,
    Heard.NOT_ACTIVATED: Then.LATER,
    Heard.BAD_LIST: Then.PASS_ON,
    Heard.TROUBLE: Then.LATER,
    Heard.LOST: Then.ASK,
}
"""After activate, which is never sent again before the code has been asked for."""

QUERY: Final[Mapping[Heard, Then]] = {
    Heard.SUCCESS: Then.RECORD,
    Heard.INVALID: Then.PASS_ON,
    Heard.ILLEGAL_STATE: Then.PASS_ON,
    Heard.NOT_CLAIMED: Then.PASS_ON,
    Heard.UNKNOWN: Then.PASS_ON,
    Heard.NOT_ACTIVATED: Then.PASS_ON,
    Heard.BAD_LIST: Then.PASS_ON,
    Heard.TROUBLE: Then.LATER,
    Heard.LOST: Then.LATER,
}

NO: Final[Mapping[Heard, type[DomainError]]] = {
    Heard.INVALID: InvalidParameter,
    Heard.ILLEGAL_STATE: IllegalLicenseState,
    Heard.NOT_CLAIMED: LicenseNotClaimed,
    Heard.UNKNOWN: LicenseNotFound,
    Heard.NOT_ACTIVATED: LicenseNotActivated,
    Heard.BAD_LIST: LicenseNotFound,
}
"""A refusal as our own error, which the edge writes as the same code."""

BLAMES_A_CODE: Final = frozenset(NO)
"""Refusals of a list that are some code's fault: halved until that code stands alone."""


def after_asking(activation: Heard, query: Heard, status: WireStatus | None) -> tuple[Then, Heard]:
    """What an activation came to whose code was asked for: `ALIVE` is done, whoever did it.

    The second value is what to pass on. A lost activation of a code that is still not activated may be sent again by the software.
    """
    if query is Heard.SUCCESS:
        return (Then.RECORD, query) if status == "ALIVE" else (Then.PASS_ON, Heard.ILLEGAL_STATE)
    if query in {Heard.NOT_ACTIVATED, Heard.ILLEGAL_STATE}:  # the older table has but one code for both
        return (Then.LATER, activation) if activation is Heard.LOST else (Then.PASS_ON, activation)
    if query is Heard.UNKNOWN:
        return Then.PASS_ON, query
    return Then.LATER, query


def usable_status(word: str) -> WireStatus:
    """The marketplace's word for a status; one that is not documented means not usable (spec §11.4), so `EXPIRED`."""
    match word:
        case "ALIVE" | "RELEASED":
            return word
    return "EXPIRED"


class LastKnown(msgspec.Struct, frozen=True, kw_only=True):
    """The last answer of the marketplace about one code; `day` is None unless it answered a query."""

    status: WireStatus
    expires_at: Instant | None
    asked_at: Instant
    valid_until: Instant
    day: str | None


def status_then(known: LastKnown, now: Instant) -> WireStatus:
    """What the last known good says at `now`: an end that has come meanwhile needs nobody to tell it."""
    if known.status == "ALIVE" and known.expires_at is not None and now >= known.expires_at:
        return "EXPIRED"
    return known.status


def stands(known: LastKnown, now: Instant) -> bool:
    """Whether it may still be answered while the marketplace is away."""
    return now < known.valid_until


def is_fresh(known: LastKnown, now: Instant, calendar: ZoneInfo) -> bool:
    """Whether it answers without asking: it is of this day, and usable, or was asked for a moment ago."""
    if not stands(known, now) or known.day != day_of(now, calendar):
        return False
    return status_then(known, now) == "ALIVE" or 0 <= now - known.asked_at < ASK_AGAIN


def day_of(now: Instant, calendar: ZoneInfo) -> str:
    """The calendar day of an instant, e.g. `2026-11-23`."""
    return usage.date_of(usage.day_of(now, calendar))


RELAYED: Final = frozenset({LicenseStatus.NOT_ACTIVATED, LicenseStatus.ALIVE, LicenseStatus.EXPIRED})
"""Own statuses of a license about which the marketplace is asked; with every other one our own answer stands."""
