"""`/statistics`: the state of the shop in numbers."""

from typing import Annotated, Final
from zoneinfo import ZoneInfo

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from licensesvc.domain.calendar import days_until, per_day
from licensesvc.domain.instants import DAY, Instant, rfc3339, zone_of
from licensesvc.domain.license import LicenseStatus
from licensesvc.domain.supervision import Node
from licensesvc.services.runtime import Runtime
from licensesvc.storage import statistics
from licensesvc.storage.license_search import count_by_status
from licensesvc.storage.port import Tx
from licensesvc.storage.statistics import FailingMessages, OutboxState
from licensesvc.web.admin.access import READER
from licensesvc.web.admin.answers import Time
from licensesvc.web.problems import problems

DAYS: Final = 30


class DayView(msgspec.Struct, frozen=True, kw_only=True):
    """What was activated on a day: licenses for the first time, and seats."""

    day: str
    licenses: int
    seats: int


class StatisticsView(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of everything; `activations` by the day, the oldest first, `failing_messages` since that first day."""

    at: Time
    zone: str
    licenses: dict[LicenseStatus, int]
    activations: list[DayView]
    cases: dict[Node, int]
    failing_messages: list[FailingMessages]
    outbox: OutboxState


@get("/statistics", opt=READER, operation_id="getStatistics", responses=problems("INVALID_PARAMETER"))
async def get_statistics(
    runtime: NamedDependency[Runtime],
    zone: Annotated[
        str, QueryParameter(min_length=1, max_length=64, description="In whose days to count.")
    ] = "Asia/Shanghai",
) -> StatisticsView:
    """Count licenses by status, activations per day of the last 30 days, cases by node, and what fails."""
    now = runtime.clock()
    calendar = zone_of(zone)
    return await runtime.db.read(lambda tx: _count(tx, now, calendar))


async def _count(tx: Tx, now: Instant, zone: ZoneInfo) -> StatisticsView:
    days = days_until(now, DAYS, zone)
    since = max(now - (DAYS + 1) * DAY, 0)
    licenses = per_day(await statistics.licenses_activated(tx, since), days, zone)
    seats = per_day(await statistics.seats_taken(tx, since), days, zone)
    return StatisticsView(
        at=rfc3339(now),
        zone=zone.key,
        licenses=await count_by_status(tx, now),
        activations=[DayView(day=day, licenses=licenses[day], seats=seats[day]) for day in days],
        cases=await statistics.cases_by_node(tx),
        failing_messages=await statistics.failing_messages(tx, since),
        outbox=await statistics.outbox_state(tx),
    )


ROUTES: Final = (get_statistics,)
