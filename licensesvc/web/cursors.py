"""Lists in pages: opaque cursors, a bounded limit, and the link to the next page.

In: parameters, cursors, the page. Out: what is listed. Pages go by ascending internal id, so a page never skips or repeats a
record because another one was added meanwhile.
"""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final, Generic, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlencode

import msgspec
from litestar import Request, Response
from litestar.params import QueryParameter

from licensesvc.signing import base64url
from licensesvc.storage.port import Database, Tx
from licensesvc.web.problems import Refusal

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200

_ID_BYTES: Final = 8
_CHECK_BYTES: Final = 4

Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=MAX_LIMIT, description="Records on one page.")]
Cursor: TypeAlias = Annotated[
    str | None, QueryParameter(max_length=64, description="`next_cursor` of the page before; opaque.")
]

V = TypeVar("V")


class Page(msgspec.Struct, Generic[V], frozen=True, kw_only=True):
    """A page of a list; `next_cursor` is null on the last one."""

    items: list[V]
    next_cursor: str | None


def encode_place(kind: str, place: bytes) -> str:
    """Return a cursor into the list called `kind`, behind the record whose place these bytes are."""
    return base64url.encode(place + _check(kind, place))


def decode_place(kind: str, cursor: str) -> bytes:
    """Return the place behind which the page begins; INVALID_CURSOR for a text that is none of this list.

    The check keeps nonsense out; it is no secret, for a cursor allows nothing that the list does not.
    """
    try:
        text = base64url.decode(cursor)
    except ValueError:
        text = b""
    place, check = text[:-_CHECK_BYTES], text[-_CHECK_BYTES:]
    if check != _check(kind, place):
        raise invalid_cursor()
    return place


def invalid_cursor() -> Refusal:
    """What is answered to a text that is no cursor of the list."""
    return Refusal("INVALID_CURSOR", "take next_cursor of a page of this list as it stands, or leave the cursor out")


def encode_cursor(kind: str, after: int) -> str:
    """Return a cursor into the list called `kind`, behind the record with this internal id."""
    return encode_place(kind, after.to_bytes(_ID_BYTES, "big", signed=True))


def decode_cursor(kind: str, cursor: str | None, first: int = 0) -> int:
    """Return the internal id behind which the page begins, `first` without cursor."""
    if cursor is None:
        return first
    place = decode_place(kind, cursor)
    if len(place) != _ID_BYTES:
        raise invalid_cursor()
    return int.from_bytes(place, "big", signed=True)


async def page_of(
    request: Request[Any, Any, Any],
    db: Database,
    kind: str,
    *,
    cursor: str | None,
    limit: int,
    fetch: Callable[[Tx, int, int], Awaitable[Sequence[tuple[int, V]]]],
    first: int = 0,
) -> Response[Page[V]]:
    """Answer one page of the list called `kind`.

    `fetch(tx, after, limit)` gives up to `limit` records behind an internal id, ascending, each as (internal id, what is shown of it).
    A list that descends begins at a `first` above every id.
    """
    after = decode_cursor(kind, cursor, first)
    found = await db.read(lambda tx: fetch(tx, after, limit + 1))
    following = encode_cursor(kind, found[limit - 1][0]) if len(found) > limit else None
    return page_response(request, [shown for _, shown in found[:limit]], following)


def page_response(request: Request[Any, Any, Any], items: list[V], following: str | None) -> Response[Page[V]]:
    """Answer one page; `following` is the cursor of the next."""
    page = Page(items=items, next_cursor=following)
    return Response(page, headers={"link": _link(request, following)} if following else None)


def _link(request: Request[Any, Any, Any], cursor: str) -> str:
    """The same request with another cursor (RFC 8288), relative to this server's address."""
    given = parse_qsl(request.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    query = urlencode([*((name, value) for name, value in given if name != "cursor"), ("cursor", cursor)])
    return f'<{request.scope["path"]}?{query}>; rel="next"'


def _check(kind: str, place: bytes) -> bytes:
    return hashlib.sha256(kind.encode() + place).digest()[:_CHECK_BYTES]
