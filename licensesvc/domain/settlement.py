"""Settlement: in which month the marketplace bills a completed order (spec §6.7).

In: that month. Out: amounts.
"""

from zoneinfo import ZoneInfo

from licensesvc.domain.instants import Instant, month_of, next_month


def settlement_month(completed_at: Instant, zone: ZoneInfo) -> str:
    """Return the month, e.g. `2027-01`, after the one in which the case was completed by the calendar of `zone`."""
    return next_month(month_of(completed_at, zone))
