"""A marketplace account: its site and the zones its times are written and counted in.

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
