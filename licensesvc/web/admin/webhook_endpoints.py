"""`/webhook-endpoints`: who is told of events, and how that is signed."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from licensesvc.domain.errors import NotFound
from licensesvc.domain.instants import rfc3339
from licensesvc.domain.webhook_attempts import Why
from licensesvc.outbound.addresses import Policy
from licensesvc.services.runtime import Runtime
from licensesvc.services.webhooks.manage_webhooks import (
    ChangeEndpoint,
    CreateEndpoint,
    EnableEndpoint,
    RotateSecret,
    change_endpoint,
    create_endpoint,
    delete_endpoint,
    disable_endpoint,
    enable_endpoint,
    rotate_secret,
)
from licensesvc.settings import Settings
from licensesvc.signing.webhook_signature import WebhookSecret
from licensesvc.storage import webhook_endpoints
from licensesvc.storage.port import Tx
from licensesvc.storage.webhook_endpoints import StoredEndpoint
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import OPERATOR, OWNER, READER
from licensesvc.web.admin.answers import (
    IdempotencyKey,
    IfMatch,
    PublicId,
    Time,
    etag,
    perform,
    time_or_none,
    version_of,
)
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint without its secrets. `public_keys` verify `v1a`; the first is the newest. `failing_since` null = the last attempt went well."""

    id: str
    url: str
    description: str
    events: tuple[str, ...]
    signatures: tuple[str, ...]
    public_keys: tuple[str, ...]
    created_at: Time
    disabled_at: Time | None
    disabled_why: Why | None
    failing_since: Time | None
    paused_until: Time | None
    version: int


class EndpointWithSecret(EndpointView, frozen=True, kw_only=True):
    """An endpoint with its new secret (`whsec_…`), which verifies `v1` and is shown this once."""

    secret: str

    def __repr__(self) -> str:
        return f"EndpointWithSecret({self.id})"


async def _views(tx: Tx, rt: Runtime, endpoints: Sequence[StoredEndpoint]) -> list[EndpointView]:
    secrets = await webhook_endpoints.secrets(tx, [endpoint.id for endpoint in endpoints], rt.clock())
    return [
        EndpointView(
            id=endpoint.public_id,
            url=endpoint.url,
            description=endpoint.description,
            events=endpoint.events,
            signatures=endpoint.signatures,
            public_keys=tuple(
                secret.public_key
                for secret in secrets
                if secret.endpoint_id == endpoint.id and secret.public_key is not None
            ),
            created_at=rfc3339(endpoint.created_at),
            disabled_at=time_or_none(endpoint.disabled_at),
            disabled_why=endpoint.disabled_why,
            failing_since=time_or_none(endpoint.failing_since),
            paused_until=time_or_none(endpoint.paused_until),
            version=endpoint.version,
        )
        for endpoint in endpoints
    ]


async def _view(tx: Tx, rt: Runtime, endpoint: StoredEndpoint) -> EndpointView:
    return (await _views(tx, rt, [endpoint]))[0]


async def _with_secret(tx: Tx, rt: Runtime, endpoint: StoredEndpoint, secret: WebhookSecret) -> EndpointWithSecret:
    assert secret.shown is not None
    view = await _view(tx, rt, endpoint)
    return EndpointWithSecret(**{name: getattr(view, name) for name in view.__struct_fields__}, secret=secret.shown)


def _tagged(view: EndpointView) -> Response[EndpointView]:
    return Response(view, headers=etag(view.version))


def _policy(settings: Settings) -> Policy:
    return Policy(allowed=settings.reachable_networks)


@post(
    "/webhook-endpoints",
    opt=OWNER,
    operation_id="createWebhookEndpoint",
    responses=problems(*JSON_BODY, "INVALID_PARAMETER", "IDEMPOTENCY_KEY_REUSED"),
)
async def add_endpoint(
    request: JSONRequest,
    data: JSONBody[CreateEndpoint],
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
    idempotency_key: IdempotencyKey = None,
) -> Response[EndpointWithSecret]:
    """Add an endpoint, told of events from now on; its secret is shown this once."""

    async def verb(tx: Tx) -> EndpointWithSecret:
        endpoint, secret = await create_endpoint(tx, runtime, _policy(settings), data, by=request.user.name)
        return await _with_secret(tx, runtime, endpoint, secret)

    return await perform(request, runtime, idempotency_key, verb)


@get("/webhook-endpoints", opt=READER, operation_id="listWebhookEndpoints", responses=problems("INVALID_CURSOR"))
async def list_endpoints(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    disabled: Annotated[
        bool | None, QueryParameter(description="Only disabled ones; false: only enabled ones.")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[EndpointView]]:
    """List endpoints, the oldest first."""
    where = EVERYTHING
    if disabled is not None:
        where = where.always("e.disabled_at IS NOT NULL" if disabled else "e.disabled_at IS NULL")

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, EndpointView]]:
        endpoints = await webhook_endpoints.page(tx, after=after, limit=count, where=where)
        return list(zip([endpoint.id for endpoint in endpoints], await _views(tx, runtime, endpoints), strict=True))

    return await page_of(request, runtime.db, "webhook-endpoints", cursor=cursor, limit=limit, fetch=fetch)


