"""What an attempt to deliver a message leads to: a table over statuses, and the schedule of the next ones.

In: pure decisions. Out: sending, storing, the clock.
"""

from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

import msgspec

from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import DAY, HOUR, MINUTE, SECOND, Instant, from_datetime

WAITS: Final = (
    *(5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR),
    *(10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR),
)
"""After each failure, before the next attempt (Standard Webhooks 1.0): ten attempts in about three days."""
JITTER: Final = 0.1
"""A wait is this much longer at most, so that what failed together does not come back together."""
LONGEST_PAUSE: Final = HOUR
"""No receiver may ask for more with `Retry-After`."""

_GONE: Final = 410
_SLOW_DOWN: Final = frozenset({429, 503})
_SUCCESSES: Final = range(200, 300)
_MAX_RETRY_AFTER_DIGITS: Final = 9


class Why(StrEnum):
    """Why an endpoint is sent nothing."""

    OPERATOR = "operator"
    GONE = "gone"
    FAILING = "failing"


class Outcome(StrEnum):
    """How a delivery ended."""

    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from an attempt: the delivery is closed with `outcome`, or due again; `gone` and `pause_until` concern the endpoint."""

    outcome: Outcome | None = None
    due_at: Instant | None = None
    gone: bool = False
    pause_until: Instant | None = None


def judge(status: int | None, *, attempts: int, now: Instant, jitter: float, retry_after: str | None = None) -> Verdict:
    """Decide after the attempt number `attempts` (from 1); `status` None = no complete answer, `jitter` in [0, 1)."""
    if status in _SUCCESSES:
        return Verdict(outcome=Outcome.DELIVERED)
    if status == _GONE:
        return Verdict(outcome=Outcome.GIVEN_UP, gone=True)
    pause_until = None
    if status in _SLOW_DOWN and (asked := _asked_for(retry_after, now)) is not None:
        pause_until = now + min(asked, LONGEST_PAUSE)
    if attempts > len(WAITS):
        return Verdict(outcome=Outcome.GIVEN_UP, pause_until=pause_until)
    wait = WAITS[attempts - 1]
    due_at = now + wait + int(wait * JITTER * jitter)
    return Verdict(due_at=max(due_at, pause_until or 0), pause_until=pause_until)


def has_failed_too_long(failing_since: Instant | None, now: Instant, days: int) -> bool:
    """Whether an endpoint that just failed has not answered well for so many days; 0 days = never too long."""
    return days > 0 and failing_since is not None and now - failing_since >= days * DAY


def _asked_for(retry_after: str | None, now: Instant) -> int | None:
    """Milliseconds that a `Retry-After` (RFC 9110 §10.2.3) asks for; None when it is none."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit() and len(text) <= _MAX_RETRY_AFTER_DIGITS:
        return int(text) * SECOND
    try:
        return max(from_datetime(parsedate_to_datetime(text)) - now, 0)
    except (ValueError, TypeError, OverflowError, InvalidParameter):  # TypeError: a date without a zone
        return None
