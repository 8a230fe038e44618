"""`/exports/…`: lists as CSV files that spreadsheets open safely."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.response import Stream

from licensesvc.domain.instants import rfc3339
from licensesvc.services.imports import csvfiles
from licensesvc.services.runtime import Runtime
from licensesvc.storage import licenses, money, orders, supervision
from licensesvc.storage.port import Database, Tx
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import READER
from licensesvc.web.admin.case_views import CaseView, case_views
from licensesvc.web.admin.licenses import LicenseView, license_views
from licensesvc.web.admin.orders import OrderDetail, order_details
from licensesvc.web.admin.settlement import LineView, MonthOrNone, line_view
from licensesvc.web.problems import problems

PAGE: Final = 500
"""Records read at once."""
_ORDER_COLUMNS: Final = (
    "id", "connection", "order_id", "order_type", "source", "buyer", "order_time", "received_at", "line_id", "product",
    "instance_id", "amount", "period_unit", "period_count", "charging_mode", "license", "case",
)  # fmt: skip

Rows: TypeAlias = Sequence[tuple[int, list[Sequence[object]]]]
"""Records with their internal id, each as the rows that show it."""


@get(
    "/exports/licenses", opt=READER, operation_id="exportLicenses", media_type=csvfiles.MEDIA_TYPE, responses=problems()
)
async def export_licenses(runtime: NamedDependency[Runtime]) -> Stream:
    """Export all licenses as CSV, one a row; codes are shown by their hint only."""

    async def fetch(tx: Tx, after: int) -> Rows:
        records = await licenses.page(tx, after=after, limit=PAGE)
        views = await license_views(tx, records, runtime.clock())
        return [(loaded.view.id, [msgspec.structs.astuple(view)]) for loaded, view in zip(records, views, strict=True)]

    return await _file(runtime, "licenses", LicenseView.__struct_fields__, fetch)


@get("/exports/orders", opt=READER, operation_id="exportOrders", media_type=csvfiles.MEDIA_TYPE, responses=problems())
async def export_orders(runtime: NamedDependency[Runtime]) -> Stream:
    """Export all orders as CSV, one line of an order a row; buyers are named by id only."""

    async def fetch(tx: Tx, after: int) -> Rows:
        records = await orders.page(tx, after=after, limit=PAGE)
        details = await order_details(tx, records)
        return [(order.id, _order_rows(detail)) for order, detail in zip(records, details, strict=True)]

    return await _file(runtime, "orders", _ORDER_COLUMNS, fetch)


@get("/exports/cases", opt=READER, operation_id="exportCases", media_type=csvfiles.MEDIA_TYPE, responses=problems())
async def export_cases(runtime: NamedDependency[Runtime]) -> Stream:
    """Export all supervision cases as CSV, one a row."""

    async def fetch(tx: Tx, after: int) -> Rows:
        records = await supervision.page(tx, after=after, limit=PAGE)
        views = await case_views(tx, records)
        return [(case.id, [msgspec.structs.astuple(view)]) for case, view in zip(records, views, strict=True)]

    return await _file(runtime, "cases", CaseView.__struct_fields__, fetch)


@get(
    "/exports/settlement",
    opt=READER,
    operation_id="exportSettlement",
    media_type=csvfiles.MEDIA_TYPE,
    responses=problems(),
)
async def export_settlement(runtime: NamedDependency[Runtime], month: MonthOrNone = None) -> Stream:
    """Export order lines with their money as CSV, all of them or those billed in one month; amounts are hundredths."""
    where = EVERYTHING.given("c.settlement_month = {}", month)

    async def fetch(tx: Tx, after: int) -> Rows:
        lines = await money.settlement(tx, after=after, limit=PAGE, where=where)
        return [(line.id, [msgspec.structs.astuple(line_view(line))]) for line in lines]

    return await _file(runtime, "settlement", LineView.__struct_fields__, fetch)


def _order_rows(order: OrderDetail) -> list[Sequence[object]]:
    head = [getattr(order, name) for name in _ORDER_COLUMNS[:8]]
    return [
        [
            *head,
            line.line_id,
            line.product,
            line.instance_id,
            line.amount,
            line.period.unit if line.period else None,
            line.period.count if line.period else None,
            line.charging_mode,
            line.license,
            line.case,
        ]
        for line in order.lines
    ]


async def _file(rt: Runtime, name: str, columns: Sequence[str], fetch: Callable[[Tx, int], Awaitable[Rows]]) -> Stream:
    """Stream a file page by page, each from a snapshot of its own; the first is read before the answer begins."""
    first = await rt.db.read(lambda tx: fetch(tx, 0))
    day = rfc3339(rt.clock())[:10]
    return Stream(
        _pages(rt.db, columns, first, fetch),
        media_type=csvfiles.MEDIA_TYPE,
        headers={"content-disposition": f'attachment; filename="{name}-{day}.csv"', "cache-control": "no-store"},
    )


async def _pages(
    db: Database, columns: Sequence[str], page: Rows, fetch: Callable[[Tx, int], Awaitable[Rows]]
) -> AsyncIterator[str]:
    yield csvfiles.BOM + csvfiles.lines([columns])
    while page:
        yield csvfiles.lines(row for _, rows in page for row in rows)
        after = page[-1][0]
        page = await db.read(lambda tx, after=after: fetch(tx, after))  # type: ignore[misc]


ROUTES: Final = (export_licenses, export_orders, export_cases, export_settlement)
