"""The delisting guard: every minute each connection's gauges are read, kept for whoever asks, and turned into alerts.

In: collecting facts, the cached reports, the background loop. Out: thresholds and arithmetic (`domain.delisting`), storing and sending
alerts (`raise_alerts`).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import msgspec
import structlog

from licensesvc.domain import delisting
from licensesvc.domain.connection import Connection
from licensesvc.domain.delisting import Facts, Gauge, OnSale, OpenCall, Reading
from licensesvc.domain.instants import DAY, MINUTE, SECOND, Instant, month_of
from licensesvc.services.guard.raise_alerts import raise_alerts
from licensesvc.services.runtime import Runtime
from licensesvc.storage import connections
from licensesvc.storage import delisting as facts_storage
from licensesvc.storage.delisting import ReportedFigure, SaleDeclaration
from licensesvc.storage.port import StorageError, Tx

EVERY_S: Final = 60.0
"""How often the gauges are read; also how old a report may be that is shown."""
CONNECTIONS_AT_ONCE: Final = 50
"""Connections read in one transaction."""
OBSERVED_FOR: Final = 10 * MINUTE
"""Milliseconds that a process's count of refusals is believed, also by the others."""
CALLS_SHOWN: Final = 20
"""Failing calls that a report names, the most urgent ones."""

Refusals = Callable[[], Mapping[str, int]]
"""Refusals in a row of our calls to the open API, by access key (AK), as this process counts them."""

_log = structlog.get_logger(__name__)


def no_refusals() -> Mapping[str, int]:
    """What a process that makes no calls counts."""
    return {}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The gauges of one connection at an instant, and the facts behind them that people ask for.

    `failed_orders_counted` is a lower bound. `calls` are at most `CALLS_SHOWN` calls that fail now.
    """

    connection: Connection
    at: Instant
    month: str
    readings: Mapping[Gauge, Reading]
    failed_orders_counted: int
    reported: ReportedFigure | None
    declared: SaleDeclaration | None
    last_probe_at: Instant | None
    calls: Sequence[OpenCall]


class DelistingWatch:
    """Reads the gauges in the background; `reports` gives what was read last."""

    def __init__(self, rt: Runtime, refusals: Refusals = no_refusals) -> None:
        self._rt = rt
        self._refusals = refusals
        self._reports: tuple[Report, ...] = ()
        self._read_at: Instant | None = None
        self._reading = asyncio.Lock()
        self._observed: set[str] = set()
        self._looked_at = rt.clock()

    def count_refusals(self, refusals: Refusals) -> None:
        """Ask here from now on how often the open API has refused our calls."""
        self._refusals = refusals

    async def run(self) -> None:
        """Look until cancelled; a database that is away is asked again."""
        while True:
            try:
                await self.look()
            except StorageError as error:
                _log.warning("delisting_guard_waits_for_database", error=str(error))
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Read every connection once and raise, repeat and clear its alerts."""
        await self._observe_refusals()
        async with self._reading:
            found = await self._read()
        for report in found:
            await raise_alerts(self._rt, report.connection, report.readings, report.at)
        self._looked_at = self._rt.clock()

    async def reports(self) -> tuple[Report, ...]:
        """The reports of all connections by internal id, at most `EVERY_S` old. Raises StorageError."""
        async with self._reading:
            fresh = self._read_at is not None and abs(self._rt.clock() - self._read_at) < EVERY_S * SECOND
            return self._reports if fresh else await self._read()

    async def report(self, public_id: str) -> Report | None:
        """The report of one connection, read anew; None = there is no such connection."""
        stored = await self._rt.db.read(lambda tx: connections.by_public_id(tx, public_id))
        if stored is None:
            return None
        now = self._rt.clock()
        return await self._rt.db.read(lambda tx: read_report(tx, stored.connection, now))

    def blind_seconds(self) -> float:
        """How long ago alerts were last looked after; since the start before the first time."""
        return abs(self._rt.clock() - self._looked_at) / SECOND

    def forget(self) -> None:
        """Read anew for the next who asks: an operator has changed a figure."""
        self._read_at = None

    async def _read(self) -> tuple[Report, ...]:
        now = self._rt.clock()
        found: list[Report] = []
        after = 0
        while page := await self._rt.db.read(partial(_page, after=after, now=now)):
            found += page
            after = page[-1].connection.id
        self._reports, self._read_at = tuple(found), now
        return self._reports

    async def _observe_refusals(self) -> None:
        """Tell the other processes what this one counts; while there is nothing to count, nothing is written."""
        counted = {access_key: count for access_key, count in self._refusals().items() if count > 0}
        if changing := counted.keys() | self._observed:
            counts = {access_key: counted.get(access_key, 0) for access_key in sorted(changing)}
            await self._rt.db.write(lambda tx: _observe(tx, counts, self._rt.clock()))
            self._observed = set(counted)


async def _observe(tx: Tx, counts: Mapping[str, int], now: Instant) -> None:
    for stored in await connections.of_access_keys(tx, list(counts)):
        assert stored.api_access_key is not None
        await facts_storage.observe_refusals(tx, stored.connection.id, counts[stored.api_access_key], now)


async def _page(tx: Tx, *, after: int, now: Instant) -> list[Report]:
    stored = await connections.page(tx, after=after, limit=CONNECTIONS_AT_ONCE)
    return [await read_report(tx, record.connection, now) for record in stored]


async def read_report(tx: Tx, connection: Connection, now: Instant) -> Report:
    """Read the facts of one connection and compute its gauges."""
    zone = connection.calendar
    month = month_of(now, zone)
    # Orders whose retries ran out this month may have begun to fail before it.
    month_began = delisting.month_start(month, zone) - delisting.LONGEST_WINDOW - delisting.LATE
    shown_since = now - delisting.LONGEST_WINDOW - delisting.CLOSED_SHOWN
    declared = await facts_storage.declaration(tx, connection.id)
    reported = await facts_storage.figure(tx, connection.id, month)
    quarters = await facts_storage.probes_by_quarter(tx, connection.id, since=now - delisting.PROBE_DAYS * DAY)
    facts = Facts(
        purchases=await facts_storage.failing_calls(tx, connection.id, delisting.PURCHASES, since=month_began),
        calls=await facts_storage.failing_calls(tx, connection.id, delisting.RETRIES, since=shown_since),
        probes=delisting.probe_days(quarters, zone),
        last_probe_at=await facts_storage.last_probe_at(tx, connection.id),
        on_sale=declared.on_sale if declared else OnSale.UNKNOWN,
        on_sale_since=declared.declared_at if declared else None,
        failed_orders_reported=reported.failed_orders if reported else None,
        open_api_refusals=await facts_storage.refusals(
            tx, connection.id, after=now - OBSERVED_FOR, before=now + OBSERVED_FOR
        ),
        software_locked=await facts_storage.software_locked(tx, connection.id, now),
    )
    return Report(
        connection=connection,
        at=now,
        month=month,
        readings=delisting.readings(facts, zone, now),
        failed_orders_counted=len(delisting.failed_orders(facts.purchases, month, zone, now)),
        reported=reported,
        declared=declared,
        last_probe_at=facts.last_probe_at,
        calls=delisting.open_calls(facts.calls, now)[:CALLS_SHOWN],
    )
