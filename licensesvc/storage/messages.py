"""Rows of `messages`, `nonces` and `idempotency_keys`: what was said, and what must not be said twice."""

from typing import Literal, TypeAlias

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

UNAUTHENTICATED_KEPT = 1_000
"""Messages without proof of their sender that are kept, the newest."""

_MESSAGE = (
    "id, public_id, connection_id, direction, activity, order_id, authenticated_at, received_at,"
    " request, response, outcome, detail, address, duration_ms, purpose, sealed_request, restart_of"
)


Purpose: TypeAlias = Literal["live", "test"]
"""Whether a message is the business itself or a debug case (testFlag=1)."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One interface message (生产接口消息): a callback or an outbound call with its outcome, secrets masked.

    `sealed_request` is the request as it came (query string or body), for a restart; None where its sender is unproven.
    `restart_of` is the public id of the message that an operator restarted.
    """

    id: int = 0
    public_id: str
    connection_id: int | None
    direction: str
    activity: str
    order_id: str | None
    authenticated_at: Instant | None
    received_at: Instant
    request: str
    response: str
    outcome: str
    detail: str | None
    address: str | None
    duration_ms: int
    purpose: Purpose = "live"
    sealed_request: bytes | None = None
    restart_of: str | None = None

    def __repr__(self) -> str:
        return f"Message({self.public_id})"


def _message(row: Row) -> Message:
    return Message(
        id=row["id"],
        public_id=row["public_id"],
        connection_id=row["connection_id"],
        direction=row["direction"],
        activity=row["activity"],
        order_id=row["order_id"],
        authenticated_at=row["authenticated_at"],
        received_at=row["received_at"],
        request=row["request"],
        response=row["response"],
        outcome=row["outcome"],
        detail=row["detail"],
        address=row["address"],
        duration_ms=row["duration_ms"],
        purpose=row["purpose"],
        sealed_request=row["sealed_request"],
        restart_of=row["restart_of"],
    )


async def insert(tx: Tx, message: Message) -> None:
    """Add a message; of those whose sender is unproven only the newest are kept."""
    await tx.run(
        "INSERT INTO messages (public_id, connection_id, direction, activity, order_id, authenticated_at, received_at,"
        " request, response, outcome, detail, address, duration_ms, purpose, sealed_request, restart_of)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)",
        message.public_id,
        message.connection_id,
        message.direction,
        message.activity,
        message.order_id,
        message.authenticated_at,
        message.received_at,
        message.request,
        message.response,
        message.outcome,
        message.detail,
        message.address,
        message.duration_ms,
        message.purpose,
        message.sealed_request,
        message.restart_of,
    )
    if message.authenticated_at is None:
        await tx.run(
            "DELETE FROM messages WHERE authenticated_at IS NULL AND id <= (SELECT id FROM messages"
            " WHERE authenticated_at IS NULL ORDER BY id DESC LIMIT 1 OFFSET $1)",
            UNAUTHENTICATED_KEPT,
        )


async def page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[Message]:
    """Up to `limit` messages with an internal id above `after`, ascending; conditions name `m`."""
    rows = await tx.all(
        f"SELECT {_MESSAGE} FROM messages m WHERE id > $1{where.sql(3)} ORDER BY id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [_message(row) for row in rows]


async def use_nonce(tx: Tx, connection_id: int, nonce: str, *, now: Instant, expires_at: Instant) -> bool:
    """Remember a nonce with the effect that it allowed; False = it was used before."""
    await tx.run("DELETE FROM nonces WHERE expires_at < $1", now)
    added = await tx.run(
        "INSERT INTO nonces (connection_id, nonce, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        connection_id,
        nonce,
        expires_at,
    )
    return added == 1


class KeptAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer that an idempotency key stands for; `response` is sealed."""

    request_hash: str
    status: int
    response: bytes


async def kept_answer(tx: Tx, scope: str, key: str, *, forget_before: Instant) -> KeptAnswer | None:
    """Find the answer that was given under this key; answers older than `forget_before` are dropped first."""
    await tx.run("DELETE FROM idempotency_keys WHERE created_at < $1", forget_before)
    row = await tx.one(
        "SELECT request_hash, status, response FROM idempotency_keys WHERE scope = $1 AND idempotency_key = $2",
        scope,
        key,
    )
    if row is None:
        return None
    return KeptAnswer(request_hash=row["request_hash"], status=row["status"], response=row["response"])


async def keep_answer(tx: Tx, scope: str, key: str, answer: KeptAnswer, now: Instant) -> None:
    """Keep an answer under its key."""
    await tx.run(
        "INSERT INTO idempotency_keys (scope, idempotency_key, request_hash, status, response, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6)",
        scope,
        key,
        answer.request_hash,
        answer.status,
        answer.response,
        now,
    )
