"""What raw ASGI endpoints share: reading a bounded body, answering bytes, the client's address."""

import ipaddress
from collections.abc import Sequence
from typing import Final

from litestar.enums import ScopeType
from litestar.types import HTTPScope, Receive, Scope, Send

IPV6_PREFIX: Final = 64
"""Bits of an IPv6 address that one customer of a provider has for themselves."""

DROPPED_BYTES: Final = 2 * 1024 * 1024
"""Read of a body beyond its limit."""


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


def client_address(scope: HTTPScope) -> str:
    """The peer's address, IPv6 by its /64; empty on the control socket."""
    client = scope.get("client")
    if not client:
        return ""
    try:
        address = ipaddress.ip_address(client[0].partition("%")[0])
    except ValueError:
        return client[0][:64]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((address, IPV6_PREFIX), strict=False))
