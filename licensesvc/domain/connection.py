"""A marketplace account: its site, the zones its times are written and counted in, and what it chooses of the protocol.

In: what is public of a connection. Out: its access keys, which the vault keeps.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain.instants import zone_of


class Site(StrEnum):
    """A site of the marketplace."""

    CN = "cn"
    INTL = "intl"
    EU = "eu"


class ErrorTable(StrEnum):
    """Which generation of error codes and HTTP statuses the compatible API answers with (spec §1.8)."""

    CURRENT = "current"
    OLDER = "older"


class UnknownCodes(StrEnum):
    """What becomes of a marketplace's code that nobody has told us of, when one of the marketplace's calls names it."""

    REFUSE = "refuse"
    LEARN = "learn"


class Relay(StrEnum):
    """Whether end-user software's calls go on to the marketplace: not, one by one (v1), or in batches (v2)."""

    OFF = "off"
    SINGLE = "single"
    BATCH = "batch"


MARKETPLACE_HOSTS: Final[Mapping[Site, tuple[str, ...]]] = {
    Site.CN: ("mkt.myhuaweicloud.com", "mkt.myhuaweicloud.cn"),
    Site.INTL: ("mkt-intl.myhuaweicloud.com",),
    Site.EU: ("mkt.myhuaweicloud.eu",),
}
"""Hosts of the open API by site, the primary one first (spec §1.1)."""


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """An account on one site; `base_url` replaces the site's hosts, e.g. by the sandbox.

    An unknown zone raises InvalidParameter.
    """

    id: int
    public_id: str
    name: str
    site: Site
    base_url: str | None = None
    wire_zone: str = "UTC"
    calendar_zone: str = "Asia/Shanghai"
    error_table: ErrorTable = ErrorTable.CURRENT
    unknown_codes: UnknownCodes = UnknownCodes.REFUSE
    relay: Relay = Relay.OFF

    def __post_init__(self) -> None:
        """Refuse zones that do not exist."""
        zone_of(self.wire_zone)
        zone_of(self.calendar_zone)

    @property
    def wire(self) -> ZoneInfo:
        """The zone of stamps on the wire (spec §1.4)."""
        return zone_of(self.wire_zone)

    @property
    def calendar(self) -> ZoneInfo:
        """The zone in which days, months and deadlines count."""
        return zone_of(self.calendar_zone)
