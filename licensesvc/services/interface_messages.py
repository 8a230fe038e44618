"""Keeps interface messages (生产接口消息): every callback and every call of ours, with its outcome, secrets and people masked."""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.connection import Connection
from licensesvc.domain.instants import Instant
from licensesvc.domain.messages import SUCCEEDED_OUTCOMES
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.runtime import Runtime
from licensesvc.storage import licenses, messages
from licensesvc.storage.messages import Message, Purpose
from licensesvc.storage.port import Tx

UNAUTHENTICATED_BYTES: Final = 4 * 1024
"""Kept of a request whose sender is unproven."""
AUTHENTICATED_BYTES: Final = 64 * 1024
"""Kept of a request whose sender is proven; longer ones are refused at the door."""
MAX_NAMED: Final = 512
"""Characters of a code or an instance id by which the license of a message is looked for."""
MAX_DETAIL: Final = 500
"""Characters kept of what went wrong with a call of ours."""
MASK: Final = "***"
OK: Final = "ok"
"""The outcome of a call of ours that succeeded."""

_MASKED: Final = frozenset(
    {
        *("authToken", "signature", "license", "saasExtendParams"),
        *("customerId", "customerName", "customerRealName", "userId", "userName", "mobilePhone", "email"),
    }
)


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """A call that the marketplace, or somebody in its name, made to us."""

    connection_id: int | None
    activity: str
    order_id: str | None
    authenticated_at: Instant | None
    received_at: Instant
    request: str
    response: str
    outcome: str
    detail: str | None
    address: str | None
    purpose: Purpose = "live"
    raw: bytes | None = None
    """Query string (GET) or body (POST) as it came, where the sender is proven."""

    def __repr__(self) -> str:
        return f"Callback({self.activity})"


def request_context(public_id: str) -> str:
    """What the vault binds the request of a message to."""
    return f"message:{public_id}:request"


def masked(fields: Mapping[str, object]) -> str:
    """JSON text of parameters or of a body, with codes, signatures and personal data replaced, however deep they lie."""
    return msgspec.json.encode(_shown(fields)).decode()


def _shown(value: object) -> object:
    match value:
        case dict():
            return {name: MASK if name in _MASKED and item else _shown(item) for name, item in value.items()}
        case list():
            return [_shown(item) for item in value]
    return value


def kept_callback(rt: Runtime, callback: Callback, *, public_id: str, restart_of: str | None = None) -> Message:
    """A callback with its answer as it is stored: masked, its request sealed."""
    bound = AUTHENTICATED_BYTES if callback.authenticated_at is not None else UNAUTHENTICATED_BYTES
    return Message(
        public_id=public_id,
        connection_id=callback.connection_id,
        direction="in",
        activity=callback.activity,
        order_id=callback.order_id,
        authenticated_at=callback.authenticated_at,
        received_at=callback.received_at,
        request=callback.request.encode()[:bound].decode(errors="ignore"),
        response=callback.response,
        outcome=callback.outcome,
        detail=callback.detail,
        address=callback.address,
        duration_ms=max(0, rt.clock() - callback.received_at),
        purpose=callback.purpose,
        sealed_request=None if callback.raw is None else rt.vault.seal(callback.raw, request_context(public_id)),
        restart_of=restart_of,
    )


class NamedMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a callback, and by what its request names a license."""

    message: Message
    code_index: str | None
    instance_id: str | None


async def keep_callback(rt: Runtime, callback: Callback, fields: Mapping[str, object]) -> None:
    """Store a callback with its answer; `fields` are those of its request, as far as it could be read."""
    await rt.db.submit(store_callbacks, _named(rt, callback, fields))


async def keep_with_effect(tx: Tx, rt: Runtime, callback: Callback, fields: Mapping[str, object]) -> None:
    """As `keep_callback`, in the transaction of what the call has done."""
    await store_callbacks(tx, [_named(rt, callback, fields)])


def _named(rt: Runtime, callback: Callback, fields: Mapping[str, object]) -> NamedMessage:
    message = kept_callback(rt, callback, public_id=rt.new_id(ids.MESSAGE, rt.clock()))
    named = fields if callback.raw is not None else {}  # a stranger's message is nobody's
    code, instance_id = _text(named.get("license")), _text(named.get("instanceId"))
    index = code_index(rt, code) if code else None
    return NamedMessage(message=message, code_index=index, instance_id=instance_id)


async def store_callbacks(tx: Tx, commands: Sequence[NamedMessage]) -> Sequence[None]:
    """Hot verb: add all waiting messages, for in a storm there is one for every call."""
    await messages.insert_all(tx, [await _with_license(tx, command) for command in commands])
    return [None] * len(commands)


async def _with_license(tx: Tx, command: NamedMessage) -> Message:
    message = command.message
    if message.connection_id is None or (command.code_index is None and command.instance_id is None):
        return message
    license_id = await licenses.named_by(
        tx, message.connection_id, index=command.code_index, instance_id=command.instance_id
    )
    return msgspec.structs.replace(message, license_id=license_id)


async def store(tx: Tx, message: Message, now: Instant) -> None:
    """Add a message; the one that it restarted hears of its success in the same transaction."""
    await messages.insert(tx, message)
    if message.restart_of is not None and message.outcome in SUCCEEDED_OUTCOMES:
        await messages.mark_restarted(tx, message.restart_of, now)


def is_body(raw: bytes) -> bool:
    """Whether a kept request is the JSON body of a POST; else it is the query string of a GET."""
    return raw.lstrip().startswith(b"{")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAMED and "\0" not in value else None


class Redo(msgspec.Struct, frozen=True, kw_only=True):
    """The work of the outbox that carries a call of ours out again."""

    kind: str
    subject: str
    payload: str

    def __repr__(self) -> str:
        return f"Redo({self.kind})"


class OutboundCall:
    """Around one call of ours: stores it as a message whether it succeeds or raises.

    `request` (only the order's id unless told) and what `answered` is told are kept masked; with `redo` an operator may restart it.
    """

    def __init__(
        self,
        rt: Runtime,
        connection: Connection,
        *,
        activity: str,
        order_id: str | None = None,
        license_id: int | None = None,
        request: Mapping[str, object] | None = None,
        redo: Redo | None = None,
        restart_of: str | None = None,
    ) -> None:
        self._rt = rt
        self._redo = redo
        self._started = now = rt.clock()
        self._message = Message(
            public_id=rt.new_id(ids.MESSAGE, now),
            connection_id=connection.id,
            direction="out",
            activity=activity,
            order_id=order_id,
            authenticated_at=now,
            received_at=now,
            request=_bounded(masked({"orderId": order_id} if request is None else request)),
            response="",
            outcome=OK,
            detail=None,
            address=None,
            duration_ms=0,
            restart_of=restart_of,
            license_id=license_id,
        )

    def answered(self, response: Mapping[str, object]) -> None:
        """Keep what was answered."""
        self._message = msgspec.structs.replace(self._message, response=_bounded(masked(response)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            return
        now = self._rt.clock()
        message = msgspec.structs.replace(
            self._message,
            outcome=OK if error is None else type(error).__name__,
            detail=str(error)[:MAX_DETAIL] if error is not None else None,
            duration_ms=max(0, now - self._started),
            sealed_request=self._sealed(),
        )
        await self._rt.db.write(lambda tx: store(tx, message, now))

    def _sealed(self) -> bytes | None:
        if self._redo is None:
            return None
        return self._rt.vault.seal(msgspec.json.encode(self._redo), request_context(self._message.public_id))


def _bounded(text: str) -> str:
    return text.encode()[:AUTHENTICATED_BYTES].decode(errors="ignore")
