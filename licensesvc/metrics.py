"""What a running server counts and times, in a registry of its own, in the text format that Prometheus scrapes.

In: the metrics, and cheap ways to record into them. Out: who records (edges, writer, signer through callbacks), who may read (`web/metrics_page`).

No label holds what a caller chose: routes are templates, methods those of HTTP, statuses our own.
"""

import platform
import sqlite3
from collections.abc import Mapping
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from licensesvc import __version__

CONTENT_TYPE: Final = prometheus_client.CONTENT_TYPE_PLAIN_0_0_4
UNMATCHED: Final = "(none)"
"""The route of a request that no route matched."""
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Any other is the client's invention."""

_REQUEST_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_WRITE_S: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)
_SIGN_S: Final = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025)
_COMMANDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series that nobody reads


class Metrics:
    """The metrics of one process; make one, hand its methods to whoever knows."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Histogram(
            "licensesvc_http_request_duration_seconds",
            "Requests by route template, from the first byte of the head to the end of the answer; status is `none` when the client left.",
            ["method", "route", "status"],
            buckets=_REQUEST_S,
            registry=registry,
        )
        self._by_request: dict[tuple[str, str, int | None], Histogram] = {}
        self.in_flight = 0  # counted on every request: a plain number costs a tenth of a metric
        Gauge("licensesvc_http_requests_in_flight", "Requests being served.", registry=registry).set_function(
            lambda: self.in_flight
        )
        self._batch = Histogram(
            "licensesvc_write_batch_commands", "Commands in one commit.", buckets=_COMMANDS, registry=registry
        )
        self._wait = Histogram(
            "licensesvc_write_wait_seconds",
            "Longest time that a command of a commit waited for its turn.",
            buckets=_WRITE_S,
            registry=registry,
        )
        self._commit = Histogram(
            "licensesvc_write_commit_seconds", "Duration of COMMIT.", buckets=_WRITE_S, registry=registry
        )
        self.write_queue = Gauge("licensesvc_write_queue_length", "Commands waiting for the writer.", registry=registry)
        signing = Histogram(
            "licensesvc_signing_seconds",
            "Duration of one Ed25519 signature of a license or receipt.",
            buckets=_SIGN_S,
            registry=registry,
        )
        self.signed = signing.observe
        self._licenses = Gauge("licensesvc_licenses", "Licenses by stored state.", ["state"], registry=registry)
        self._outbox = Gauge(
            "licensesvc_outbox_items",
            "Items of the outbox that are open or were given up.",
            ["state"],
            registry=registry,
        )
        self._outbox_age = Gauge(
            "licensesvc_outbox_age_seconds", "Age of the oldest open item of the outbox.", registry=registry
        )
        of_gauge = ["connection", "gauge"]
        self._delisting = Gauge(
            "licensesvc_delisting_value",
            "Gauges of the delisting guard; counts are lower bounds of the marketplace's, NaN where a gauge does not apply.",
            of_gauge,
            registry=registry,
        )
        self._delisting_limit = Gauge(
            "licensesvc_delisting_limit", "The marketplace's limit of a gauge.", of_gauge, registry=registry
        )
        self._delisting_level = Gauge(
            "licensesvc_delisting_level",
            "0 when a gauge is well, 1 for a warning, 2 when it is critical.",
            of_gauge,
            registry=registry,
        )
        self.guard_blind = Gauge(
            "licensesvc_delisting_blind_seconds",
            "Since when the delisting guard of this process has not looked after its alerts.",
            registry=registry,
        )
        self._webhooks = Counter(
            "licensesvc_webhook_attempts",
            "Attempts to deliver a webhook message: delivered, failed (and tried again), given_up.",
            ["outcome"],
            registry=registry,
        )
        self._webhooks_open = Gauge(
            "licensesvc_webhook_backlog_messages",
            "Webhook messages that enabled endpoints wait for.",
            registry=registry,
        )
        self._webhooks_age = Gauge(
            "licensesvc_webhook_backlog_age_seconds",
            "Age of the oldest of them, 0 when there is none.",
            registry=registry,
        )
        self.findings = Gauge(
            "licensesvc_reconciliation_findings",
            "Differences between our orders and the marketplace's that nobody has settled.",
            registry=registry,
        )
        self.ready = Gauge("licensesvc_ready", "1 when `/readyz` would answer 200, else 0.", registry=registry)
        self.disk_free = Gauge(
            "licensesvc_disk_free_bytes", "Free bytes on the file system of the data directory.", registry=registry
        )
        build = Gauge("licensesvc_build_info", "Always 1.", ["version", "python", "sqlite"], registry=registry)
        build.labels(__version__, platform.python_version(), sqlite3.sqlite_version).set(1)
        ProcessCollector(registry=registry)

    def request(self, method: str, route: str, status: int | None, seconds: float) -> None:
        """One request came to its end."""
        key = (method, route, status)
        series = self._by_request.get(key)
        if series is None:
            known = method if method in METHODS else "other"
            series = self._requests.labels(known, route, "none" if status is None else str(status))
            if known == method:  # a method of the client's invention is not kept
                self._by_request[key] = series
        series.observe(seconds)

    def batch(self, commands: int, waited: float, committed: float) -> None:
        """The storage's `on_batch`: commands of one commit, longest wait (s), duration of COMMIT (s)."""
        self._batch.observe(commands)
        self._wait.observe(waited)
        self._commit.observe(committed)

    def licenses(self, by_state: Mapping[str, int]) -> None:
        """How many licenses are in each state."""
        for state, count in by_state.items():
            self._licenses.labels(state).set(count)

    def outbox(self, *, waiting: int, given_up: int, age_seconds: float) -> None:
        """What is open in the outbox, and how long the oldest item has been."""
        self._outbox.labels("open").set(waiting)
        self._outbox.labels("given_up").set(given_up)
        self._outbox_age.set(age_seconds)

    def delisting(self, connection: str, gauge: str, value: int | None, limit: int | None, level: int) -> None:
        """One gauge of the delisting guard, for a connection by its public id."""
        self._delisting.labels(connection, gauge).set(float("nan") if value is None else value)
        self._delisting_level.labels(connection, gauge).set(level)
        if limit is not None:
            self._delisting_limit.labels(connection, gauge).set(limit)

    def webhook(self, outcome: str) -> None:
        """One attempt to deliver a webhook message came to its end."""
        self._webhooks.labels(outcome).inc()

    def webhook_backlog(self, *, waiting: int, age_seconds: float) -> None:
        """Webhook messages that wait, and how long the oldest has been."""
        self._webhooks_open.set(waiting)
        self._webhooks_age.set(age_seconds)

    def families(self) -> list[prometheus_client.Metric]:
        """Every metric as it stands."""
        return list(self._registry.collect())

    def text(self) -> bytes:
        """The page of `/metrics`."""
        return prometheus_client.generate_latest(self._registry)
