"""`/messages`: what the marketplace and we said to each other (生产接口消息), secrets masked."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from licensesvc.domain.errors import NotFound
from licensesvc.domain.instants import rfc3339
from licensesvc.domain.messages import MessageState
from licensesvc.services.restarts.restart_message import why_not
from licensesvc.services.runtime import Runtime
from licensesvc.storage import connections, messages
from licensesvc.storage.message_search import MessageSearch
from licensesvc.storage.messages import NEWEST_FIRST, Message, Purpose
from licensesvc.storage.port import Tx
from licensesvc.web.admin.access import READER
from licensesvc.web.admin.answers import Moment, OrderId, OurId, PublicId, Time, instant_or_none, time_or_none
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.problems import problems

_WORD: Final = r"^[!-~]+$(?!\n)"


class Direction(StrEnum):
    """Who called whom."""

    IN = "in"
    OUT = "out"


class Ends(StrEnum):
    """Which end of a list comes first."""

    OLDEST_FIRST = "oldest"
    NEWEST_FIRST = "newest"


class MessageView(msgspec.Struct, frozen=True, kw_only=True):
    """A callback (`direction` in) or a call of ours (out) with its outcome; `authenticated_at` null = the sender is not proven.

    `state` is where it stands by now: SUCCEEDED, IN_PROGRESS, FAILED, RETRIED (a later call of the same activity about the same order
    succeeded), RESTARTED (a restart of it succeeded) or UNPROVEN. `restart_of` is the message that this one restarted.
    """

    id: str
    connection: str | None
    direction: str
    activity: str
    order_id: str | None
    received_at: Time
    authenticated_at: Time | None
    state: MessageState
    outcome: str
    detail: str | None
    purpose: Purpose
    restart_of: str | None
    request: str
    response: str
    address: str | None
    duration_ms: int


class MessageDetail(MessageView, frozen=True, kw_only=True):
    """A message with its restarts; `not_restartable` says why it can never be restarted, null = it may be."""

    restarts: list[str]
    restarted_at: Time | None
    not_restartable: str | None


def _view(message: Message, connection_ids: dict[int, str]) -> MessageView:
    return MessageView(
        id=message.public_id,
        connection=None if message.connection_id is None else connection_ids[message.connection_id],
        direction=message.direction,
        activity=message.activity,
        order_id=message.order_id,
        received_at=rfc3339(message.received_at),
        authenticated_at=time_or_none(message.authenticated_at),
        state=message.state,
        outcome=message.outcome,
        detail=message.detail,
        purpose=message.purpose,
        restart_of=message.restart_of,
        request=message.request,
        response=message.response,
        address=message.address,
        duration_ms=message.duration_ms,
    )


async def _views(tx: Tx, records: Sequence[Message]) -> list[MessageView]:
    named = {message.connection_id for message in records if message.connection_id is not None}
    connection_ids = await connections.public_ids(tx, named)
    return [_view(message, connection_ids) for message in records]


@get("/messages", opt=READER, operation_id="listMessages", responses=problems("INVALID_CURSOR", "INVALID_PARAMETER"))
async def list_messages(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    *,
    order_id: OrderId = None,
    connection: OurId = None,
    license: OurId = None,  # noqa: A002 - the name on the wire
    direction: Annotated[Direction | None, QueryParameter(description="`in` callbacks, `out` calls of ours.")] = None,
    activity: Annotated[
        str | None, QueryParameter(max_length=64, pattern=_WORD, description="Exactly this one, e.g. getLicense.")
    ] = None,
    outcome: Annotated[
        str | None,
        QueryParameter(max_length=64, pattern=_WORD, description="Result code, or the name of what failed."),
    ] = None,
    wanted: Annotated[
        MessageState | None, QueryParameter(name="state", description="Only messages that stand so by now.")
    ] = None,
    purpose: Annotated[
        Purpose | None, QueryParameter(description="`live` business, or `test` calls (testFlag=1).")
    ] = None,
    restart_of: OurId = None,
    since: Moment = None,
    until: Moment = None,
    order: Annotated[Ends, QueryParameter(description="Which come first.")] = Ends.OLDEST_FIRST,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[MessageView]]:
    """List interface messages of which all that is given is true, in [since, until), the oldest or the newest first."""
    newest_first = order is Ends.NEWEST_FIRST
    where = MessageSearch(
        order_id=order_id,
        connection=connection,
        license=license,
        direction=direction,
        activity=activity,
        outcome=outcome,
        purpose=purpose,
        restart_of=restart_of,
        since=instant_or_none(since),
        until=instant_or_none(until),
        states=() if wanted is None else (wanted,),
    ).where()

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, MessageView]]:
        records = await messages.page(tx, after=after, limit=count, where=where, newest_first=newest_first)
        return list(zip([message.id for message in records], await _views(tx, records), strict=True))

    return await page_of(
        request,
        runtime.db,
        f"messages {order}",
        cursor=cursor,
        limit=limit,
        fetch=fetch,
        first=NEWEST_FIRST if newest_first else 0,
    )


@get("/messages/{message_id:str}", opt=READER, operation_id="getMessage", responses=problems("NOT_FOUND"))
async def get_message(message_id: PublicId, runtime: NamedDependency[Runtime]) -> MessageDetail:
    """Return a message with its restarts."""

    async def detail(tx: Tx) -> MessageDetail:
        message = await messages.by_public_id(tx, message_id)
        if message is None:
            raise NotFound
        restarts = await messages.restarts_of(tx, [message_id])
        return MessageDetail(
            **msgspec.structs.asdict((await _views(tx, [message]))[0]),
            restarts=restarts.get(message_id, []),
            restarted_at=time_or_none(message.restarted_at),
            not_restartable=why_not(message),
        )

    return await runtime.db.read(detail)


ROUTES: Final = (list_messages, get_message)
