"""What all admin routes share: ids in paths, times on the wire, running a verb under an idempotency key."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from litestar import MediaType, Request, Response
from litestar.params import HeaderParameter, PathParameter, QueryParameter

from licensesvc.domain.instants import Instant, rfc3339
from licensesvc.services.idempotency import Answer, Keyed, answer_once, request_hash
from licensesvc.services.runtime import Runtime
from licensesvc.storage.port import Tx

PublicId: TypeAlias = Annotated[
    str, PathParameter(max_length=40, pattern=r"^[a-z]{2,8}_[0-9a-z]{26}$(?!\n)", description="Our id.")
]
OrderId: TypeAlias = Annotated[
    str | None,
    QueryParameter(min_length=1, max_length=64, pattern=r"^[!-~]+$(?!\n)", description="The marketplace's order id."),
]
IdempotencyKey: TypeAlias = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        min_length=1,
        max_length=128,
        pattern=r"^[!-~]+$(?!\n)",
        description="The same request under the same key is carried out once; its answer is kept for 24 hours.",
    ),
]
Time: TypeAlias = Annotated[
    str, msgspec.Meta(description="RFC 3339, UTC, with milliseconds", examples=["2026-11-23T16:00:00.000Z"])
]

_REPLAYED: Final = {"idempotency-replayed": "true"}


async def perform(
    request: Request[Any, Any, Any],
    rt: Runtime,
    key: str | None,
    verb: Callable[[Tx], Awaitable[msgspec.Struct]],
) -> Response[Any]:
    """Run `verb` in one write transaction and answer 201 with what it returns; under a key only once."""

    async def work(tx: Tx) -> Answer:
        return Answer(status=201, body=msgspec.json.encode(await verb(tx)))

    keyed = None
    if key is not None:
        path = f"{request.scope['path']}?{request.scope['query_string'].decode('latin-1')}"
        keyed = Keyed(
            scope=request.user.name, key=key, request_hash=request_hash(request.method, path, await request.body())
        )
    answer = await answer_once(rt, keyed, work)
    return Response(
        answer.body,
        status_code=answer.status,
        media_type=MediaType.JSON,
        headers=_REPLAYED if answer.replayed else None,
    )


def time_or_none(instant: Instant | None) -> Time | None:
    """An instant on the wire, if there is one."""
    return None if instant is None else rfc3339(instant)
