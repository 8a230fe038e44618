"""Turns readings into alerts: one transaction for each change, with its audit event and what is to be sent.

Several processes look at the same figures; the version of the alert's row decides which of them tells. Webhooks read the audit events
`alert.raised`, `alert.repeated` and `alert.cleared`, which stand in the same transaction.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from licensesvc.domain import alerts, ids
from licensesvc.domain.alerts import Alert, Step, follow, period_of
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.connection import Connection
from licensesvc.domain.delisting import RULES, Gauge, Level, Reading
from licensesvc.domain.errors import NotFound, StaleVersion
from licensesvc.domain.instants import Instant
from licensesvc.services.runtime import Runtime
from licensesvc.storage import alert_channels, audit, outbox
from licensesvc.storage import alerts as rows
from licensesvc.storage.alerts import StoredAlert
from licensesvc.storage.port import Tx

OUTBOX_KIND: Final = "alert"
MAX_CHANNELS: Final = 50
"""Channels that there may be."""
_ACTOR: Final = "system"


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What the outbox keeps of an alert for one channel; the address is read when it is sent. `event` `test` is about nothing."""

    channel: str
    event: str
    at: Instant
    connection: str = ""
    alert: str | None = None
    gauge: Gauge | None = None
    level: Level = Level.OK
    value: int | None = None
    limit: int | None = None
    opened_at: Instant | None = None


async def raise_alerts(rt: Runtime, connection: Connection, readings: Mapping[Gauge, Reading], now: Instant) -> int:
    """Carry out what the readings change; return how many changes this process made. Nothing to change writes nothing."""
    periods = {gauge: period_of(gauge, now, connection.calendar) for gauge in readings}
    known = await rt.db.read(lambda tx: rows.concerned(tx, connection.id, sorted(set(periods.values()))))
    if not any(_steps(known, reading, periods[gauge], now) for gauge, reading in readings.items()):
        return 0
    return await rt.db.write(lambda tx: _carry_out(tx, rt, connection, readings, periods, now))


def _steps(known: list[StoredAlert], reading: Reading, period: str, now: Instant) -> list[Step]:
    of_gauge = [stored.alert for stored in known if stored.gauge is reading.gauge]
    return follow(reading, period, of_gauge, now)


async def _carry_out(
    tx: Tx,
    rt: Runtime,
    connection: Connection,
    readings: Mapping[Gauge, Reading],
    periods: Mapping[Gauge, str],
    now: Instant,
) -> int:
    known = await rows.concerned(tx, connection.id, sorted(set(periods.values())))
    made = 0
    for gauge, reading in readings.items():
        for step in _steps(known, reading, periods[gauge], now):
            stored = await _swapped(tx, rt, connection, gauge, known, step, now)
            if stored is not None:  # else another process was first
                made += 1
                await _tell(tx, connection, stored, step, now)
    return made


async def _swapped(
    tx: Tx, rt: Runtime, connection: Connection, gauge: Gauge, known: list[StoredAlert], step: Step, now: Instant
) -> StoredAlert | None:
    if step.before is None:
        public_id = rt.new_id(ids.ALERT, now)
        if not await rows.insert(tx, public_id, connection.id, gauge, step.after, RULES[gauge].limit):
            return None
        return await rows.by_public_id(tx, public_id)
    before = next(stored for stored in known if stored.gauge is gauge and stored.alert is step.before)
    after = msgspec.structs.replace(before, alert=step.after)
    return after if await rows.update(tx, after) else None


async def _tell(tx: Tx, connection: Connection, stored: StoredAlert, step: Step, now: Instant) -> None:
    alert = stored.alert
    detail: dict[str, str | int | None] = {
        "connection": connection.public_id,
        "gauge": stored.gauge,
        "period": alert.period,
        "level": alert.level,
        "value": alert.value,
        "limit": stored.limit,
        "told": int(step.told),
    }
    event = AuditEvent(at=now, actor=_ACTOR, kind=f"alert.{step.event}", subject=stored.public_id, detail=detail)
    await audit.append(tx, [event])
    for channel in await alert_channels.page(tx, after=0, limit=MAX_CHANNELS):
        if alerts.heard(step, channel.least_level):
            notice = Notice(
                channel=channel.public_id,
                event=step.event,
                at=now,
                connection=connection.public_id,
                alert=stored.public_id,
                gauge=stored.gauge,
                level=alert.level,
                value=alert.value,
                limit=stored.limit,
                opened_at=alert.opened_at,
            )
            await queue(tx, notice, now)


async def queue(tx: Tx, notice: Notice, now: Instant) -> None:
    """Leave a notice in the outbox, under its channel."""
    payload = msgspec.json.encode(notice).decode()
    await outbox.add(tx, kind=OUTBOX_KIND, subject=notice.channel, payload=payload, now=now)


async def acknowledge(tx: Tx, rt: Runtime, public_id: str, version: int, *, by: str) -> StoredAlert:
    """Somebody works on it: no daily repetition from now on. Raises NotFound, StaleVersion. Twice changes nothing."""
    stored = await rows.by_public_id(tx, public_id)
    if stored is None:
        raise NotFound
    if stored.version != version:
        raise StaleVersion
    if stored.alert.acknowledged_at is not None:
        return stored
    now = rt.clock()
    alert: Alert = msgspec.structs.replace(stored.alert, acknowledged_at=now)
    if not await rows.update(tx, msgspec.structs.replace(stored, alert=alert, acknowledged_by=by)):
        raise StaleVersion
    event = AuditEvent(at=now, actor=by, kind="alert.acknowledged", subject=public_id, detail={"gauge": stored.gauge})
    await audit.append(tx, [event])
    changed = await rows.by_public_id(tx, public_id)
    assert changed is not None
    return changed
