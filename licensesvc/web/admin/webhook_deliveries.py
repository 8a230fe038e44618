"""`/webhook-endpoints/{id}/deliveries` and sending again: what was sent to an endpoint, and what came back."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from licensesvc.domain.errors import NotFound
from licensesvc.domain.instants import parse_rfc3339, rfc3339
from licensesvc.services.runtime import Runtime
from licensesvc.services.webhooks.manage_webhooks import Replayed, ReplaySince, replay_delivery, replay_since, send_ping
from licensesvc.storage import webhook_deliveries, webhook_endpoints
from licensesvc.storage.port import Tx
from licensesvc.storage.webhook_deliveries import StoredDelivery
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import OPERATOR, READER
from licensesvc.web.admin.answers import IdempotencyKey, PublicId, Time, perform, time_or_none
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class State(StrEnum):
    """How far a delivery is."""

    OPEN = "open"
    DELIVERED = "delivered"
    GIVEN_UP = "given_up"


_CONDITIONS: Final = {
    State.OPEN: "d.closed_at IS NULL",
    State.DELIVERED: "d.outcome = 'delivered'",
    State.GIVEN_UP: "d.outcome = 'given_up'",
}


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One call: `status` of the answer and its beginning, or the `error` that came instead."""

    at: Time
    duration_ms: int
    status: int | None
    error: str | None
    answer: str


class DeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """One message for one endpoint; `message` is its `webhook-id`, `next_attempt_at` null once it is closed."""

    id: str
    message: str
    type: str
    subject: str
    state: State
    payload: str
    created_at: Time
    closed_at: Time | None
    next_attempt_at: Time | None
    attempts: list[AttemptView]


def _view(delivery: StoredDelivery) -> DeliveryView:
    return DeliveryView(
        id=delivery.public_id,
        message=delivery.message_id,
        type=delivery.type,
        subject=delivery.subject,
        state=State.OPEN if delivery.outcome is None else State(delivery.outcome.value),
        payload=delivery.payload,
        created_at=rfc3339(delivery.created_at),
        closed_at=time_or_none(delivery.closed_at),
        next_attempt_at=rfc3339(delivery.due_at) if delivery.closed_at is None else None,
        attempts=[
            AttemptView(
                at=rfc3339(attempt.at),
                duration_ms=attempt.duration_ms,
                status=attempt.status,
                error=attempt.error,
                answer=attempt.answer,
            )
            for attempt in delivery.log
        ],
    )


@get(
    "/webhook-endpoints/{endpoint_id:str}/deliveries",
    opt=READER,
    operation_id="listWebhookDeliveries",
    responses=problems("NOT_FOUND", "INVALID_CURSOR", "INVALID_PARAMETER"),
)
async def list_deliveries(
    request: Request[Any, Any, Any],
    endpoint_id: PublicId,
    runtime: NamedDependency[Runtime],
    in_state: Annotated[
        State | None, QueryParameter(name="state", description="Only deliveries in this state.")
    ] = None,
    since: Annotated[
        str | None, QueryParameter(max_length=40, description="Only deliveries made since this time (RFC 3339).")
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[DeliveryView]]:
    """List the deliveries to an endpoint with their attempts, the oldest first."""
    where = EVERYTHING.given("d.created_at >= {}", None if since is None else parse_rfc3339(since))
    if in_state is not None:
        where = where.always(_CONDITIONS[in_state])

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, DeliveryView]]:
        endpoint = await webhook_endpoints.by_public_id(tx, endpoint_id)
        if endpoint is None:
            raise NotFound
        found = await webhook_deliveries.page(tx, endpoint.id, after=after, limit=count, where=where)
        return [(delivery.id, _view(delivery)) for delivery in found]

    return await page_of(request, runtime.db, "webhook-deliveries", cursor=cursor, limit=limit, fetch=fetch)


@post(
    "/webhook-endpoints/{endpoint_id:str}/test",
    opt=OPERATOR,
    operation_id="testWebhookEndpoint",
    responses=problems("NOT_FOUND", "ENDPOINT_DISABLED", "INVALID_PARAMETER", "IDEMPOTENCY_KEY_REUSED"),
)
async def ping_endpoint(
    request: Request[Any, Any, Any],
    endpoint_id: PublicId,
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[DeliveryView]:
    """Send a message of type `ping`; the list of deliveries tells what came of it."""

    async def verb(tx: Tx) -> DeliveryView:
        return _view(await send_ping(tx, runtime, endpoint_id, by=request.user.name))

    return await perform(request, runtime, idempotency_key, verb)


@post(
    "/webhook-endpoints/{endpoint_id:str}/replay",
    opt=OPERATOR,
    operation_id="replayWebhookEvents",
    responses=problems("NOT_FOUND", *JSON_BODY, "ENDPOINT_DISABLED", "INVALID_PARAMETER", "IDEMPOTENCY_KEY_REUSED"),
)
async def replay_events(
    request: JSONRequest,
    endpoint_id: PublicId,
    data: JSONBody[ReplaySince],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[Replayed]:
    """Send the events since a time again, 500 at most; call it again with `next_since` for the rest."""

    async def verb(tx: Tx) -> Replayed:
        return await replay_since(tx, runtime, endpoint_id, data, by=request.user.name)

    return await perform(request, runtime, idempotency_key, verb)


@post(
    "/webhook-deliveries/{delivery_id:str}/replay",
    opt=OPERATOR,
    operation_id="replayWebhookDelivery",
    responses=problems("NOT_FOUND", "ENDPOINT_DISABLED", "INVALID_PARAMETER", "IDEMPOTENCY_KEY_REUSED"),
)
async def replay_one(
    request: Request[Any, Any, Any],
    delivery_id: PublicId,
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[DeliveryView]:
    """Send one message again, under the same `webhook-id`, as a delivery of its own."""

    async def verb(tx: Tx) -> DeliveryView:
        return _view(await replay_delivery(tx, runtime, delivery_id, by=request.user.name))

    return await perform(request, runtime, idempotency_key, verb)


ROUTES: Final = (list_deliveries, ping_endpoint, replay_events, replay_one)
