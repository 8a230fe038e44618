"""What operators tell the delisting guard: the marketplace's own count of failed orders, and whether products are on sale."""

import re
from typing import Annotated, Final, Literal

import msgspec

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.connection import Connection
from licensesvc.domain.delisting import OnSale
from licensesvc.domain.errors import InvalidParameter, NotFound, StaleVersion
from licensesvc.domain.instants import month_of
from licensesvc.services.runtime import Runtime
from licensesvc.storage import audit, connections
from licensesvc.storage import delisting as figures
from licensesvc.storage.delisting import ReportedFigure, SaleDeclaration
from licensesvc.storage.port import Tx

MAX_FAILED_ORDERS: Final = 1_000_000

_MONTH: Final = re.compile(r"(19[7-9]|[2-9]\d\d)\d-(0[1-9]|1[0-2])", re.ASCII)


class ReportFailedOrders(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The marketplace's own figure for a month, counted in the connection's calendar zone."""

    month: Annotated[str, msgspec.Meta(max_length=7, examples=["2026-11"])]
    failed_orders: Annotated[int, msgspec.Meta(ge=0, le=MAX_FAILED_ORDERS)]


class DeclareOnSale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether products of the connection are on sale; `unknown` = judge by the probes that came."""

    on_sale: Literal["yes", "no", "unknown"]


async def report_failed_orders(
    tx: Tx, rt: Runtime, connection_id: str, command: ReportFailedOrders, *, by: str
) -> Connection:
    """Keep the figure; the larger of it and ours counts. Raises NotFound, InvalidParameter, StaleVersion. The same again changes nothing."""
    connection = await _known(tx, connection_id)
    now = rt.clock()
    if not _MONTH.fullmatch(command.month) or command.month > month_of(now, connection.calendar):
        raise InvalidParameter("month must look like 2026-11 and not lie ahead")
    known = await figures.figure(tx, connection.id, command.month)
    if known is not None and known.failed_orders == command.failed_orders:
        return connection
    told = ReportedFigure(
        month=command.month,
        failed_orders=command.failed_orders,
        reported_at=now,
        reported_by=by,
        version=known.version if known else 0,
    )
    if not await figures.put_figure(tx, connection.id, told):
        raise StaleVersion
    detail: dict[str, str | int | None] = {
        "month": command.month,
        "failed_orders": command.failed_orders,
        "before": known.failed_orders if known else None,
    }
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind="delisting.figure_reported", subject=connection_id, detail=detail)]
    )
    return connection


async def declare_on_sale(tx: Tx, rt: Runtime, connection_id: str, command: DeclareOnSale, *, by: str) -> Connection:
    """Keep the declaration. Raises NotFound, StaleVersion. The same again changes nothing."""
    connection = await _known(tx, connection_id)
    known = await figures.declaration(tx, connection.id)
    said = OnSale(command.on_sale)
    if (known.on_sale if known else OnSale.UNKNOWN) is said:
        return connection
    now = rt.clock()
    declared = SaleDeclaration(on_sale=said, declared_at=now, declared_by=by, version=known.version if known else 0)
    if not await figures.put_declaration(tx, connection.id, declared):
        raise StaleVersion
    await audit.append(
        tx,
        [AuditEvent(at=now, actor=by, kind="delisting.sale_declared", subject=connection_id, detail={"on_sale": said})],
    )
    return connection


async def _known(tx: Tx, public_id: str) -> Connection:
    stored = await connections.by_public_id(tx, public_id)
    if stored is None:
        raise NotFound
    return stored.connection
