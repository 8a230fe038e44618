"""`/messages`: what the marketplace and we said to each other (生产接口消息), secrets masked."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from licensesvc.domain.instants import rfc3339
from licensesvc.services.runtime import Runtime
from licensesvc.storage import connections, messages
from licensesvc.storage.port import Tx
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import READER
from licensesvc.web.admin.answers import OrderId, OurId, Time, time_or_none
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.problems import problems


class Direction(StrEnum):
    """Who called whom."""

    IN = "in"
    OUT = "out"


class MessageView(msgspec.Struct, frozen=True, kw_only=True):
    """A callback (`direction` in) or a call of ours (out) with its outcome; `authenticated_at` null = the sender is not proven."""

    id: str
    connection: str | None
    direction: str
    activity: str
    order_id: str | None
    received_at: Time
    authenticated_at: Time | None
    outcome: str
    detail: str | None
    request: str
    response: str
    address: str | None
    duration_ms: int


@get("/messages", opt=READER, operation_id="listMessages", responses=problems("INVALID_CURSOR"))
async def list_messages(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    order_id: OrderId = None,
    connection: OurId = None,
    direction: Annotated[Direction | None, QueryParameter(description="`in` callbacks, `out` calls of ours.")] = None,
    outcome: Annotated[
        str | None,
        QueryParameter(
            max_length=64, pattern=r"^[!-~]+$(?!\n)", description="Result code, or the name of what failed."
        ),
    ] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[MessageView]]:
    """List interface messages, the oldest first."""
    where = (
        EVERYTHING.given("m.order_id = {}", order_id)
        .given("m.connection_id = (SELECT id FROM connections WHERE public_id = {})", connection)
        .given("m.direction = {}", direction)
        .given("m.outcome = {}", outcome)
    )

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, MessageView]]:
        records = await messages.page(tx, after=after, limit=count, where=where)
        connection_ids = await connections.public_ids(
            tx, {message.connection_id for message in records if message.connection_id is not None}
        )
        return [
            (
                message.id,
                MessageView(
                    id=message.public_id,
                    connection=None if message.connection_id is None else connection_ids[message.connection_id],
                    direction=message.direction,
                    activity=message.activity,
                    order_id=message.order_id,
                    received_at=rfc3339(message.received_at),
                    authenticated_at=time_or_none(message.authenticated_at),
                    outcome=message.outcome,
                    detail=message.detail,
                    request=message.request,
                    response=message.response,
                    address=message.address,
                    duration_ms=message.duration_ms,
                ),
            )
            for message in records
        ]

    return await page_of(request, runtime.db, "messages", cursor=cursor, limit=limit, fetch=fetch)


ROUTES: Final = (list_messages,)
