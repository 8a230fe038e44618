"""`/licenses/{id}/usage`, `/products/{id}/usage`: how many used a license, day by day."""

from typing import Annotated, Final, TypeAlias
from zoneinfo import ZoneInfo

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from licensesvc.domain.errors import InvalidParameter, NotFound
from licensesvc.domain.instants import Instant
from licensesvc.domain.usage import MAX_CLIENTS_A_DAY, date_of, day_of, parse_date
from licensesvc.services.runtime import Runtime
from licensesvc.storage import catalog, connections, licenses, usage
from licensesvc.storage.port import Tx
from licensesvc.storage.usage import ProductDay, UsedDay
from licensesvc.web.admin.access import READER
from licensesvc.web.admin.answers import PublicId
from licensesvc.web.problems import problems

LICENSE_DAYS: Final = 400
"""Days of one license that an answer holds."""
PRODUCT_DAYS: Final = 31
"""Days of a product: each reads a row for every license."""
SHOWN_DAYS: Final = 30
"""Days up to the last one, where no first one is given."""

_DAY: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$(?!\n)"

FirstDay: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="from", max_length=10, pattern=_DAY, description="A day like `2026-11-23` of the connection's calendar."
    ),
]
LastDay: TypeAlias = Annotated[
    str | None, QueryParameter(name="to", max_length=10, pattern=_DAY, description="Included; today unless given.")
]


class UsageView(msgspec.Struct, frozen=True, kw_only=True):
    """A day on which software reported: distinct clients (`capped` = not counted beyond), and the largest number it stated itself."""

    day: str
    clients: int
    capped: bool
    active_num: int | None


class LicenseUsageView(msgspec.Struct, frozen=True, kw_only=True):
    """The days of a license in the calendar of its connection, the first one first; days without a report are missing."""

    zone: str
    days: list[UsageView]


class ProductDayView(msgspec.Struct, frozen=True, kw_only=True):
    """A day of all licenses of a product: how many reported, and the sums of their figures."""

    day: str
    licenses: int
    clients: int
    active_num: int | None


class ProductUsageView(msgspec.Struct, frozen=True, kw_only=True):
    """The days of a product in the calendar of its connection, the first one first; days without a report are missing."""

    zone: str
    days: list[ProductDayView]


@get(
    "/licenses/{license_id:str}/usage",
    opt=READER,
    operation_id="getLicenseUsage",
    responses=problems("NOT_FOUND", "INVALID_PARAMETER"),
)
async def get_license_usage(
    license_id: PublicId, runtime: NamedDependency[Runtime], first: FirstDay = None, last: LastDay = None
) -> LicenseUsageView:
    """Tell how many clients used a license, by the day; the last 30 days unless others are given, at most 400."""

    async def view(tx: Tx) -> LicenseUsageView:
        loaded = await licenses.by_public_id(tx, license_id)
        if loaded is None:
            raise NotFound
        zone = await _zone(tx, loaded.view.connection_id)
        days = _days(runtime.clock(), zone, first, last, LICENSE_DAYS)
        found = await usage.of_license(tx, loaded.view.id, *days)
        return LicenseUsageView(zone=zone.key, days=[_day(used) for used in found])

    return await runtime.db.read(view)


@get(
    "/products/{product_id:str}/usage",
    opt=READER,
    operation_id="getProductUsage",
    responses=problems("NOT_FOUND", "INVALID_PARAMETER"),
)
async def get_product_usage(
    product_id: PublicId, runtime: NamedDependency[Runtime], first: FirstDay = None, last: LastDay = None
) -> ProductUsageView:
    """Sum up the usage of all licenses of a product, by the day; the last 30 days unless others are given, at most 31."""

    async def view(tx: Tx) -> ProductUsageView:
        product = await catalog.product_by_public_id(tx, product_id)
        if product is None:
            raise NotFound
        zone = await _zone(tx, product.connection_id)
        days = _days(runtime.clock(), zone, first, last, PRODUCT_DAYS)
        found = await usage.of_product(tx, product.id, *days)
        return ProductUsageView(zone=zone.key, days=[_product_day(used) for used in found])

    return await runtime.db.read(view)


async def _zone(tx: Tx, connection_id: int) -> ZoneInfo:
    return (await connections.by_id(tx, connection_id)).connection.calendar


def _days(now: Instant, zone: ZoneInfo, first: str | None, last: str | None, most: int) -> tuple[int, int]:
    """The days asked for, both included; raises InvalidParameter."""
    end = day_of(now, zone) if last is None else _number(last)
    begin = end - SHOWN_DAYS + 1 if first is None else _number(first)
    if not 0 <= end - begin < most:
        raise InvalidParameter(f"from must not lie behind to, nor more than {most} days before it")
    return begin, end


def _number(text: str) -> int:
    try:
        return parse_date(text)
    except ValueError:
        raise InvalidParameter(f"{text} is not in the calendar") from None


def _day(used: UsedDay) -> UsageView:
    return UsageView(
        day=date_of(used.day),
        clients=used.clients,
        capped=used.clients >= MAX_CLIENTS_A_DAY,
        active_num=used.active_num,
    )


def _product_day(used: ProductDay) -> ProductDayView:
    return ProductDayView(
        day=date_of(used.day), licenses=used.licenses, clients=used.clients, active_num=used.active_num
    )


ROUTES: Final = (get_license_usage, get_product_usage)
