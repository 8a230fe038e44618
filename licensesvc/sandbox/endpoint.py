"""The frame around every call of the sandbox's open API: disturbances, the gateway's checks in their order, answers in its words (spec §11.3).

405 method · 400 body too large · 401 signature (the gateway's envelope) · 415 content type · then the call. Plain ASGI: whatever a client
sends is answered as the marketplace answers it, never as a framework does.

In: `Call`, which says what differs from URI to URI, and the frame that serves one. Out: the calls (`open_api`).
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeAlias

import msgspec
import structlog
from litestar.enums import ScopeType
from litestar.types import HTTPScope, Receive, Scope, Send

from licensesvc.marketplace.huawei import openapi
from licensesvc.marketplace.huawei.result_codes import OpenApiCode, gateway_error
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.sandbox.gateway import Gateway
from licensesvc.sandbox.outage import Outage, OutageKind

MAX_BODY_BYTES: Final = 64 * 1024
"""Of every call that does not say otherwise."""
DROPPED_BYTES: Final = 2 * 1024 * 1024
"""Read of a body beyond its limit: a client that is still sending when it is answered may lose the answer."""
HANG_SECONDS: Final = 30.0
"""How long a silent answer is held at most."""

Answered: TypeAlias = tuple[int, bytes]
"""Status and body."""

_log = structlog.get_logger(__name__)

_UNAVAILABLE: Final = b'{"error":"service unavailable"}'


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One URI: how it is asked, what is done, and its words for a fault of ours and for an IAM token."""

    path: str
    method: str = "POST"
    carry_out: Callable[[bytes], Answered]
    """Takes the body, or the query string of a GET."""
    internal_error: Answered
    token: Answered | None = None
    """The gateway takes IAM tokens as well as signatures; the sandbox has given none away [I]."""
    body_limit: int = MAX_BODY_BYTES


class _TooLarge(Exception):
    pass


class _Gone(Exception):
    pass


class Endpoint:
    """One URI as an ASGI application."""

    def __init__(self, gateway: Gateway, outage: Outage, call: Call) -> None:
        self._gateway = gateway
        self._outage = outage
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing that a client sends makes this raise."""
        if scope["type"] != ScopeType.HTTP:
            await send({"type": "websocket.close", "code": 1003, "reason": "HTTP only"})
            return
        kind = self._outage.next(self._call.path)
        with suppress(_Gone):
            match kind:
                case OutageKind.UNAVAILABLE:
                    await _answer(send, 503, _UNAVAILABLE)
                case OutageKind.SILENT:
                    await _disconnected(receive)
                    await _break_off(send)
                case OutageKind.DROP:
                    await _break_off(send)
                case OutageKind.LOST:
                    await self._serve(scope, receive)
                    await _break_off(send)
                case OutageKind.NONE:
                    await _answer(send, *await self._serve(scope, receive))

    async def _serve(self, scope: HTTPScope, receive: Receive) -> Answered:
        if scope["method"] != self._call.method:
            return openapi.failure(OpenApiCode.METHOD_NOT_SUPPORTED)
        headers = list(scope["headers"])
        try:
            body = await _read(receive, self._call.body_limit)
            if self._call.token is not None and any(name == b"x-auth-token" for name, _ in headers):
                return self._call.token
            self._gateway.admit(scope["method"], scope["raw_path"], scope["query_string"], headers, body)
        except _TooLarge:
            return openapi.failure(OpenApiCode.BAD_REQUEST)
        except SignatureRefused as error:
            return gateway_error(error.reason, secrets.token_hex(16))
        if self._call.method == "POST" and not _is_json(headers):
            return openapi.failure(OpenApiCode.CONTENT_TYPE_NOT_SUPPORTED)
        try:
            return self._call.carry_out(body if self._call.method == "POST" else scope["query_string"])
        except openapi.OpenApiFault as fault:
            return openapi.failure(fault.error_code)
        except Exception:  # noqa: BLE001 - a client of the marketplace knows this code, not a page of a framework
            _log.exception("sandbox_call_failed", path=self._call.path)
            return self._call.internal_error


async def _read(receive: Receive, limit: int) -> bytes:
    body, size = bytearray(), 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _Gone
        size += len(message["body"])
        if size <= limit:
            body += message["body"]
        if size > limit + DROPPED_BYTES or (size > limit and not message["more_body"]):
            raise _TooLarge
        if not message["more_body"]:
            return bytes(body)


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json;charset=UTF-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _break_off(send: Send) -> None:
    """Begin an answer and return: the server closes the connection, and the client has an answer that is none."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})


async def _disconnected(receive: Receive) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(HANG_SECONDS):
            while (await receive())["type"] == "http.request":
                pass
            raise _Gone


def _is_json(headers: list[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        if name == b"content-type":
            return value.partition(b";")[0].strip().lower() == b"application/json"
    return False
