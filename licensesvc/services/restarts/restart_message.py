"""Carries a kept message out again, once an operator says so (卖家中心 > 生产接口消息, spec §2.6).

In: whether it may be, asking the marketplace first, one restart at a time, the record of it. Out: what the call does (`receive_call`),
restarting many (`restart_many`). The marketplace's own retry state is not ours to change: every answer says so.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import DomainError, InProgress, MarketplaceNotAsked, NotFound, NotRestartable
from licensesvc.domain.instants import MINUTE
from licensesvc.domain.messages import (
    ASKED_FIRST,
    IN_PROGRESS_OUTCOME,
    OVERTAKEN,
    PURCHASES,
    SUCCEEDED_OUTCOMES,
    MessageState,
)
from licensesvc.domain.order import OrderType
from licensesvc.marketplace.huawei.client import MarketplaceClient, MarketplaceUnreachable
from licensesvc.marketplace.huawei.orders import MalformedAnswer, MarketplaceRefusal
from licensesvc.services.catalog.marketplace_account import CannotAsk
from licensesvc.services.interface_messages import (
    Callback,
    Redo,
    kept_callback,
    masked,
    request_context,
    store,
)
from licensesvc.services.licenses.change_license import WithReason
from licensesvc.services.orders.notify_order import OrderQuery
from licensesvc.services.orders.query_order import ask_order
from licensesvc.services.restarts.carry_out_again import Answered, carry_out_again
from licensesvc.services.runtime import Runtime
from licensesvc.signing.vault import CannotOpen
from licensesvc.storage import audit, connections, messages, outbox
from licensesvc.storage.messages import Message
from licensesvc.storage.port import Tx

LEASE: Final = 2 * MINUTE
"""Milliseconds after which a restart that never ended, because its process did, stands in nobody's way."""
CARRY_OUT_S: Final = 10.0
"""Seconds a restart waits for its effect; a slower one is "in progress" and found by the next."""
AT_THE_MARKETPLACE: Final = (
    "the marketplace's own retries are not changed by this: restart the message there too, in the seller center under"
    " interface messages (卖家中心 > 生产接口消息)"
)
SUCCEEDED_BEFORE: Final = "it had succeeded before: carried out again, it changes nothing that is there already"
QUEUED_BEFORE: Final = "the same call waits already: it was not queued twice"

_SUCCEEDED_ALREADY: Final = frozenset({MessageState.SUCCEEDED, MessageState.RETRIED, MessageState.RESTARTED})

Result: TypeAlias = Literal["succeeded", "failed", "in_progress", "queued", "refused"]


