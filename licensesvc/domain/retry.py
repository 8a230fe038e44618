"""When to try again: a schedule is a value, and the next attempt a pure function of it.

In: exponential waits with a cap and an end. Out: the clock, the dice, and what is tried.
"""

from typing import Final

import msgspec

from licensesvc.domain.instants import DAY, HOUR, MINUTE, SECOND, Instant


class RetrySchedule(msgspec.Struct, frozen=True, kw_only=True):
    """Waits in milliseconds: `base`, then `factor` times as long each time up to `cap`, until `window` after the first attempt."""

    base: int
    factor: int
    cap: int
    window: int

    def next_attempt(self, first_at: Instant, now: Instant, attempts: int, jitter: float) -> Instant | None:
        """Return when to try again after `attempts` (at least 1) failures, or None when the window would be over.

        `jitter` in [0, 1) spreads callers over the upper half of the wait.
        """
        wait: int = min(self.cap, self.base * self.factor ** (attempts - 1))
        at = now + wait // 2 + int(wait / 2 * jitter)
        return at if at <= first_at + self.window else None


ORDER_QUERY: Final = RetrySchedule(base=2 * SECOND, factor=2, cap=30 * MINUTE, window=24 * HOUR)
"""order/query after an order notification."""
MAIL: Final = RetrySchedule(base=30 * SECOND, factor=2, cap=HOUR, window=24 * HOUR)
"""Mail that the server did not take for now."""
RELAY_USAGE: Final = RetrySchedule(base=5 * SECOND, factor=2, cap=15 * MINUTE, window=7 * DAY)
"""Use of codes that the marketplace could not be told of."""
ALERT: Final = RetrySchedule(base=15 * SECOND, factor=2, cap=15 * MINUTE, window=24 * HOUR)
"""An alert that its channel did not take for now."""
