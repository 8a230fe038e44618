"""Keeps interface messages (生产接口消息): every callback and every call of ours, with its outcome, secrets and people masked."""

from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.connection import Connection
from licensesvc.domain.instants import Instant
from licensesvc.services.runtime import Runtime
from licensesvc.storage import messages
from licensesvc.storage.messages import Message, Purpose

UNAUTHENTICATED_BYTES: Final = 4 * 1024
"""Kept of a request whose sender is unproven."""
AUTHENTICATED_BYTES: Final = 64 * 1024
"""Kept of a request whose sender is proven; longer ones are refused at the door."""
MASK: Final = "***"

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


async def keep_callback(rt: Runtime, callback: Callback) -> None:
    """Store a callback with its answer."""
    now = rt.clock()
    bound = AUTHENTICATED_BYTES if callback.authenticated_at is not None else UNAUTHENTICATED_BYTES
    public_id = rt.new_id(ids.MESSAGE, now)
    message = Message(
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
        duration_ms=max(0, now - callback.received_at),
        purpose=callback.purpose,
        sealed_request=None if callback.raw is None else rt.vault.seal(callback.raw, request_context(public_id)),
    )
    await rt.db.write(lambda tx: messages.insert(tx, message))


class OutboundCall:
    """Around one call of ours: stores it as a message whether it succeeds or raises."""

    def __init__(self, rt: Runtime, connection: Connection, *, activity: str, order_id: str | None) -> None:
        self._rt = rt
        self._connection = connection
        self._activity = activity
        self._order_id = order_id
        self._started = rt.clock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception):
            return
        now = self._rt.clock()
        message = Message(
            public_id=self._rt.new_id(ids.MESSAGE, now),
            connection_id=self._connection.id,
            direction="out",
            activity=self._activity,
            order_id=self._order_id,
            authenticated_at=now,
            received_at=self._started,
            request=masked({"orderId": self._order_id}) if self._order_id is not None else "{}",
            response="",
            outcome="ok" if error is None else type(error).__name__,
            detail=str(error) if error is not None else None,
            address=None,
            duration_ms=max(0, now - self._started),
        )
        await self._rt.db.write(lambda tx: messages.insert(tx, message))
