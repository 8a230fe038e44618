"""Deletes what is past its retention, in small transactions. The audit chains stay whole."""

from collections.abc import Mapping
from functools import partial

import msgspec

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.instants import DAY, Instant
from licensesvc.services.access.idempotency import KEPT_FOR
from licensesvc.services.runtime import Runtime
from licensesvc.settings import Settings
from licensesvc.storage import audit, retention


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """Days that rows are kept after their end; 0 keeps them for good."""

    messages_days: int
    outbox_days: int
    released_activations_days: int
    usage_days: int
    alerts_days: int
    webhook_deliveries_days: int = 0

    def instants(self, now: Instant) -> Mapping[str, Instant]:
        """By table, the instant before which its rows are past; a table that is kept for good is missing."""
        days = {
            "messages": self.messages_days,
            "reconciliation_findings": self.messages_days,
            "outbox": self.outbox_days,
            "activations": self.released_activations_days,
            "usage_days": self.usage_days,
            "alerts": self.alerts_days,
            "webhook_deliveries": self.webhook_deliveries_days,
        }
        limits = {table: now - kept * DAY for table, kept in days.items() if kept}
        # Who was counted on a day matters only while it lasts, somewhere on earth.
        limits["usage_clients"] = limits["relay_usage"] = now - 2 * DAY
        return {**limits, "idempotency_keys": now - KEPT_FOR, "nonces": now, "signature_failures": now - DAY}


def retention_of(settings: Settings) -> Retention:
    """What the settings say."""
    return Retention(
        messages_days=settings.keep_messages_days,
        outbox_days=settings.keep_outbox_days,
        released_activations_days=settings.keep_released_activations_days,
        usage_days=settings.keep_usage_days,
        alerts_days=settings.keep_alerts_days,
        webhook_deliveries_days=settings.keep_webhook_deliveries_days,
    )


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """Rows by table; `more` when the bound of one call was reached before the end."""

    rows: dict[str, int]
    more: bool = False


async def stale(rt: Runtime, kept: Retention) -> Pruned:
    """Count what `prune` would delete."""
    limits = kept.instants(rt.clock())
    counts = {
        table: await rt.db.read(partial(retention.count, table=table, before=before))
        for table, before in limits.items()
    }
    return Pruned(rows=counts)


async def prune(rt: Runtime, kept: Retention, *, by: str, batches: int = 40) -> Pruned:
    """Delete, in not many more than `batches` transactions, and tell the audit what was deleted."""
    now = rt.clock()
    rows: dict[str, int] = {}
    more = False
    for table, before in kept.instants(now).items():
        rows[table], more = await _prune_table(rt, table, before, batches)
        batches -= rows[table] // retention.BATCH
        if more:
            break
    if any(rows.values()):
        told: dict[str, str | int | None] = {table: count for table, count in rows.items() if count}
        event = AuditEvent(at=now, actor=by, kind="database.pruned", subject="database", detail=told)
        await rt.db.write(lambda tx: audit.append(tx, [event]))
    return Pruned(rows=rows, more=more)


async def _prune_table(rt: Runtime, table: str, before: Instant, batches: int) -> tuple[int, bool]:
    """Delete up to so many full batches, at least one; return the rows, and whether more may be left."""
    rows = 0
    while True:
        deleted = await rt.db.write(partial(retention.delete_some, table=table, before=before))
        rows += deleted
        batches -= 1
        if deleted < retention.BATCH:
            return rows, False
        if batches <= 0:
            return rows, True
