"""The frame around every call of the compatible API: checks in the gateway's order, answers in its words (spec §11.3).

405 method · 400 body too large · 401 signature (the gateway's envelope) · 415 content type · 429 too many unknown codes ·
400 unreadable, then invalid · the call's own codes. Plain ASGI: these are the hottest routes of the server, and their errors are not ours to shape.

In: `Call`, which says what differs from URI to URI, and the frame that serves one. Out: the calls, a file for each family.
Whoever wants to step in between the caller and our own decision takes a call of the table and puts another `decide` into it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import structlog
from litestar.types import HTTPScope, Receive, Scope, Send

from licensesvc.domain.connection import ErrorTable
from licensesvc.domain.errors import DomainError, RateLimited
from licensesvc.marketplace.huawei import aksk, openapi
from licensesvc.marketplace.huawei.orders import OrderFault
from licensesvc.marketplace.huawei.result_codes import OpenApiCode, gateway_error, gateway_unpublished
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.services.access.authenticate_software import Caller, SoftwareGate
from licensesvc.services.access.limit_attempts import Limiter
from licensesvc.services.runtime import Runtime
from licensesvc.storage.port import StorageError
from licensesvc.web.asgi import BodyTooLarge, ClientGone, answer, client_address, only_http, read_body
from licensesvc.web.observed import tell_caller
from licensesvc.web.throttling import limit_headers

MAX_BODY_BYTES: Final = 64 * 1024
"""Of every call that does not say otherwise."""

_log = structlog.get_logger(__name__)

_JSON: Final = [(b"content-type", b"application/json;charset=UTF-8")]

Served: TypeAlias = tuple[int, bytes, Sequence[tuple[bytes, bytes]]]
"""Status, body and headers of an answer."""


class Answered(NamedTuple):
    """The body of a success; `unknown` counts the codes of the request that name nothing, and each is charged."""

    body: bytes
    unknown: int = 0


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """How the calls of one family say no; `codes` are members of the family's enumeration of result codes."""

    fault: type[openapi.OpenApiFault | OrderFault]
    """What reading a request raises, with a code."""
    codes: Mapping[type[DomainError], Any]
    """What of the domain's refusals the family has a word for; everything else is an internal error."""
    internal_error: Any
    failure: Callable[[Any, ErrorTable], tuple[int, bytes]]
    throttled: Callable[[RateLimited, ErrorTable, str], tuple[int, bytes]]
    """Too many unknown codes; the text is a fresh request id."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One URI: how it is asked, how the request is read, who decides it and how it says no."""

    path: str
    """Below `routes.ROOT`."""
    read: Callable[[bytes], Any]
    """The request in a body, or in the query string of a GET."""
    decide: Callable[[Caller, Any], Awaitable[Answered]]
    """What becomes of an authenticated caller's request."""
    words: Words
    method: str = "POST"
    body_limit: int = MAX_BODY_BYTES


class CompatibleEndpoint:
    """One URI of the compatible API as an ASGI application."""

    def __init__(self, rt: Runtime, gate: SoftwareGate, limiter: Limiter, call: Call) -> None:
        self._rt = rt
        self._gate = gate
        self._limiter = limiter
        self._call = call
        self._has_body = call.method == "POST"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing that a client sends makes this raise."""
        http = await only_http(scope, send)
        if http is None:
            return
        try:
            status, body, headers = await self._serve(http, receive)
        except ClientGone:
            return
        await answer(send, status, body, headers)

    async def _serve(self, scope: HTTPScope, receive: Receive) -> Served:
        """The checks up to the signature; before the caller is known, the current table answers."""
        if scope["method"] != self._call.method:
            return *openapi.failure(OpenApiCode.METHOD_NOT_SUPPORTED), [*_JSON, (b"allow", self._call.method.encode())]
        try:
            body = await read_body(receive, self._call.body_limit)
            caller = await self._authenticate(scope, body)
        except ClientGone:
            raise
        except BodyTooLarge:
            return *openapi.failure(OpenApiCode.BAD_REQUEST), _JSON
        except SignatureRefused as refused:
            return *gateway_error(refused.reason, _request_id(self._rt)), _JSON
        except Exception as error:  # noqa: BLE001 - a client of the marketplace knows this code, not a problem document
            self._report(scope, error)
            return *self._call.words.failure(self._call.words.internal_error, ErrorTable.CURRENT), _JSON
        return await self._serve_caller(scope, caller, body)

    async def _serve_caller(self, scope: HTTPScope, caller: Caller, body: bytes) -> Served:
        words, table = self._call.words, caller.connection.error_table
        if self._has_body and not _is_json(scope):
            return *openapi.failure(OpenApiCode.CONTENT_TYPE_NOT_SUPPORTED, table), _JSON
        try:
            async with self._limiter.unknown_codes(caller.public_id, client_address(scope)) as attempt:
                answered = await self._call.decide(caller, await self._read(scope, body))
                if answered.unknown:
                    await attempt.failed(answered.unknown)
                return 200, answered.body, _JSON
        except RateLimited as no:
            headers = [(name.encode(), value.encode()) for name, value in limit_headers(no).items()]
            return *words.throttled(no, table, _request_id(self._rt)), [*_JSON, *headers]
        except words.fault as fault:
            return *words.failure(fault.error_code, table), _JSON
        except DomainError as no:
            return *words.failure(words.codes.get(type(no), words.internal_error), table), _JSON
        except Exception as error:  # noqa: BLE001 - as above
            self._report(scope, error)
            return *words.failure(words.internal_error, table), _JSON

    async def _read(self, scope: HTTPScope, body: bytes) -> Any:
        if not self._has_body:
            return self._call.read(scope["query_string"])
        if len(body) <= MAX_BODY_BYTES:
            return self._call.read(body)
        return await asyncio.to_thread(self._call.read, body)  # a tenth of a second, in which everybody else would wait

    async def _authenticate(self, scope: HTTPScope, body: bytes) -> Caller:
        signed = aksk.parse_request(self._call.method, scope["raw_path"], scope["query_string"], list(scope["headers"]))
        caller = await self._gate.authenticate(signed, body, client_address(scope))
        tell_caller(scope, caller.public_id, caller.connection.public_id)
        return caller

    @staticmethod
    def _report(scope: HTTPScope, error: Exception) -> None:
        if isinstance(error, StorageError):
            _log.warning("storage_failed", error=str(error))
        else:
            _log.error("compatible_call_failed", path=scope["path"], exc_info=error)


class NoSuchCall:
    """Every other URI, as an ASGI application: the gateway knows none of them, whoever asks and however."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the framework wants the name
        """Serve one request."""
        if await only_http(scope, send) is not None:
            await answer(send, *gateway_unpublished(_request_id(self._rt)), _JSON)


def _request_id(rt: Runtime) -> str:
    return rt.entropy(16).hex()


def _is_json(scope: HTTPScope) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-type":
            return value.partition(b";")[0].strip().lower() == b"application/json"
    return False
