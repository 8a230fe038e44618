"""`POST /messages/…/restart` and `/outbox`: what failed is carried out again, when an operator says so and why."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from licensesvc.domain.instants import rfc3339
from licensesvc.services.licenses.change_license import WithReason
from licensesvc.services.restarts import retry_outbox
from licensesvc.services.restarts.restart_many import RestartedMany, RestartMany, restart_many
from licensesvc.services.restarts.restart_message import Restarted, Restarter, RestartWish
from licensesvc.services.runtime import Runtime
from licensesvc.storage import outbox
from licensesvc.storage.outbox import STATES, ListedItem, OutboxState
from licensesvc.storage.port import Tx
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import OPERATOR, READER
from licensesvc.web.admin.answers import IdempotencyKey, PublicId, Time, perform, time_or_none
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class OutboxView(msgspec.Struct, frozen=True, kw_only=True):
    """Work that was decided and is carried out in the background; `about` is the order or the record that it is for."""

    id: str
    kind: str
    about: str
    state: OutboxState
    created_at: Time
    due_at: Time
    attempts: int
    last_error: str | None
    done_at: Time | None
    given_up_at: Time | None


def _view(item: ListedItem) -> OutboxView:
    return OutboxView(
        id=retry_outbox.public_id(item.id),
        kind=item.kind,
        about=item.subject,
        state=item.state,
        created_at=rfc3339(item.created_at),
        due_at=rfc3339(item.due_at),
        attempts=item.attempts,
        last_error=item.last_error,
        done_at=time_or_none(item.done_at),
        given_up_at=time_or_none(item.given_up_at),
    )


@post(
    "/messages/{message_id:str}/restart",
    opt=OPERATOR,
    operation_id="restartMessage",
    status_code=200,
    responses=problems(*JSON_BODY, "NOT_FOUND", "NOT_RESTARTABLE", "MARKETPLACE_NOT_ASKED", "IN_PROGRESS"),
)
async def restart_message(
    request: JSONRequest, message_id: PublicId, data: JSONBody[RestartWish], restarter: NamedDependency[Restarter]
) -> Restarted:
    """Carry a message out again from what was kept of it; for a purchase the marketplace is asked first whether the order still stands."""
    return await restarter.restart(message_id, data, by=request.user.name)


@post(
    "/messages/restart",
    opt=OPERATOR,
    operation_id="restartMessages",
    status_code=200,
    responses=problems(*JSON_BODY, "INVALID_PARAMETER"),
)
async def restart_messages(
    request: JSONRequest, data: JSONBody[RestartMany], restarter: NamedDependency[Restarter]
) -> RestartedMany:
    """Restart many messages in the order in which they came, and tell what became of each; what is left goes into another request."""
    return await restart_many(restarter, data, by=request.user.name)


@get("/outbox", opt=READER, operation_id="listOutbox", responses=problems("INVALID_CURSOR"))
async def list_outbox(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    wanted: Annotated[
        OutboxState | None, QueryParameter(name="state", description="Only work of which this became.")
    ] = None,
    kind: Annotated[
        str | None, QueryParameter(max_length=64, pattern=r"^[!-~]+$(?!\n)", description="E.g. order_query.")
    ] = None,
    about: Annotated[
        str | None,
        QueryParameter(max_length=64, pattern=r"^[!-~]+$(?!\n)", description="The order or the record it is for."),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[OutboxView]]:
    """List background work, the oldest first."""
    where = EVERYTHING if wanted is None else EVERYTHING.always(STATES[wanted])
    where = where.given("x.kind = {}", kind).given("x.subject = {}", about)

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, OutboxView]]:
        items = await outbox.page(tx, after=after, limit=count, where=where)
        return [(item.id, _view(item)) for item in items]

    return await page_of(request, runtime.db, "outbox", cursor=cursor, limit=limit, fetch=fetch)


@post(
    "/outbox/{item_id:str}/retry",
    opt=OPERATOR,
    operation_id="retryOutboxItem",
    responses=problems(*JSON_BODY, "NOT_FOUND", "NOT_RESTARTABLE", "IDEMPOTENCY_KEY_REUSED"),
)
async def retry_item(
    request: JSONRequest,
    item_id: PublicId,
    data: JSONBody[WithReason],
    runtime: NamedDependency[Runtime],
    restarter: NamedDependency[Restarter],
    idempotency_key: IdempotencyKey = None,
) -> Response[OutboxView]:
    """Try work that was given up again, for as long as the first time."""

    async def verb(tx: Tx) -> OutboxView:
        return _view(await retry_outbox.retry(tx, runtime, item_id, data.reason, by=request.user.name))

    response = await perform(request, runtime, idempotency_key, verb, status=200)
    restarter.wake()
    return response


ROUTES: Final = (restart_messages, restart_message, list_outbox, retry_item)
