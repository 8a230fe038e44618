"""What raw ASGI endpoints share: reading a bounded body, answering bytes, the client's address."""

import asyncio
from collections.abc import Sequence
from typing import Final, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPScope, Receive, Scope, Send

CLIENT_ADDRESS: Final = "licensesvc.client_address"
"""ASGI scope key."""

DROPPED_BYTES: Final = 2 * 1024 * 1024
"""Read of a body beyond its limit."""


LARGE_BODIES: Final = 4
"""Bodies of one endpoint that may be larger than usual at the same time; the next one is read when one of them is done."""


class BodyTooLarge(Exception):
    """More bytes than this endpoint reads."""


class ClientGone(Exception):
    """The client hung up before its body was complete: nobody is left to answer."""


class CasedName(bytes):
    """A header name that keeps its case: servers write `name.lower()`, and the marketplace matches case-sensitively."""

    __slots__ = ()

    def lower(self) -> "CasedName":
        """Stay as written."""
        return self


async def only_http(scope: Scope, send: Send) -> HTTPScope | None:
    """The scope of an HTTP request; a WebSocket, which the framework lets through to raw endpoints, is closed."""
    if scope["type"] == ScopeType.HTTP:
        return scope
    await send({"type": "websocket.close", "code": 1003, "reason": "HTTP only"})
    return None


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read the whole body, at most `limit` bytes; raises BodyTooLarge, ClientGone.

    What is too large is read on and dropped for a while: a client that is still sending when it is answered may lose the answer.
    """
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk = message["body"]
        size += len(chunk)
        complete = not message["more_body"]
        if size > limit:
            if complete or size > limit + DROPPED_BYTES:
                raise BodyTooLarge
            chunks.clear()
        elif complete:
            return chunk if not chunks else b"".join((*chunks, chunk))
        else:
            chunks.append(chunk)


class FewLargeBodies:
    """Stands before an endpoint that reads large bodies: as many small ones as come, but few large ones at a time.

    Bodies are read before anybody knows who sends them, so what they may take of the memory is bounded here. The one who waits
    is not read from: the server's buffers, and then the client, hold what is sent.
    """

    def __init__(self, app: ASGIApp, small: int) -> None:
        """`small` is how many bytes are no matter."""
        self._app = app
        self._small = small
        self._room = asyncio.Semaphore(LARGE_BODIES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        size, holds = 0, False

        async def counted() -> HTTPReceiveMessage:
            nonlocal size, holds
            message = cast("HTTPReceiveMessage", await receive())
            size += len(message["body"]) if message["type"] == "http.request" else 0
            if size > self._small and not holds:
                await self._room.acquire()
                holds = True
            return message

        try:
            await self._app(scope, cast("Receive", counted), send)
        finally:
            if holds:
                self._room.release()


async def answer(send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Send one complete response."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [*headers, (b"content-length", str(len(body)).encode())],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})


def client_address(scope: Scope) -> str:
    """The address that this request is held against (`web/forwarded.py`); empty on the control socket."""
    return cast("str", scope.get(CLIENT_ADDRESS, ""))
