"""What all admin routes share: ids in paths, times on the wire, running a verb under an idempotency key."""

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeAlias

import msgspec
from litestar import MediaType, Request, Response
from litestar.params import HeaderParameter, PathParameter, QueryParameter

from licensesvc.domain.instants import Instant, parse_rfc3339, rfc3339
from licensesvc.services.access.idempotency import Answer, Keyed, answer_once, request_hash
from licensesvc.services.runtime import Runtime
from licensesvc.storage.port import Tx
from licensesvc.storage.where import EVERYTHING, Where
from licensesvc.web.problems import Refusal

PublicId: TypeAlias = Annotated[
    str, PathParameter(max_length=40, pattern=r"^[a-z]{2,8}_[0-9a-z]{26}$(?!\n)", description="Our id.")
]
OurId: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        max_length=40, pattern=r"^[a-z]{2,8}_[0-9a-z]{26}$(?!\n)", description="Our id of the record meant."
    ),
]
Name: TypeAlias = Annotated[
    str | None,
    QueryParameter(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]+$", description="Exactly this name."),
]
Live: TypeAlias = Annotated[
    bool | None, QueryParameter(description="Only those that are not revoked; false: only revoked ones.")
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
IfMatch: TypeAlias = Annotated[
    str | None, HeaderParameter(name="If-Match", description="The ETag that was read; required.")
]
Time: TypeAlias = Annotated[
    str, msgspec.Meta(description="RFC 3339, UTC, with milliseconds", examples=["2026-11-23T16:00:00.000Z"])
]
Moment: TypeAlias = Annotated[
    str | None, QueryParameter(max_length=40, description="RFC 3339, e.g. 2026-11-23T16:00:00Z.")
]

_REPLAYED: Final = {"idempotency-replayed": "true"}
_ETAG: Final = re.compile(r'"(\d{1,18})"', re.ASCII)


async def perform(
    request: Request[Any, Any, Any],
    rt: Runtime,
    key: str | None,
    verb: Callable[[Tx], Awaitable[msgspec.Struct]],
    *,
    status: int = 201,
    body: bytes | None = None,
) -> Response[Any]:
    """Run `verb` in one write transaction and answer with what it returns; under a key only once.

    `body` tells this request from others in place of its body, for one that was too large to keep.
    """

    async def work(tx: Tx) -> Answer:
        return Answer(status=status, body=msgspec.json.encode(await verb(tx)))

    keyed = None
    if key is not None:
        path = f"{request.scope['path']}?{request.scope['query_string'].decode('latin-1')}"
        told = await request.body() if body is None else body
        keyed = Keyed(scope=request.user.name, key=key, request_hash=request_hash(request.method, path, told))
    answer = await answer_once(rt, keyed, work)
    return Response(
        answer.body,
        status_code=answer.status,
        media_type=MediaType.JSON,
        headers=_REPLAYED if answer.replayed else None,
    )


def etag(version: int) -> dict[str, str]:
    """The header that says which version of a record an answer shows."""
    return {"etag": f'"{version}"'}


def version_of(if_match: str | None) -> int:
    """The version that a change was decided on; PRECONDITION_REQUIRED without `If-Match`."""
    if if_match is None:
        raise Refusal("PRECONDITION_REQUIRED", "read the record and send its ETag as If-Match")
    tag = _ETAG.fullmatch(if_match)
    if tag is None:
        raise Refusal("MALFORMED_REQUEST", "If-Match must be one ETag of this record")
    return int(tag[1])


def revocation(live: bool | None) -> Where:
    """The condition that asks for live or for revoked records."""
    if live is None:
        return EVERYTHING
    return EVERYTHING.always("revoked_at IS NULL" if live else "revoked_at IS NOT NULL")


def instant_or_none(moment: str | None) -> Instant | None:
    """An instant from the wire, if there is one. Raises InvalidParameter."""
    return None if moment is None else parse_rfc3339(moment)


def time_or_none(instant: Instant | None) -> Time | None:
    """An instant on the wire, if there is one."""
    return None if instant is None else rfc3339(instant)
