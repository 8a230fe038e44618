"""The production URL of a connection: authenticate, carry out, sign the answer, keep the message.

Every answer is HTTP 200 with a result code, and signed with the connection's key where there is one (spec §§2.0, 4.1.2).
"""

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec
import structlog
from litestar import asgi
from litestar.handlers import ASGIRouteHandler
from litestar.types import HTTPScope, Receive, Scope, Send

from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import DomainError, InvalidParameter
from licensesvc.domain.instants import MINUTE, Instant
from licensesvc.marketplace.huawei import callbacks, signature_v1, signature_v2
from licensesvc.marketplace.huawei.callbacks import Call, OrderNotify
from licensesvc.marketplace.huawei.result_codes import CallbackCode
from licensesvc.marketplace.huawei.wire import SignatureRefused, query_parameters
from licensesvc.services.calls.receive_call import RESULT_CODES, Received, receive_call
from licensesvc.services.catalog.open_connection import CallbackDoor, CallbackDoors
from licensesvc.services.interface_messages import Callback, keep_callback, keep_with_effect, masked
from licensesvc.services.outbox_worker import OutboxWorker
from licensesvc.services.runtime import Runtime
from licensesvc.storage.messages import Purpose
from licensesvc.storage.port import StorageError, Tx
from licensesvc.strictjson import decode_object
from licensesvc.web.asgi import BodyTooLarge, CasedName, ClientGone, answer, client_address, only_http, read_body
from licensesvc.web.observed import tell_caller

MAX_BODY_BYTES: Final = 64 * 1024
V1_WINDOW: Final = 15 * MINUTE
"""How far `timeStamp` may lie from our clock; the documentation names no figure (spec §4.1.1)."""
PATIENCE_S: Final = 3.0
"""How long a call waits for the database, its effect or a duplicate in flight before it answers "in progress"; the caller's limit is 5 s."""
RECORD_PATIENCE_S: Final = 0.5
"""How long an answer waits for its message to be stored; a slower one is stored after it."""
UNPROVEN_PER_MINUTE: Final = 60
"""Messages of unproven senders that are stored; a flood beyond is not, so it cannot hold up honest writes."""

SOURCE: Final = "callback"

_log = structlog.get_logger(__name__)

_JSON: Final = (b"content-type", b"application/json;charset=UTF-8")
_BODY_SIGN: Final = CasedName(signature_v1.BODY_SIGN_HEADER.encode())


class _Said(msgspec.Struct, kw_only=True):
    """One call while it is served: what becomes its message."""

    received_at: Instant
    address: str
    door: CallbackDoor | None = None
    activity: str = ""
    order_id: str | None = None
    request: str = ""
    fields: Mapping[str, object] = {}
    raw: bytes | None = None
    purpose: Purpose = "live"
    authenticated_at: Instant | None = None
    detail: str | None = None
    kept: bool = False
    given_up: bool = False
    """The caller was told "in progress": what comes of the call is no answer of this message any more."""


class _Quota:
    """Admits `UNPROVEN_PER_MINUTE` in each minute."""

    def __init__(self) -> None:
        self._minute = 0
        self._admitted = 0

    def admit(self, now: Instant) -> bool:
        if now // MINUTE != self._minute:
            self._minute, self._admitted = now // MINUTE, 0
        self._admitted += 1
        return self._admitted <= UNPROVEN_PER_MINUTE


def callback_routes(rt: Runtime, worker: OutboxWorker, doors: CallbackDoors) -> list[ASGIRouteHandler]:
    """The production URL of every connection."""
    endpoint = CallbackEndpoint(rt, worker, doors)
    # Mounted: the framework's router fails on raw endpoints with a path parameter (Litestar 2.25, KeyError on the method).
    return [asgi("/callbacks", is_mount=True, copy_scope=False)(endpoint.__call__)]


