"""Keeps webhooks going: one feeder, and for each endpoint a worker of its own, so that none waits for another one's receiver.

In: tasks, waking, bounds. Out: what a pass and an attempt do (`feed_webhooks`, `send_webhook`). Nothing here is awaited by a request.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from licensesvc.domain.webhook_attempts import Outcome
from licensesvc.outbound.client import OutboundClient
from licensesvc.services.runtime import Runtime
from licensesvc.services.webhooks import send_webhook
from licensesvc.services.webhooks.feed_webhooks import Pass, feed_webhooks
from licensesvc.services.webhooks.send_webhook import Finished, Work
from licensesvc.signing.vault import CannotOpen
from licensesvc.storage.port import StorageError
from licensesvc.storage.webhook_deliveries import StoredDelivery

CALLS_AT_ONCE: Final = 4
"""Calls under way to one endpoint from this process, each about another subject."""
EVERY_S: Final = 1.0
"""How often the chains are looked at; `wake` does not wait for it."""
LONGEST_SLEEP_S: Final = 5.0
"""After a database that does not answer."""

_log = structlog.get_logger(__name__)


class WebhookDispatcher:
    """Tells endpoints of events in the background. `on_attempt` is told `delivered`, `failed` or `given_up` after each attempt."""

    def __init__(
        self,
        rt: Runtime,
        client: OutboundClient,
        *,
        failing_days: int,
        on_attempt: Callable[[str], None] | None = None,
    ) -> None:
        self._rt = rt
        self._client = client
        self._failing_days = failing_days
        self._on_attempt = on_attempt
        self._workers: dict[int, tuple[_EndpointWorker, asyncio.Task[None]]] = {}
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look at the chains now."""
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled; a database that is away is asked again."""
        async with self._client:
            try:
                while True:
                    self._woken.clear()
                    await self._wait(await self._pass())
            finally:
                await self._stop(list(self._workers))

    async def _pass(self) -> float:
        """One look: feed, keep a worker for each endpoint, wake those with work; return how long to wait (s)."""
        try:
            seen = await feed_webhooks(self._rt)
        except StorageError as lost:
            _log.warning("webhooks_wait_for_database", error=str(lost))
            return LONGEST_SLEEP_S
        except Exception:  # noqa: BLE001 - the look is repeated: no event is passed over
            _log.exception("webhook_feed_failed")
            return LONGEST_SLEEP_S
        await self._keep_workers(seen)
        return 0.0 if seen.more else EVERY_S

    async def _keep_workers(self, seen: Pass) -> None:
        ended = [key for key, (_, task) in self._workers.items() if key not in seen.live or task.done()]
        await self._stop(ended)
        for key in seen.live:
            if key not in self._workers:
                worker = _EndpointWorker(self, key)
                self._workers[key] = worker, asyncio.create_task(worker.run(), name=f"webhooks-{key}")
        for key in seen.due:
            self._workers[key][0].wake()

    async def _stop(self, keys: list[int]) -> None:
        tasks = [self._workers.pop(key)[1] for key in keys]
        for task in tasks:
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                _log.error("webhook_worker_stopped", exc_info=outcome)

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._woken.wait()
            except TimeoutError:
                return

    async def claim(self, endpoint_id: int, limit: int) -> Work | None:
        """What to send to an endpoint now."""
        return await send_webhook.claim(self._rt, endpoint_id, limit)

    async def deliver(self, work: Work, delivery: StoredDelivery) -> None:
        """Make one attempt and write it down; what cannot be written is made again when the lease is over."""
        attempt, verdict = await send_webhook.attempt(self._rt, self._client, work, delivery)
        done = Finished(
            delivery=delivery,
            attempt=attempt,
            verdict=verdict,
            now=self._rt.clock(),
            failing_days=self._failing_days,
        )
        try:
            counts = await self._rt.db.submit(send_webhook.record, done)
        except StorageError as lost:
            _log.warning("webhook_attempt_not_recorded", delivery=delivery.public_id, error=str(lost))
            return
        if counts and self._on_attempt:
            self._on_attempt("failed" if verdict.outcome is None else verdict.outcome.value)
        if verdict.outcome is Outcome.GIVEN_UP:
            _log.error("webhook_given_up", delivery=delivery.public_id, type=delivery.type)


class _EndpointWorker:
    """Sends what is due to one endpoint, a few subjects at a time, until it is cancelled."""

    def __init__(self, dispatcher: WebhookDispatcher, endpoint_id: int) -> None:
        self._dispatcher = dispatcher
        self._endpoint_id = endpoint_id
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def run(self) -> None:
        calls: set[asyncio.Task[None]] = set()
        waking: asyncio.Task[bool] | None = None
        try:
            while True:
                self._woken.clear()
                if len(calls) < CALLS_AT_ONCE:
                    calls |= await self._begin(CALLS_AT_ONCE - len(calls))
                if len(calls) < CALLS_AT_ONCE:  # else only a call that ends makes room
                    waking = asyncio.create_task(self._woken.wait())
                ended, _ = await asyncio.wait(
                    {*calls, *([waking] if waking else [])}, return_when=asyncio.FIRST_COMPLETED
                )
                if waking:
                    waking.cancel()
                    waking = None
                for call in calls & ended:
                    call.result()
                calls -= ended
        finally:
            left = [task for task in (*calls, waking) if task]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _begin(self, limit: int) -> set[asyncio.Task[None]]:
        try:
            work = await self._dispatcher.claim(self._endpoint_id, limit)
        except StorageError as lost:
            _log.warning("webhooks_wait_for_database", error=str(lost))
            return set()  # the next look wakes this worker again
        except CannotOpen as error:
            _log.error("webhook_secret_does_not_open", error=str(error))
            return set()
        if work is None:
            return set()
        return {asyncio.create_task(self._dispatcher.deliver(work, delivery)) for delivery in work.deliveries}