class RestartWish(WithReason, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why a message is restarted, and what its operator takes upon themselves.

    `without_asking`: the marketplace is not asked whether the order still stands. `even_if_overtaken`: a later call of the same kind
    about the same license may be undone.
    """

    without_asking: bool = False
    even_if_overtaken: bool = False


class Restarted(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a restart: `restart` is the message that records it, null where it was queued or refused (`code` says why)."""

    message: str
    result: Result
    restart: str | None = None
    outcome: str | None = None
    code: str | None = None
    detail: str | None = None
    notes: tuple[str, ...] = ()


def why_not(message: Message) -> str | None:
    """Why a message can never be restarted; None = it may be."""
    if message.authenticated_at is None:
        return "its sender did not prove to be the marketplace"
    if message.purpose == "test":
        return "it is a test call (testFlag=1)"
    if message.restart_of is not None:
        return f"it is a restart itself: restart {message.restart_of}"
    if message.sealed_request is None or message.connection_id is None:
        return "its request was not kept"
    return None


class Restarter:
    """Restarts messages; `wake` tells the outbox worker that something was queued."""

    def __init__(self, rt: Runtime, client: MarketplaceClient, wake: Callable[[], None]) -> None:
        self.rt = rt
        self.client = client
        self.wake = wake

    async def restart(self, message_id: str, wish: RestartWish, *, by: str) -> Restarted:
        """Carry out one message again.

        Raises NotFound, NotRestartable, MarketplaceNotAsked, InProgress (another restart of it is running).
        """
        message = await self.rt.db.read(lambda tx: messages.by_public_id(tx, message_id))
        if message is None:
            raise NotFound
        content = self._opened(message)
        if message.direction == "out":
            return await self._queue_again(message, content, wish, by)
        assert message.connection_id is not None
        connection_id = message.connection_id
        connection = (await self.rt.db.read(lambda tx: connections.by_id(tx, connection_id))).connection
        if not wish.without_asking:
            await self._ask(connection, message)
        claim = self.rt.new_id(ids.MESSAGE, self.rt.clock())
        await self.rt.db.write(lambda tx: self._begin(tx, message, claim, wish, by))
        answered = await self._carried_out(connection, content, by)
        await self._end(message, claim, answered, by)
        before = (SUCCEEDED_BEFORE,) if message.state in _SUCCEEDED_ALREADY else ()
        return Restarted(
            message=message.public_id,
            result=_result(answered.outcome),
            restart=claim,
            outcome=answered.outcome,
            detail=answered.detail,
            notes=(*before, AT_THE_MARKETPLACE),
        )

    def _opened(self, message: Message) -> bytes:
        if reason := why_not(message):
            raise NotRestartable(f"{reason}: it cannot be restarted")
        assert message.sealed_request is not None
        try:
            return self.rt.vault.open(message.sealed_request, request_context(message.public_id))
        except CannotOpen:
            raise NotRestartable(
                "the vault key that its request was sealed with is gone: restart it in the marketplace"
            ) from None

    async def _ask(self, connection: Connection, message: Message) -> None:
        """Whether the order of a purchase still stands. Raises NotRestartable, MarketplaceNotAsked."""
        if message.activity not in ASKED_FIRST or message.order_id is None:
            return
        query = OrderQuery(connection=connection.public_id, order_id=message.order_id, order_line_id=None)
        try:
            order = await ask_order(self.rt, self.client, query)
        except MarketplaceRefusal as refused:
            if refused.order_unknown:
                raise NotRestartable(f"the marketplace does not know the order ({refused.result_code})") from None
            raise _not_asked(refused) from None
        except (MarketplaceUnreachable, MalformedAnswer, CannotAsk) as error:
            raise _not_asked(error) from None
        if order.order_type is OrderType.UNSUBSCRIBE and message.activity in PURCHASES:
            raise NotRestartable("the order was cancelled: the marketplace calls it UNSUBSCRIBE")

    async def _begin(self, tx: Tx, message: Message, claim: str, wish: RestartWish, by: str) -> None:
        now = self.rt.clock()
        if not await messages.claim_restart(tx, message.id, claim, now=now, lapsed=now - LEASE):
            raise InProgress("somebody restarts this message right now")
        if message.activity in OVERTAKEN and not wish.even_if_overtaken:
            later = await messages.overtaken_by(tx, message)
            if later is not None:
                raise NotRestartable(
                    f"{later} came later and said how things are now: restarting this one would undo it; say"
                    " even_if_overtaken if that is what you want"
                )
        await self._note(
            tx,
            message,
            by,
            "message.restart_begun",
            {"restart": claim, "reason": wish.reason, "asked": int(not wish.without_asking)},
        )

    async def _carried_out(self, connection: Connection, content: bytes, by: str) -> Answered:
        try:
            async with asyncio.timeout(CARRY_OUT_S):
                answered = await carry_out_again(self.rt, connection, content, by=by)
        except TimeoutError:
            return Answered(outcome=IN_PROGRESS_OUTCOME, body=b"{}", detail=f"not done in {CARRY_OUT_S} s")
        self.wake()
        return answered

    async def _end(self, message: Message, claim: str, answered: Answered, by: str) -> None:
        now = self.rt.clock()
        callback = Callback(
            connection_id=message.connection_id,
            activity=message.activity,
            order_id=message.order_id,
            authenticated_at=now,
            received_at=now,
            request=message.request,
            response=masked(msgspec.json.decode(answered.body)),
            outcome=answered.outcome,
            detail=answered.detail,
            address=None,
        )
        row = kept_callback(self.rt, callback, public_id=claim, restart_of=message.public_id)
        row = msgspec.structs.replace(row, license_id=message.license_id)

        async def end(tx: Tx) -> None:
            await messages.end_restart(tx, message.id, claim)
            await store(tx, row, now)
            await self._note(tx, message, by, "message.restarted", {"restart": claim, "outcome": answered.outcome})

        await self.rt.db.write(end)

    async def _queue_again(self, message: Message, content: bytes, wish: RestartWish, by: str) -> Restarted:
        """A call of ours goes through the outbox as it did the first time."""
        redo = msgspec.json.decode(content, type=Redo)

        async def queue(tx: Tx) -> bool:
            await messages.by_public_id(tx, message.public_id, lock=True)  # two operators at once queue it once
            if await outbox.is_waiting(tx, kind=redo.kind, subject=redo.subject, payload=redo.payload):
                return False
            await outbox.add(
                tx,
                kind=redo.kind,
                subject=redo.subject,
                payload=redo.payload,
                now=self.rt.clock(),
                restart_of=message.public_id,
            )
            await self._note(tx, message, by, "message.restart_begun", {"kind": redo.kind, "reason": wish.reason})
            return True

        queued = await self.rt.db.write(queue)
        self.wake()
        return Restarted(message=message.public_id, result="queued", notes=() if queued else (QUEUED_BEFORE,))

    async def _note(self, tx: Tx, message: Message, by: str, kind: str, detail: dict[str, str | int | None]) -> None:
        event = AuditEvent(at=self.rt.clock(), actor=by, kind=kind, subject=message.public_id, detail=detail)
        await audit.append(tx, [event])


def _not_asked(error: Exception) -> DomainError:
    return MarketplaceNotAsked(
        f"whether the order still stands is not known ({type(error).__name__}: {error}); once you know it from the"
        " marketplace yourself, say without_asking and why"
    )


def _result(outcome: str) -> Result:
    if outcome in SUCCEEDED_OUTCOMES:
        return "succeeded"
    return "in_progress" if outcome == IN_PROGRESS_OUTCOME else "failed"
