"""`/connections`: marketplace accounts."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, patch, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from licensesvc.domain.connection import ErrorTable, Relay, Site, UnknownCodes
from licensesvc.domain.errors import NotFound
from licensesvc.services.catalog.manage_connections import (
    ChangeConnection,
    CreateConnection,
    change_connection,
    create_connection,
)
from licensesvc.services.catalog.open_connection import CallbackDoors
from licensesvc.services.runtime import Runtime
from licensesvc.settings import Settings
from licensesvc.storage import connections
from licensesvc.storage.connections import StoredConnection
from licensesvc.storage.port import Tx
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import OWNER, READER
from licensesvc.web.admin.answers import IdempotencyKey, IfMatch, Name, PublicId, etag, perform, version_of
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class ConnectionView(msgspec.Struct, frozen=True, kw_only=True):
    """A connection without its secrets; `callback_url` is what to enter on the marketplace."""

    id: str
    name: str
    site: Site
    base_url: str | None
    wire_zone: str
    calendar_zone: str
    error_table: ErrorTable
    unknown_codes: UnknownCodes
    relay: Relay
    callback_url: str
    has_callback_key: bool
    api_access_key: str | None
    has_api_secret: bool
    version: int


def _view(stored: StoredConnection, settings: Settings) -> ConnectionView:
    connection = stored.connection
    return ConnectionView(
        id=connection.public_id,
        name=connection.name,
        site=connection.site,
        base_url=connection.base_url,
        wire_zone=connection.wire_zone,
        calendar_zone=connection.calendar_zone,
        error_table=connection.error_table,
        unknown_codes=connection.unknown_codes,
        relay=connection.relay,
        callback_url=f"{settings.public_url.rstrip('/')}/callbacks/{connection.public_id}",
        has_callback_key=stored.callback_key is not None,
        api_access_key=stored.api_access_key,
        has_api_secret=stored.api_secret is not None,
        version=stored.version,
    )


def _tagged(stored: StoredConnection, settings: Settings) -> Response[ConnectionView]:
    return Response(_view(stored, settings), headers=etag(stored.version))


@post(
    "/connections",
    opt=OWNER,
    operation_id="createConnection",
    responses=problems(*JSON_BODY, "INVALID_PARAMETER", "ALREADY_EXISTS", "IDEMPOTENCY_KEY_REUSED"),
)
async def add_connection(
    request: JSONRequest,
    data: JSONBody[CreateConnection],
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
    idempotency_key: IdempotencyKey = None,
) -> Response[ConnectionView]:
    """Add a connection. Its secrets are sealed and never shown again."""

    async def verb(tx: Tx) -> ConnectionView:
        return _view(await create_connection(tx, runtime, data, by=request.user.name), settings)

    return await perform(request, runtime, idempotency_key, verb)


@get("/connections", opt=READER, operation_id="listConnections", responses=problems("INVALID_CURSOR"))
async def list_connections(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
    name: Name = None,
    site: Annotated[Site | None, QueryParameter(description="Only accounts on this site.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[ConnectionView]]:
    """List connections, the oldest first."""
    where = EVERYTHING.given("c.name = {}", name).given("c.site = {}", site)

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, ConnectionView]]:
        return [
            (stored.connection.id, _view(stored, settings))
            for stored in await connections.page(tx, after=after, limit=count, where=where)
        ]

    return await page_of(request, runtime.db, "connections", cursor=cursor, limit=limit, fetch=fetch)


@get("/connections/{connection_id:str}", opt=READER, operation_id="getConnection", responses=problems("NOT_FOUND"))
async def get_connection(
    connection_id: PublicId, runtime: NamedDependency[Runtime], settings: NamedDependency[Settings]
) -> Response[ConnectionView]:
    """Return a connection; its `ETag` goes into the `If-Match` of a change."""
    stored = await runtime.db.read(lambda tx: connections.by_public_id(tx, connection_id))
    if stored is None:
        raise NotFound
    return _tagged(stored, settings)


@patch(
    "/connections/{connection_id:str}",
    opt=OWNER,
    operation_id="changeConnection",
    responses=problems(
        "NOT_FOUND",
        "PRECONDITION_REQUIRED",
        "STALE_VERSION",
        *JSON_BODY,
        "INVALID_PARAMETER",
        "ALREADY_EXISTS",
    ),
)
async def update_connection(
    request: JSONRequest,
    connection_id: PublicId,
    data: JSONBody[ChangeConnection],
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
    doors: NamedDependency[CallbackDoors],
    if_match: IfMatch = None,
) -> Response[ConnectionView]:
    """Change the fields that are given, if nobody has changed the connection since it was read."""
    version = version_of(if_match)
    stored = await runtime.db.write(
        lambda tx: change_connection(tx, runtime, connection_id, version, data, by=request.user.name)
    )
    doors.forget(connection_id)
    return _tagged(stored, settings)


ROUTES: Final = (add_connection, list_connections, get_connection, update_connection)
