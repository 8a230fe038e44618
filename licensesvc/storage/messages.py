"""Rows of `messages`, `nonces` and `idempotency_keys`: what was said, and what must not be said twice."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal, TypeAlias

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.messages import IN_PROGRESS_OUTCOME, SUCCEEDED_OUTCOMES, MessageState
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

UNAUTHENTICATED_KEPT = 1_000
"""Messages without proof of their sender that are kept, the newest."""

NEWEST_FIRST: Final = 2**63 - 1
"""Where a list of messages begins that starts with the newest."""

NOT_SUCCEEDED: Final = f"m.outcome NOT IN {SUCCEEDED_OUTCOMES}"  # word for word as in the partial index
_LATER: Final = (
    "EXISTS (SELECT 1 FROM messages n WHERE n.order_id = m.order_id AND n.id > m.id"
    " AND n.connection_id = m.connection_id AND n.direction = m.direction AND n.activity = m.activity"
    f" AND n.purpose = m.purpose AND NOT {NOT_SUCCEEDED.replace('m.', 'n.')})"
)
_OPEN: Final = f"{NOT_SUCCEEDED} AND m.authenticated_at IS NOT NULL AND m.restarted_at IS NULL"
STATES: Final[Mapping[MessageState, str]] = {
    MessageState.SUCCEEDED: f"NOT {NOT_SUCCEEDED}",
    MessageState.UNPROVEN: f"{NOT_SUCCEEDED} AND m.authenticated_at IS NULL",
    MessageState.RESTARTED: f"{NOT_SUCCEEDED} AND m.authenticated_at IS NOT NULL AND m.restarted_at IS NOT NULL",
    MessageState.RETRIED: f"{_OPEN} AND {_LATER}",
    MessageState.IN_PROGRESS: f"{_OPEN} AND m.outcome = '{IN_PROGRESS_OUTCOME}' AND NOT {_LATER}",
    MessageState.FAILED: f"{_OPEN} AND m.outcome <> '{IN_PROGRESS_OUTCOME}' AND NOT {_LATER}",
}
"""The condition of each state on a message `m`; exactly one holds."""
ABOUT_LICENSE: Final = (
    "m.id IN (SELECT n.id FROM licenses l JOIN messages n"
    " ON n.license_id = l.id OR (n.order_id = l.order_id AND n.connection_id = l.connection_id) WHERE l.public_id = {})"
)
"""The condition that a message is about a license: it named the license, or the order that bought it."""

_MESSAGE = (
    "m.id, m.public_id, m.connection_id, m.direction, m.activity, m.order_id, m.authenticated_at, m.received_at,"
    " m.request, m.response, m.outcome, m.detail, m.address, m.duration_ms, m.purpose, m.sealed_request, m.restart_of,"
    " m.license_id, m.restarted_at, CASE "
    + " ".join(f"WHEN {condition} THEN '{state}'" for state, condition in STATES.items())
    + " END AS state"
)


Purpose: TypeAlias = Literal["live", "test"]
"""Whether a message is the business itself or a debug case (testFlag=1)."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One interface message (生产接口消息): a callback or an outbound call with its outcome, secrets masked.

    `sealed_request` is the request as it came (query string or body), for a restart; None where its sender is unproven.
    `restart_of` is the public id of the message that an operator restarted. `restarted_at` and `state` are read, never inserted.
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
    license_id: int | None = None
    restarted_at: Instant | None = None
    state: MessageState = MessageState.SUCCEEDED

    def __repr__(self) -> str:
        return f"Message({self.public_id})"


_STORED: Final = (
    "public_id", "connection_id", "direction", "activity", "order_id", "authenticated_at", "received_at", "request", "response",
    "outcome", "detail", "address", "duration_ms", "purpose", "sealed_request", "restart_of", "license_id",
)  # fmt: skip


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
        license_id=row["license_id"],
        restarted_at=row["restarted_at"],
        state=MessageState(row["state"]),
    )


async def insert(tx: Tx, message: Message) -> None:
    """Add a message; of those whose sender is unproven only the newest are kept."""
    await insert_all(tx, [message])


