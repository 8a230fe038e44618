"""How often something may happen: GCRA, one stored number for each subject, paid for afterwards.

In: limits and the arithmetic. Out: where the number is stored (`storage/buckets.py` says the same in SQL), and what is counted.

An event is charged once it has happened, so only events worth counting cost anything. What ran in parallel may overdraw a
bucket; the debt is paid with waiting, so the long-run rate holds, and it is capped, so no wait exceeds two windows and what the
largest call costs.
"""

from typing import Final

import msgspec

from licensesvc.domain.errors import RateLimited
from licensesvc.domain.instants import SECOND, Instant

MAX_DEBT: Final = 2
"""A bucket fills up to so many times its depth, and one call's events; what comes on top is forgiven."""


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """At most `count` events at once, refilled evenly within `window` milliseconds; `name` is public.

    One call may bring up to `at_once` events, such as the codes of a list: it is answered while there is credit for one, and pays for all.
    """

    name: str
    count: int
    window: Instant
    at_once: int = 1

    @property
    def interval(self) -> Instant:
        """Milliseconds after which one more event is free."""
        return max(1, self.window // self.count)

    @property
    def depth(self) -> Instant:
        """What `count` events cost."""
        return self.interval * self.count

    @property
    def fullest(self) -> Instant:
        """How far ahead of now a bucket can be filled: so long, at most, takes paying."""
        return MAX_DEBT * self.depth + (self.at_once - 1) * self.interval


def charged(limit: Limit, drained_at: Instant | None, now: Instant, events: int = 1) -> Instant:
    """Pay for the events of one call; `drained_at` is when everything paid so far is refilled, None or past = nothing is owed."""
    if drained_at is None or drained_at <= now:
        return now + limit.interval * events
    return min(drained_at + limit.interval * events, now + limit.fullest)


def wait(limit: Limit, drained_at: Instant, now: Instant) -> Instant:
    """Milliseconds until the next event is free; 0 = now."""
    return max(0, drained_at + limit.interval - now - limit.depth)


def overdrawn(limit: Limit, drained_at: Instant, now: Instant, events: int = 1) -> bool:
    """Whether the first of the events that were just charged was one too many."""
    return drained_at - (events - 1) * limit.interval > now + limit.depth


def refusal(limit: Limit, milliseconds: Instant) -> RateLimited:
    """The error for somebody who has to wait so long, in whole seconds: who obeys does not come back too early."""
    return RateLimited(
        limit.name,
        count=limit.count,
        window_s=-(-limit.window // SECOND),
        wait_s=max(1, -(-milliseconds // SECOND)),
    )
