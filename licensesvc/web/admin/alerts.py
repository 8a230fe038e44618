"""`/alerts`: what the delisting guard has raised, and who works on it."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from licensesvc.domain.delisting import Gauge, Level
from licensesvc.domain.errors import NotFound
from licensesvc.domain.instants import rfc3339
from licensesvc.services.guard.raise_alerts import acknowledge
from licensesvc.services.runtime import Runtime
from licensesvc.storage import alerts, connections
from licensesvc.storage.alerts import StoredAlert
from licensesvc.storage.port import Tx
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import OPERATOR, READER
from licensesvc.web.admin.answers import IfMatch, OurId, PublicId, Time, etag, time_or_none, version_of
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.problems import problems


class AlertView(msgspec.Struct, frozen=True, kw_only=True):
    """An alert about one gauge of a connection; `worst` is the highest level that was told in its period, `told_at` when."""

    id: str
    connection: str
    gauge: Gauge
    period: str
    level: Level
    worst: Level
    value: int
    limit: int | None
    opened_at: Time
    told_at: Time
    cleared_at: Time | None
    acknowledged_at: Time | None
    acknowledged_by: str | None
    version: int


def _view(stored: StoredAlert, connection: str) -> AlertView:
    alert = stored.alert
    return AlertView(
        id=stored.public_id,
        connection=connection,
        gauge=stored.gauge,
        period=alert.period,
        level=alert.level,
        worst=alert.told_peak,
        value=alert.value,
        limit=stored.limit,
        opened_at=rfc3339(alert.opened_at),
        told_at=rfc3339(alert.told_at),
        cleared_at=time_or_none(alert.cleared_at),
        acknowledged_at=time_or_none(alert.acknowledged_at),
        acknowledged_by=stored.acknowledged_by,
        version=stored.version,
    )


async def _views(tx: Tx, found: Sequence[StoredAlert]) -> list[AlertView]:
    names = await connections.public_ids(tx, {stored.connection_id for stored in found})
    return [_view(stored, names[stored.connection_id]) for stored in found]


@get("/alerts", opt=READER, operation_id="listAlerts", responses=problems("INVALID_CURSOR"))
async def list_alerts(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    connection: OurId = None,
    gauge: Annotated[Gauge | None, QueryParameter(description="Only alerts about this gauge.")] = None,
    is_open: Annotated[
        bool | None,
        QueryParameter(name="open", description="Only those that are not over; false: only those that are."),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[AlertView]]:
    """List alerts, the oldest first."""
    where = EVERYTHING.given("a.connection_id = (SELECT id FROM connections WHERE public_id = {})", connection).given(
        "a.gauge = {}", gauge
    )
    if is_open is not None:
        where = where.always("a.cleared_at IS NULL" if is_open else "a.cleared_at IS NOT NULL")

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, AlertView]]:
        found = await alerts.page(tx, after=after, limit=count, where=where)
        return [(stored.id, view) for stored, view in zip(found, await _views(tx, found), strict=True)]

    return await page_of(request, runtime.db, "alerts", cursor=cursor, limit=limit, fetch=fetch)


@get("/alerts/{alert_id:str}", opt=READER, operation_id="getAlert", responses=problems("NOT_FOUND"))
async def get_alert(alert_id: PublicId, runtime: NamedDependency[Runtime]) -> Response[AlertView]:
    """Return an alert; its `ETag` goes into the `If-Match` of its acknowledgement."""

    async def read(tx: Tx) -> list[AlertView]:
        stored = await alerts.by_public_id(tx, alert_id)
        return await _views(tx, [stored] if stored else [])

    found = await runtime.db.read(read)
    if not found:
        raise NotFound
    return Response(found[0], headers=etag(found[0].version))


@post(
    "/alerts/{alert_id:str}/acknowledge",
    status_code=200,
    opt=OPERATOR,
    operation_id="acknowledgeAlert",
    responses=problems("NOT_FOUND", "PRECONDITION_REQUIRED", "STALE_VERSION"),
)
async def acknowledge_alert(
    request: Request[Any, Any, Any],
    alert_id: PublicId,
    runtime: NamedDependency[Runtime],
    if_match: IfMatch = None,
) -> Response[AlertView]:
    """Say that you work on it: it is not repeated daily any more. What grows worse after that is told anew."""
    version = version_of(if_match)

    async def verb(tx: Tx) -> AlertView:
        stored = await acknowledge(tx, runtime, alert_id, version, by=request.user.name)
        return (await _views(tx, [stored]))[0]

    view = await runtime.db.write(verb)
    return Response(view, headers=etag(view.version))


ROUTES: Final = (list_alerts, get_alert, acknowledge_alert)
