"""Carries out what transactions left in the outbox, and tries again what failed, until its window is over."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from licensesvc.domain import retry
from licensesvc.domain.errors import DomainError
from licensesvc.domain.instants import SECOND
from licensesvc.marketplace.huawei.client import MarketplaceClient, MarketplaceUnreachable
from licensesvc.marketplace.huawei.orders import MalformedAnswer, MarketplaceRefusal
from licensesvc.services import mail_code, raise_alerts
from licensesvc.services.mailer import MailDelayed, Mailer, Undeliverable
from licensesvc.services.notify_order import OUTBOX_KIND
from licensesvc.services.query_order import CannotAsk, decode_query, query_order
from licensesvc.services.runtime import Runtime
from licensesvc.services.send_alerts import AlertDelayed, carriers, send_alert
from licensesvc.storage import outbox
from licensesvc.storage.outbox import OutboxItem
from licensesvc.storage.port import StorageError

ITEMS_AT_ONCE: Final = 8
"""Items carried out at the same time."""
LONGEST_SLEEP_S: Final = 5.0
"""Another process may have added work that nobody here was told of."""
_ERROR_CHARACTERS: Final = 500

_log = structlog.get_logger(__name__)

_EXPECTED: Final = (
    DomainError,
    StorageError,
    CannotAsk,
    MarketplaceUnreachable,
    MarketplaceRefusal,
    MalformedAnswer,
    MailDelayed,
    Undeliverable,
    AlertDelayed,
)
_SCHEDULES: Final = {mail_code.OUTBOX_KIND: retry.MAIL, raise_alerts.OUTBOX_KIND: retry.ALERT}
"""How to try again what is not the asking for orders."""


class OutboxWorker:
    """Works off the outbox in the background; `wake` tells it that something was added."""

    def __init__(self, rt: Runtime, client: MarketplaceClient, mailer: Mailer | None = None) -> None:
        self._rt = rt
        channels = carriers(mailer)
        self._handlers: dict[str, Callable[[OutboxItem], Awaitable[None]]] = {
            OUTBOX_KIND: lambda item: query_order(rt, client, decode_query(item.payload)),
            mail_code.OUTBOX_KIND: lambda item: mail_code.send_code(rt, mailer, item),
            raise_alerts.OUTBOX_KIND: lambda item: send_alert(rt, channels, item),
        }
        self._added = asyncio.Event()

    def wake(self) -> None:
        """Look at the outbox now."""
        self._added.set()

    async def run(self) -> None:
        """Work until cancelled; a database that is away is asked again."""
        while True:
            self._added.clear()
            try:
                worked = await self.work_once()
                pause = 0.0 if worked else await self._seconds_to_next()
            except* StorageError as lost:  # alone, or in a group where the work itself met it
                _log.warning("outbox_waits_for_database", error=str(lost.exceptions[0]))
                pause = LONGEST_SLEEP_S
            if pause > 0:
                try:
                    async with asyncio.timeout(pause):
                        await self._added.wait()
                except TimeoutError:
                    continue

    async def work_once(self) -> int:
        """Carry out what is due, a handful at once; return how many items were tried."""
        now = self._rt.clock()
        items = await self._rt.db.read(lambda tx: outbox.due(tx, now=now, limit=ITEMS_AT_ONCE))
        async with asyncio.TaskGroup() as group:
            for item in items:
                group.create_task(self._carry_out(item))
        return len(items)

    async def _seconds_to_next(self) -> float:
        due_at = await self._rt.db.read(outbox.next_due)
        if due_at is None:
            return LONGEST_SLEEP_S
        return min(max(due_at - self._rt.clock(), 0) / SECOND, LONGEST_SLEEP_S)

    async def _carry_out(self, item: OutboxItem) -> None:
        try:
            await self._handlers[item.kind](item)
        except _EXPECTED as error:
            await self._failed(item, f"{type(error).__name__}: {error}", final=isinstance(error, Undeliverable))
        except Exception as error:  # noqa: BLE001 - one bad item must not stop the others
            _log.exception("outbox_item_failed", kind=item.kind, item=item.id)
            await self._failed(item, type(error).__name__)
        else:
            await self._rt.db.write(lambda tx: outbox.done(tx, item.id, self._rt.clock()))

    async def _failed(self, item: OutboxItem, error: str, *, final: bool = False) -> None:
        now = self._rt.clock()
        jitter = int.from_bytes(self._rt.entropy(4)) / 2**32
        schedule = _SCHEDULES.get(item.kind, retry.ORDER_QUERY)
        due_at = None if final else schedule.next_attempt(item.first_tried_at or now, now, item.attempts + 1, jitter)
        text = error[:_ERROR_CHARACTERS]
        if due_at is None:
            _log.error("outbox_item_given_up", kind=item.kind, item=item.id, error=text)
            await self._rt.db.write(lambda tx: outbox.give_up(tx, item.id, now=now, error=text))
        else:
            await self._rt.db.write(lambda tx: outbox.again(tx, item.id, tried_at=now, due_at=due_at, error=text))
