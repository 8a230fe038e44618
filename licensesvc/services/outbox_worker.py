"""Carries out what transactions left in the outbox, and tries again what failed, until its window is over."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from licensesvc.domain import retry
from licensesvc.domain.errors import DomainError
from licensesvc.domain.instants import SECOND
from licensesvc.marketplace.huawei.breaker import BreakerOpen
from licensesvc.marketplace.huawei.client import MarketplaceClient, MarketplaceUnreachable
from licensesvc.marketplace.huawei.orders import MalformedAnswer, MarketplaceRefusal
from licensesvc.outbound.client import OutboundClient
from licensesvc.services.catalog.marketplace_account import CannotAsk
from licensesvc.services.guard import raise_alerts
from licensesvc.services.guard.send_alerts import AlertDelayed, carriers, send_alert
from licensesvc.services.mail import mail_code, mail_link
from licensesvc.services.mail.mailer import MailDelayed, Mailer, Undeliverable
from licensesvc.services.orders.notify_order import OUTBOX_KIND
from licensesvc.services.orders.query_order import decode_query, query_order
from licensesvc.services.relay import relay_usage
from licensesvc.services.runtime import Runtime
from licensesvc.storage import outbox
from licensesvc.storage.outbox import OutboxItem
from licensesvc.storage.port import StorageError

ITEMS_AT_ONCE: Final = 8
"""Items carried out at the same time."""
LONGEST_SLEEP_S: Final = 5.0
"""Another process may have added work that nobody here was told of."""
BUSY_SLEEP_S: Final = 1.0
"""How long to wait for more work while some is under way; the end of any of it is noticed at once."""
_ERROR_CHARACTERS: Final = 500

_log = structlog.get_logger(__name__)

_EXPECTED: Final = (
    DomainError,
    StorageError,
    CannotAsk,
    MarketplaceUnreachable,
    BreakerOpen,
    MarketplaceRefusal,
    MalformedAnswer,
    MailDelayed,
    Undeliverable,
    AlertDelayed,
)
_SCHEDULES: Final = {
    mail_code.OUTBOX_KIND: retry.MAIL,
    mail_link.OUTBOX_KIND: retry.MAIL,
    relay_usage.OUTBOX_KIND: retry.RELAY_USAGE,
    raise_alerts.OUTBOX_KIND: retry.ALERT,
}
"""How to try again what is not the asking for orders."""


class OutboxWorker:
    """Works off the outbox in the background; `wake` tells it that something was added."""

    def __init__(
        self,
        rt: Runtime,
        client: MarketplaceClient,
        mailer: Mailer | None = None,
        outbound: OutboundClient | None = None,
        public_url: str = "",
    ) -> None:
        self._rt = rt
        reporter = relay_usage.UsageReporter(rt, client)
        channels = carriers(rt, mailer, outbound)
        self._handlers: dict[str, Callable[[OutboxItem], Awaitable[None]]] = {
            OUTBOX_KIND: lambda item: query_order(rt, client, decode_query(item.payload), restart_of=item.restart_of),
            mail_code.OUTBOX_KIND: lambda item: mail_code.send_code(rt, mailer, item),
            mail_link.OUTBOX_KIND: lambda item: mail_link.send_link(rt, mailer, public_url, item),
            relay_usage.OUTBOX_KIND: lambda item: reporter.report(item.subject),
            raise_alerts.OUTBOX_KIND: lambda item: send_alert(rt, channels, item),
        }
        self._added = asyncio.Event()
        self._under_way: dict[asyncio.Task[None], str] = {}
        self._lost_database = False

    def wake(self) -> None:
        """Look at the outbox now."""
        self._added.set()

    async def run(self) -> None:
        """Work until cancelled; a database that is away is asked again. What takes long holds up nothing but its own subject."""
        try:
            while True:
                self._added.clear()
                pause = await self._start_or_wait()
                if pause > 0:
                    try:
                        async with asyncio.timeout(pause):
                            await self._added.wait()
                    except TimeoutError:
                        continue
        finally:
            tasks = list(self._under_way)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _start_or_wait(self) -> float:
        """Start what is due and return how long to wait before there may be more (s)."""
        if self._lost_database:
            self._lost_database = False
            return LONGEST_SLEEP_S
        try:
            if await self._start_due():
                return 0.0
            return BUSY_SLEEP_S if self._under_way else await self._seconds_to_next()
        except StorageError as lost:
            _log.warning("outbox_waits_for_database", error=str(lost))
            return LONGEST_SLEEP_S

    async def _start_due(self) -> int:
        """Start as many items as there are places, one for each subject; return how many."""
        free = ITEMS_AT_ONCE - len(self._under_way)
        if free <= 0:
            return 0
        now, busy = self._rt.clock(), sorted(self._under_way.values())
        items = await self._rt.db.read(lambda tx: outbox.due(tx, now=now, limit=free, besides=busy))
        fresh = {outbox.subject_key(item): item for item in reversed(items)}
        for key, item in fresh.items():
            task = asyncio.create_task(self._carry_out(item), name=f"outbox {item.id}")
            self._under_way[task] = key
            task.add_done_callback(self._finished)
        return len(fresh)

    def _finished(self, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._lost_database = True
            _log.warning("outbox_waits_for_database", error=str(error))
        self._added.set()

    async def work_once(self) -> int:
        """Carry out what is due, a handful at once, and wait for it; return how many items were tried."""
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