@get(
    "/webhook-endpoints/{endpoint_id:str}",
    opt=READER,
    operation_id="getWebhookEndpoint",
    responses=problems("NOT_FOUND"),
)
async def get_endpoint(endpoint_id: PublicId, runtime: NamedDependency[Runtime]) -> Response[EndpointView]:
    """Return an endpoint; its `ETag` goes into the `If-Match` of a change."""

    async def load(tx: Tx) -> EndpointView:
        endpoint = await webhook_endpoints.by_public_id(tx, endpoint_id)
        if endpoint is None:
            raise NotFound
        return await _view(tx, runtime, endpoint)

    return _tagged(await runtime.db.read(load))


@patch(
    "/webhook-endpoints/{endpoint_id:str}",
    opt=OWNER,
    operation_id="changeWebhookEndpoint",
    responses=problems("NOT_FOUND", "PRECONDITION_REQUIRED", "STALE_VERSION", *JSON_BODY, "INVALID_PARAMETER"),
)
async def update_endpoint(
    request: JSONRequest,
    endpoint_id: PublicId,
    data: JSONBody[ChangeEndpoint],
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
    if_match: IfMatch = None,
) -> Response[EndpointView]:
    """Change the fields that are given, if nobody has changed the endpoint since it was read."""
    version = version_of(if_match)

    async def verb(tx: Tx) -> EndpointView:
        changed = await change_endpoint(
            tx, runtime, _policy(settings), endpoint_id, version, data, by=request.user.name
        )
        return await _view(tx, runtime, changed)

    return _tagged(await runtime.db.write(verb))


@delete(
    "/webhook-endpoints/{endpoint_id:str}",
    opt=OWNER,
    operation_id="deleteWebhookEndpoint",
    responses=problems("NOT_FOUND"),
)
async def remove_endpoint(
    request: Request[Any, Any, Any], endpoint_id: PublicId, runtime: NamedDependency[Runtime]
) -> None:
    """Delete an endpoint and its secrets; what was still to be sent to it is given up."""
    await runtime.db.write(lambda tx: delete_endpoint(tx, runtime, endpoint_id, by=request.user.name))


@post(
    "/webhook-endpoints/{endpoint_id:str}/disable",
    opt=OPERATOR,
    operation_id="disableWebhookEndpoint",
    status_code=200,
    responses=problems("NOT_FOUND"),
)
async def switch_off(
    request: Request[Any, Any, Any], endpoint_id: PublicId, runtime: NamedDependency[Runtime]
) -> Response[EndpointView]:
    """Send nothing until the endpoint is enabled again; events wait."""

    async def verb(tx: Tx) -> EndpointView:
        return await _view(tx, runtime, await disable_endpoint(tx, runtime, endpoint_id, by=request.user.name))

    return _tagged(await runtime.db.write(verb))


@post(
    "/webhook-endpoints/{endpoint_id:str}/enable",
    opt=OPERATOR,
    operation_id="enableWebhookEndpoint",
    status_code=200,
    responses=problems("NOT_FOUND", *JSON_BODY),
)
async def switch_on(
    request: JSONRequest,
    endpoint_id: PublicId,
    data: JSONBody[EnableEndpoint],
    runtime: NamedDependency[Runtime],
) -> Response[EndpointView]:
    """Send again: what happened meanwhile too, in order, unless `skip_missed` is true."""

    async def verb(tx: Tx) -> EndpointView:
        return await _view(tx, runtime, await enable_endpoint(tx, runtime, endpoint_id, data, by=request.user.name))

    return _tagged(await runtime.db.write(verb))


@post(
    "/webhook-endpoints/{endpoint_id:str}/rotate-secret",
    opt=OWNER,
    operation_id="rotateWebhookSecret",
    responses=problems("NOT_FOUND", *JSON_BODY, "INVALID_PARAMETER", "IDEMPOTENCY_KEY_REUSED"),
)
async def renew_secret(
    request: JSONRequest,
    endpoint_id: PublicId,
    data: JSONBody[RotateSecret],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[EndpointWithSecret]:
    """Make new secrets of both kinds; for `overlap_hours` messages bear the signatures of the old ones too."""

    async def verb(tx: Tx) -> EndpointWithSecret:
        endpoint, secret = await rotate_secret(tx, runtime, endpoint_id, data, by=request.user.name)
        return await _with_secret(tx, runtime, endpoint, secret)

    return await perform(request, runtime, idempotency_key, verb)


ROUTES: Final = (
    add_endpoint,
    list_endpoints,
    get_endpoint,
    update_endpoint,
    remove_endpoint,
    switch_off,
    switch_on,
    renew_secret,
)
