"""`/delisting-guard`: how near each connection is to what the marketplace delists for."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from litestar import Request, Response, get, put
from litestar.di import NamedDependency
from litestar.params import JSONBody

from licensesvc.domain.delisting import RULES, Gauge, Level, OnSale, OpenCall
from licensesvc.domain.errors import NotFound
from licensesvc.domain.instants import rfc3339
from licensesvc.services.guard.declare_to_guard import (
    DeclareOnSale,
    ReportFailedOrders,
    declare_on_sale,
    report_failed_orders,
)
from licensesvc.services.guard.guard_texts import WORDS, Words
from licensesvc.services.guard.watch_delisting import DelistingWatch, Report
from licensesvc.services.runtime import Runtime
from licensesvc.storage.port import Tx
from licensesvc.web.admin.access import OPERATOR, READER
from licensesvc.web.admin.answers import PublicId, Time, time_or_none
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class GaugeView(msgspec.Struct, frozen=True, kw_only=True):
    """A gauge; `value` null = it does not apply, `limit` null = the marketplace names none. `words` by language."""

    gauge: Gauge
    value: int | None
    unit: str
    limit: int | None
    level: Level
    warn_from: int
    critical_from: int | None
    words: Mapping[str, Words]


class FailingCallView(msgspec.Struct, frozen=True, kw_only=True):
    """A call of the marketplace that fails now: `attempts` are those that reached us, of `attempts_documented` (null = not told).

    `license` (our id) stands where the call names no order; both null: it named none that we know.
    """

    activity: str
    order_id: str | None
    license: str | None
    attempts: int
    attempts_documented: int | None
    failing_since: Time
    closes_at: Time
    used_percent: int


class ReportedView(msgspec.Struct, frozen=True, kw_only=True):
    """The marketplace's own figure, as somebody entered it."""

    month: str
    failed_orders: int
    at: Time
    by: str


class GuardView(msgspec.Struct, frozen=True, kw_only=True):
    """The guard of one connection. `failed_orders_at_least` is our own count of `month`, a lower bound; the gauge shows the larger."""

    connection: str
    name: str
    at: Time
    month: str
    level: Level
    on_sale: OnSale
    on_sale_declared_at: Time | None
    on_sale_declared_by: str | None
    failed_orders_at_least: int
    failed_orders_reported: ReportedView | None
    last_probe_at: Time | None
    gauges: Sequence[GaugeView]
    failing_calls: Sequence[FailingCallView]


def _view(report: Report) -> GuardView:
    reported, declared = report.reported, report.declared
    return GuardView(
        connection=report.connection.public_id,
        name=report.connection.name,
        at=rfc3339(report.at),
        month=report.month,
        level=max((reading.level for reading in report.readings.values()), key=lambda level: level.rank),
        on_sale=declared.on_sale if declared else OnSale.UNKNOWN,
        on_sale_declared_at=time_or_none(declared.declared_at if declared else None),
        on_sale_declared_by=declared.declared_by if declared else None,
        failed_orders_at_least=report.failed_orders_counted,
        failed_orders_reported=None
        if reported is None
        else ReportedView(
            month=reported.month,
            failed_orders=reported.failed_orders,
            at=rfc3339(reported.reported_at),
            by=reported.reported_by,
        ),
        last_probe_at=time_or_none(report.last_probe_at),
        gauges=[
            GaugeView(
                gauge=gauge,
                value=reading.value,
                unit=RULES[gauge].unit,
                limit=reading.limit,
                level=reading.level,
                warn_from=RULES[gauge].warn,
                critical_from=RULES[gauge].critical,
                words={language.value: words for language, words in WORDS[gauge].items()},
            )
            for gauge, reading in report.readings.items()
        ],
        failing_calls=[_call(call) for call in report.calls],
    )


def _call(call: OpenCall) -> FailingCallView:
    return FailingCallView(
        activity=call.activity,
        order_id=call.order_id,
        license=call.license,
        attempts=call.attempts,
        attempts_documented=call.attempts_documented,
        failing_since=rfc3339(call.failing_since),
        closes_at=rfc3339(call.closes_at),
        used_percent=call.used_percent,
    )


@get("/delisting-guard", opt=READER, operation_id="listDelistingGuards", responses=problems("INVALID_CURSOR"))
async def list_guards(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    guard: NamedDependency[DelistingWatch],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[GuardView]]:
    """Show the guard of every connection, read a minute ago at most."""
    reports = await guard.reports()

    async def fetch(_tx: Tx, after: int, count: int) -> Sequence[tuple[int, GuardView]]:
        behind = [report for report in reports if report.connection.id > after][:count]
        return [(report.connection.id, _view(report)) for report in behind]

    return await page_of(request, runtime.db, "delisting-guard", cursor=cursor, limit=limit, fetch=fetch)


@get(
    "/delisting-guard/{connection_id:str}",
    opt=READER,
    operation_id="getDelistingGuard",
    responses=problems("NOT_FOUND"),
)
async def get_guard(connection_id: PublicId, guard: NamedDependency[DelistingWatch]) -> Response[GuardView]:
    """Show the guard of one connection, read now."""
    return await _anew(guard, connection_id)


@put(
    "/delisting-guard/{connection_id:str}/failed-orders",
    opt=OPERATOR,
    operation_id="reportFailedOrders",
    responses=problems("NOT_FOUND", *JSON_BODY, "INVALID_PARAMETER", "STALE_VERSION"),
)
async def put_failed_orders(
    request: JSONRequest,
    connection_id: PublicId,
    data: JSONBody[ReportFailedOrders],
    runtime: NamedDependency[Runtime],
    guard: NamedDependency[DelistingWatch],
) -> Response[GuardView]:
    """Enter how many failed orders the marketplace itself counts in a month; the larger of it and ours counts."""
    await runtime.db.write(lambda tx: report_failed_orders(tx, runtime, connection_id, data, by=request.user.name))
    guard.forget()
    return await _anew(guard, connection_id)


@put(
    "/delisting-guard/{connection_id:str}/on-sale",
    opt=OPERATOR,
    operation_id="declareOnSale",
    responses=problems("NOT_FOUND", *JSON_BODY, "STALE_VERSION"),
)
async def put_on_sale(
    request: JSONRequest,
    connection_id: PublicId,
    data: JSONBody[DeclareOnSale],
    runtime: NamedDependency[Runtime],
    guard: NamedDependency[DelistingWatch],
) -> Response[GuardView]:
    """Say whether products of the connection are on sale: only then does the marketplace replay debug cases."""
    await runtime.db.write(lambda tx: declare_on_sale(tx, runtime, connection_id, data, by=request.user.name))
    guard.forget()
    return await _anew(guard, connection_id)


async def _anew(guard: DelistingWatch, connection_id: str) -> Response[GuardView]:
    report = await guard.report(connection_id)
    if report is None:
        raise NotFound
    return Response(_view(report))


ROUTES: Final = (list_guards, get_guard, put_failed_orders, put_on_sale)