class CallbackEndpoint:
    """`/callbacks/{connection}` as an ASGI application."""

    def __init__(self, rt: Runtime, worker: OutboxWorker, doors: CallbackDoors) -> None:
        self._rt = rt
        self._worker = worker
        self._doors = doors
        self._unproven = _Quota()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one call; nothing that a caller sends makes this raise."""
        http = await only_http(scope, send)
        if http is None:
            return
        said = _Said(received_at=self._rt.clock(), address=client_address(http))
        try:
            code, body = await self._serve(http, receive, said)
        except ClientGone:
            return
        headers = [_JSON]
        if said.door is not None:
            tell_caller(scope, None, said.door.connection.public_id)
            headers.append((_BODY_SIGN, signature_v1.body_sign(body, said.door.access_key).encode()))
        if not said.kept:
            keeping = asyncio.create_task(self._keep(said, code, body))
            await asyncio.wait({keeping}, timeout=RECORD_PATIENCE_S)
        await answer(send, 200, body, headers)

    async def _serve(self, scope: HTTPScope, receive: Receive, said: _Said) -> tuple[CallbackCode, bytes]:
        try:
            async with asyncio.timeout(PATIENCE_S):
                said.door = await self._doors.find(scope["path"].strip("/"))
                body = await self._carry_out(said.door, scope, receive, said)
        except ClientGone:
            raise
        except SignatureRefused as refused:
            said.detail = refused.reason
            return _refusal(CallbackCode.UNAUTHENTICATED, None)
        except BodyTooLarge:
            said.detail = f"body exceeds {MAX_BODY_BYTES} bytes"
            return _refusal(CallbackCode.INVALID_PARAMETER, said.detail)
        except TimeoutError:
            said.given_up = True
            said.detail = f"not done in {PATIENCE_S} s"
            return _refusal(CallbackCode.IN_PROGRESS, None)
        except DomainError as error:
            said.detail = error.message
            return _refusal(RESULT_CODES.get(type(error), CallbackCode.INTERNAL_ERROR), error.message)
        except StorageError as error:
            _log.warning("storage_failed", error=str(error))
            said.detail = str(error)
            return _refusal(CallbackCode.INTERNAL_ERROR, None)
        except Exception:  # noqa: BLE001 - the marketplace knows this code, not a problem document
            _log.exception("callback_failed", activity=said.activity)
            return _refusal(CallbackCode.INTERNAL_ERROR, None)
        return CallbackCode.SUCCESS, body

    async def _carry_out(self, door: CallbackDoor | None, scope: HTTPScope, receive: Receive, said: _Said) -> bytes:
        match scope["method"]:
            case "GET":
                return await self._v1(door, scope["query_string"], said)
            case "POST":
                return await self._v2(door, scope["query_string"], await read_body(receive, MAX_BODY_BYTES), said)
            case method:
                said.activity = method[:16]
                raise InvalidParameter("use GET for License 1.0 calls, POST for all others")

    async def _v1(self, door: CallbackDoor | None, query_string: bytes, said: _Said) -> bytes:
        parameters = query_parameters(query_string)
        said.request = _told(parameters, said)
        said.raw = query_string
        connection, access_key = _opened(door)
        now = self._rt.clock()
        verified = signature_v1.verify_auth_token(parameters, access_key, now, V1_WINDOW)
        said.authenticated_at = now
        if verified.beijing_clock:
            said.detail = "timeStamp is Beijing time, UTC is documented"
        return await self._receive(connection, callbacks.parse_v1(verified.parameters), None, said)

    async def _v2(self, door: CallbackDoor | None, query_string: bytes, body: bytes, said: _Said) -> bytes:
        said.request = _told_in(body, said)
        said.raw = body
        connection, access_key = _opened(door)
        now = self._rt.clock()
        verified = signature_v2.verify_url_signature(query_string, body, access_key, now)
        said.authenticated_at = now
        return await self._receive(connection, callbacks.parse_v2(body), verified.nonce, said)

    async def _receive(self, connection: Connection, call: Call, nonce: str | None, said: _Said) -> bytes:
        async def keep(tx: Tx, received: Received) -> None:
            if not said.given_up:
                message = _message(said, CallbackCode.SUCCESS, received.body, received.note or said.detail)
                await keep_with_effect(tx, self._rt, message, said.fields)

        received = await receive_call(
            self._rt, connection, call, nonce=nonce, by=connection.public_id, source=SOURCE, keep=keep
        )
        said.kept = received.kept
        said.detail = received.note or said.detail
        if isinstance(call, OrderNotify):
            self._worker.wake()
        return received.body

    async def _keep(self, said: _Said, code: CallbackCode, body: bytes) -> None:
        message = _message(said, code, body, said.detail)
        try:
            if said.authenticated_at is not None or (said.door is not None and self._unproven.admit(said.received_at)):
                await keep_callback(self._rt, message, said.fields)
        except StorageError as error:  # the effect stands or falls by itself; only its record is lost
            _log.warning("message_not_kept", activity=said.activity, error=str(error))


def _message(said: _Said, code: CallbackCode, body: bytes, detail: str | None) -> Callback:
    return Callback(
        connection_id=said.door.connection.id if said.door else None,
        activity=said.activity,
        order_id=said.order_id,
        authenticated_at=said.authenticated_at,
        received_at=said.received_at,
        request=said.request,
        response=masked(msgspec.json.decode(body)),
        outcome=code,
        detail=detail,
        address=said.address,
        purpose=said.purpose,
        raw=said.raw if said.authenticated_at is not None else None,
    )


def _opened(door: CallbackDoor | None) -> tuple[Connection, str]:
    """A stranger cannot tell an unknown connection from a wrong signature."""
    if door is None:
        raise SignatureRefused("unknown connection, or one without a callback key")
    return door.connection, door.access_key


def _refusal(code: CallbackCode, message: str | None) -> tuple[CallbackCode, bytes]:
    return code, callbacks.result(code, message)


def _known(value: object) -> str:
    """A field of an unverified request, short enough to be shown in lists."""
    return value[:64].replace("\0", "") if isinstance(value, str) else ""


def _told_in(body: bytes, said: _Said) -> str:
    try:
        fields = decode_object(body)
    except ValueError:
        return f"({len(body)} bytes that are no JSON object)"
    return _told(fields, said)


def _told(fields: Mapping[str, object], said: _Said) -> str:
    """Note what the fields tell of the call; they are returned as they may be shown."""
    said.fields = fields
    said.activity, said.order_id = _known(fields.get("activity")), _known(fields.get("orderId")) or None
    said.purpose = "test" if callbacks.is_test(fields) else "live"
    return masked(fields)
