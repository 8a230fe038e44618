"""The sandbox's wall clock; everything that reads it takes a replacement as a parameter."""

import time

from licensesvc.domain.instants import Instant


def wall_clock() -> Instant:
    """The current time in epoch milliseconds."""
    return time.time_ns() // 1_000_000