async def insert_all(tx: Tx, new: Sequence[Message]) -> None:
    """Add messages, in order; of those whose sender is unproven only the newest are kept."""
    markers = ", ".join(f"${number}" for number in range(1, len(_STORED) + 1))
    await tx.many(
        f"INSERT INTO messages ({', '.join(_STORED)}) VALUES ({markers})",
        [tuple(getattr(message, name) for name in _STORED) for message in new],
    )
    if any(message.authenticated_at is None for message in new):
        await tx.run(
            "DELETE FROM messages WHERE authenticated_at IS NULL AND id <= (SELECT id FROM messages"
            " WHERE authenticated_at IS NULL ORDER BY id DESC LIMIT 1 OFFSET $1)",
            UNAUTHENTICATED_KEPT,
        )


async def page(
    tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING, newest_first: bool = False
) -> list[Message]:
    """Up to `limit` messages with an internal id above `after`, ascending, or below it, descending; conditions name `m`."""
    beyond, order = ("m.id < $1", "m.id DESC") if newest_first else ("m.id > $1", "m.id")
    rows = await tx.all(
        f"SELECT {_MESSAGE} FROM messages m WHERE {beyond}{where.sql(3)} ORDER BY {order} LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [_message(row) for row in rows]


async def by_public_id(tx: Tx, public_id: str, *, lock: bool = False) -> Message | None:
    """Find a message by its id; `lock` keeps it until the commit."""
    row = await tx.one(
        f"SELECT {_MESSAGE} FROM messages m WHERE m.public_id = $1" + (" @lock(m)" if lock else ""), public_id
    )
    return _message(row) if row else None


async def in_order(tx: Tx, public_ids: Collection[str]) -> list[str]:
    """Those of these ids that name a message, as the messages came."""
    rows = await tx.all("SELECT public_id FROM messages WHERE public_id IN @list($1) ORDER BY id", sorted(public_ids))
    return [row["public_id"] for row in rows]


async def restarts_of(tx: Tx, public_ids: Collection[str]) -> dict[str, list[str]]:
    """The ids of the restarts of each of these messages, the oldest first."""
    rows = await tx.all(
        "SELECT public_id, restart_of FROM messages WHERE restart_of IN @list($1) ORDER BY id", sorted(public_ids)
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["restart_of"], []).append(row["public_id"])
    return found


async def overtaken_by(tx: Tx, message: Message) -> str | None:
    """The id of a later message, no restart of this one, with the same activity about the same license that succeeded."""
    if message.license_id is None:
        return None
    row = await tx.one(
        "SELECT m.public_id FROM messages m WHERE m.license_id = $1 AND m.id > $2 AND m.activity = $3"
        f" AND m.purpose = 'live' AND m.direction = 'in' AND NOT {NOT_SUCCEEDED}"
        " AND (m.restart_of IS NULL OR m.restart_of <> $4) ORDER BY m.id DESC LIMIT 1",
        message.license_id,
        message.id,
        message.activity,
        message.public_id,
    )
    return row["public_id"] if row else None


async def claim_restart(tx: Tx, message_id: int, claim: str, *, now: Instant, lapsed: Instant) -> bool:
    """Begin a restart unless another one holds a claim that was made after `lapsed`."""
    claimed = await tx.run(
        "UPDATE messages SET restart_claim = $2, restart_claimed_at = $3"
        " WHERE id = $1 AND (restart_claim IS NULL OR restart_claimed_at < $4)",
        message_id,
        claim,
        now,
        lapsed,
    )
    return claimed == 1


async def end_restart(tx: Tx, message_id: int, claim: str) -> bool:
    """Give a claim back; False = it had lapsed and somebody else took it."""
    ended = await tx.run(
        "UPDATE messages SET restart_claim = NULL, restart_claimed_at = NULL WHERE id = $1 AND restart_claim = $2",
        message_id,
        claim,
    )
    return ended == 1


async def mark_restarted(tx: Tx, public_id: str, now: Instant) -> None:
    """Record that a restart of a message succeeded."""
    await tx.run("UPDATE messages SET restarted_at = $2 WHERE public_id = $1", public_id, now)


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
