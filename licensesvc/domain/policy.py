"""What a buyer of a product gets: how long, for how many, bound to what.

In: the policy with its bounds. Out: what one order actually bought (order.py) and when it ends (license.py).
"""

import re
from enum import StrEnum
from typing import Final

import msgspec

from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import PeriodUnit

MAX_NAME: Final = 100
"""Characters."""
MAX_SEATS: Final = 1_000_000
MAX_PERIOD: Final = {PeriodUnit.YEAR: 100, PeriodUnit.MONTH: 1_200, PeriodUnit.DAY: 36_500}
"""About a century, so that no activation ever runs out of calendar."""
MAX_GRACE_DAYS: Final = 365
MAX_FREEZE_DAYS: Final = 365
MAX_OFFLINE_DAYS: Final = 366
MIN_LEASE_SECONDS: Final = 60
MAX_LEASE_SECONDS: Final = 30 * 86_400
MAX_ENTITLEMENTS: Final = 100

_ENTITLEMENT: Final = re.compile(r"[a-z0-9][a-z0-9._:-]{0,63}")


class Term(StrEnum):
    """Where the length of a license comes from."""

    PERPETUAL = "PERPETUAL"
    PERIOD = "PERIOD"
    """The policy's own period."""
    ORDER = "ORDER"
    """The period that the order bought."""


class Binding(StrEnum):
    """What a seat is bound to."""

    NONE = "NONE"
    NODE_LOCKED = "NODE_LOCKED"
    FLOATING = "FLOATING"
    """Seats are leased and come back by themselves."""


class LicenseField(StrEnum):
    """What the `license` field of a License 1.0 answer carries (spec §2.2)."""

    CODE = "CODE"
    DOCUMENT = "DOCUMENT"


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """A length of time by the calendar; `count` is 1 to `MAX_PERIOD[unit]`."""

    unit: PeriodUnit
    count: int

    def __post_init__(self) -> None:
        """Refuse a length that no calendar could add."""
        _within("period count", self.count, 1, MAX_PERIOD[self.unit])


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """The conditions under which licenses of a product are issued.

    `period` is given exactly with term PERIOD, `lease_seconds` exactly with binding FLOATING; `seats` None means the
    order's amount. `grace_days` follow the expiry, `freeze_days` the freeze (spec §2.1); a receipt is valid for `offline_days`.
    """

    id: int
    public_id: str
    name: str
    term: Term
    period: Period | None = None
    grace_days: int = 0
    freeze_days: int = 15
    seats: int | None = None
    binding: Binding = Binding.NONE
    lease_seconds: int | None = None
    offline_days: int = 7
    entitlements: tuple[str, ...] = ()
    license_field: LicenseField = LicenseField.CODE

    def __post_init__(self) -> None:
        """Refuse what contradicts itself or leaves its bounds."""
        _within("length of the name", len(self.name), 1, MAX_NAME)
        _within("grace_days", self.grace_days, 0, MAX_GRACE_DAYS)
        _within("freeze_days", self.freeze_days, 0, MAX_FREEZE_DAYS)
        _within("offline_days", self.offline_days, 1, MAX_OFFLINE_DAYS)
        _within("number of entitlements", len(self.entitlements), 0, MAX_ENTITLEMENTS)
        if (self.term is Term.PERIOD) != (self.period is not None):
            raise InvalidParameter("a period is given exactly with term PERIOD")
        if (self.binding is Binding.FLOATING) != (self.lease_seconds is not None):
            raise InvalidParameter("lease_seconds is given exactly with binding FLOATING")
        if self.lease_seconds is not None:
            _within("lease_seconds", self.lease_seconds, MIN_LEASE_SECONDS, MAX_LEASE_SECONDS)
        if self.seats is not None:
            _within("seats", self.seats, 1, MAX_SEATS)
        if len(set(self.entitlements)) != len(self.entitlements):
            raise InvalidParameter("an entitlement is named twice")
        for entitlement in self.entitlements:
            if not _ENTITLEMENT.fullmatch(entitlement):
                raise InvalidParameter("an entitlement is 1 to 64 of a-z 0-9 . _ : - and starts with a letter or digit")


def seats_for(policy: Policy, amount: int | None) -> int:
    """Return the seats of one license: the policy's, else the order's amount, at least 1 and at most `MAX_SEATS`."""
    if policy.seats is not None:
        return policy.seats
    return min(max(amount or 1, 1), MAX_SEATS)


def _within(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidParameter(f"{what} must be {low} to {high}")
