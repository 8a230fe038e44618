"""Turns what the audit chains tell into deliveries: reads on where each endpoint's cursors stand, moves them in the same transaction.

In: one pass over all endpoints. Out: sending. Nothing is added to the transactions that write the events, and no event can be lost: a cursor
moves together with the deliveries of what it passes (ADR 43). Reading by seq skips nothing: a chain has one writer, so an event is never
visible before the one in front of it.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditRow
from licensesvc.domain.instants import LAST_INSTANT, Instant
from licensesvc.domain.webhook_events import compose, matches
from licensesvc.services.runtime import Runtime
from licensesvc.storage import audit, webhook_deliveries, webhook_endpoints
from licensesvc.storage.port import Tx
from licensesvc.storage.webhook_deliveries import NewDelivery
from licensesvc.storage.webhook_endpoints import StoredEndpoint

MAX_ENDPOINTS: Final = 50
"""Endpoints of one server."""
EVENTS_AT_ONCE: Final = 200
"""Events of one chain in one pass: one transaction of some 10 ms."""
MOST_OPEN: Final = 5_000
"""Open deliveries of an endpoint; behind so many, further events wait in the chains, where they take no more room."""


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass saw: endpoints to send to, those among them with something due, and whether more events are waiting."""

    live: tuple[int, ...]
    due: frozenset[int]
    more: bool


class _Step(msgspec.Struct, frozen=True):
    endpoint: StoredEndpoint
    position: Mapping[str, int]
    following: Mapping[str, int]
    rows: Sequence[AuditRow]


class _Raced(Exception):
    """Another process has moved a cursor: it is doing this pass."""


async def feed_webhooks(rt: Runtime) -> Pass:
    """Make one pass. Raises StorageError."""
    now = rt.clock()
    seen, steps = await rt.db.read(lambda tx: _look(tx, now))
    if steps:
        try:
            added = await rt.db.write(lambda tx: _carry_on(tx, rt, steps))
        except _Raced:
            return msgspec.structs.replace(seen, more=True)
        return msgspec.structs.replace(seen, due=seen.due | added)
    return seen


async def _look(tx: Tx, now: Instant) -> tuple[Pass, list[_Step]]:
    """One snapshot: an event that was caused by another one, in whatever chain, is never seen without it."""
    found = await webhook_endpoints.page(tx, after=0, limit=MAX_ENDPOINTS)
    live = [endpoint for endpoint in found if endpoint.disabled_at is None]
    if not live:
        return Pass(live=(), due=frozenset(), more=False), []
    keys = [endpoint.id for endpoint in live]
    work = await webhook_deliveries.open_work(tx, keys)
    heads = await audit.heads(tx)
    cursors = await webhook_endpoints.cursors(tx, keys)
    steps, more = [], False
    read: dict[tuple[tuple[str, int], ...], tuple[Mapping[str, int], list[AuditRow], bool]] = {}
    for endpoint in live:
        position = cursors[endpoint.id]
        if endpoint.id in work and work[endpoint.id].waiting >= MOST_OPEN:
            continue
        behind = tuple((chain, position.get(chain, 0)) for chain, seq in heads.items() if position.get(chain, 0) < seq)
        if not behind:
            continue
        if behind not in read:  # endpoints mostly stand at the same place
            read[behind] = await _read_on(tx, dict(behind))
        following, rows, unfinished = read[behind]
        steps.append(_Step(endpoint, position, following, rows))
        more = more or unfinished
    due = frozenset(
        endpoint.id
        for endpoint in live
        if endpoint.id in work and work[endpoint.id].due_at <= now and (endpoint.paused_until or 0) <= now
    )
    return Pass(live=tuple(keys), due=due, more=more), steps


async def _read_on(tx: Tx, behind: Mapping[str, int]) -> tuple[Mapping[str, int], list[AuditRow], bool]:
    """The next events of these chains by time, where to go on after them, and whether there are more."""
    pages = {
        chain: await audit.page(tx, chain, after=seq, limit=EVENTS_AT_ONCE) for chain, seq in sorted(behind.items())
    }
    full = [rows for rows in pages.values() if len(rows) == EVENTS_AT_ONCE]
    # Beyond the end of a full page its chain may go on with earlier events than others have.
    horizon = min((_latest(rows) for rows in full), default=LAST_INSTANT)
    rows = [row for at, row in heapq.merge(*map(_by_time, pages.values()), key=_place) if at <= horizon]
    following: dict[str, int] = {}
    for row in rows:
        following[row.chain] = row.seq
    return following, rows, bool(full)


def _by_time(rows: Sequence[AuditRow]) -> Iterator[tuple[Instant, AuditRow]]:
    """The events of one chain with times that never go back, even if the clock was set back: a chain keeps its order."""
    latest = 0
    for row in rows:
        latest = max(latest, row.event.at)
        yield latest, row


def _latest(rows: Sequence[AuditRow]) -> Instant:
    return max(row.event.at for row in rows)


def _place(timed: tuple[Instant, AuditRow]) -> tuple[Instant, str, int]:
    at, row = timed
    return at, row.chain, row.seq


async def _carry_on(tx: Tx, rt: Runtime, steps: Sequence[_Step]) -> frozenset[int]:
    """Move the cursors and add the deliveries; return the endpoints that got some."""
    now = rt.clock()
    enabled = await webhook_endpoints.lock_all(tx, [step.endpoint.id for step in steps])
    new: list[NewDelivery] = []
    for step in steps:
        endpoint = step.endpoint
        if endpoint.id not in enabled:
            continue
        for chain, seq in step.following.items():
            if not await webhook_endpoints.advance(tx, endpoint.id, chain, before=step.position.get(chain), to=seq):
                raise _Raced
        new += deliveries_of(rt, endpoint, step.rows, now)
    await webhook_deliveries.add(tx, new, now)
    return frozenset(delivery.endpoint_id for delivery in new)


def deliveries_of(rt: Runtime, endpoint: StoredEndpoint, rows: Sequence[AuditRow], now: Instant) -> list[NewDelivery]:
    """The deliveries that tell this endpoint of events, as far as its filter asks for them."""
    return [
        NewDelivery(
            public_id=rt.new_id(ids.DELIVERY, now),
            endpoint_id=endpoint.id,
            message_id=message.id,
            type=message.type,
            subject=message.subject,
            payload=message.payload,
        )
        for message in map(compose, rows)
        if message is not None and matches(endpoint.events, message.type)
    ]
