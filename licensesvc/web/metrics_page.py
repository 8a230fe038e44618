"""`/metrics`: on a port of its own and on the control socket, nowhere else.

In: who may read, and what is computed when somebody does. Out: the metrics themselves (`licensesvc.metrics`).
A reverse proxy reaches the main port from loopback, so an address proves nothing there (ADR 25).
"""

import asyncio
import time
from typing import Final

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from licensesvc.metrics import CONTENT_TYPE, Metrics
from licensesvc.services.guard.watch_delisting import DelistingWatch
from licensesvc.services.runtime import Runtime
from licensesvc.services.upkeep.measure import measure
from licensesvc.services.upkeep.readiness import Readiness
from licensesvc.storage.port import StorageError
from licensesvc.web.admin.access import CONTROL
from licensesvc.web.asgi import answer

PATH: Final = "/metrics"
FIGURES_KEPT_S: Final = 15.0
"""Counting the licenses reads a whole table: not more often than this, however many scrape."""

_log = structlog.get_logger(__name__)
_TEXT: Final = [(b"content-type", CONTENT_TYPE.encode())]


class MetricsDoor:
    """Answers `/metrics` where it may be read, passes everything else on."""

    def __init__(
        self,
        app: ASGIApp,
        rt: Runtime,
        metrics: Metrics,
        readiness: Readiness,
        port: int | None,
        guard: DelistingWatch,
    ) -> None:
        """`port` is the one that serves metrics and nothing else; None when there is none."""
        self._app = app
        self._rt = rt
        self._metrics = metrics
        self._readiness = readiness
        self._port = port
        self._guard = guard
        self._measuring = asyncio.Lock()
        self._measured_at = -FIGURES_KEPT_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Look at the socket first, at the path then."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        server = scope.get("server")
        own_port = self._port is not None and server is not None and server[1] == self._port
        if scope["path"] == PATH and (own_port or scope.get(CONTROL) is True):
            await answer(send, 200, await self._page(), _TEXT)
        elif own_port:
            await answer(send, 404, b"only /metrics is served here\n", _TEXT)
        else:
            await self._app(scope, receive, send)

    async def _page(self) -> bytes:
        async with self._measuring:
            if time.monotonic() - self._measured_at >= FIGURES_KEPT_S:
                await self._measure()
                self._measured_at = time.monotonic()
        self._metrics.guard_blind.set(self._guard.blind_seconds())
        self._metrics.write_queue.set(self._rt.db.waiting)
        self._metrics.ready.set(not await self._readiness.reasons())
        return self._metrics.text()

    async def _measure(self) -> None:
        try:
            self._metrics.disk_free.set(self._readiness.free_bytes())
            figures = await measure(self._rt)
            gauges = await self._guard.reports()
        except (
            StorageError,
            OSError,
        ) as error:  # the old figures stay; `licensesvc_ready` tells that something is wrong
            _log.warning("figures_not_measured", error=str(error))
            return
        for report in gauges:
            for gauge, reading in report.readings.items():
                self._metrics.delisting(
                    report.connection.public_id, gauge, reading.value, reading.limit, reading.level.rank
                )
        self._metrics.licenses(figures.licenses)
        self._metrics.outbox(
            waiting=figures.outbox_open, given_up=figures.outbox_given_up, age_seconds=figures.outbox_age_seconds
        )
        self._metrics.webhook_backlog(waiting=figures.webhooks_open, age_seconds=figures.webhooks_age_seconds)
        self._metrics.findings.set(figures.findings_open)
