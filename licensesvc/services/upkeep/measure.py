"""Figures that the database knows: licenses by state, the backlogs of outbox and webhooks, open findings."""

import msgspec

from licensesvc.domain.instants import SECOND, Instant
from licensesvc.services.runtime import Runtime
from licensesvc.storage import licenses, outbox, reconciliation, webhook_deliveries
from licensesvc.storage.port import Tx


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Ages are those of the oldest open item, 0 when there is none."""

    licenses: dict[str, int]
    outbox_open: int
    outbox_given_up: int
    outbox_age_seconds: float
    webhooks_open: int
    webhooks_age_seconds: float
    findings_open: int


async def measure(rt: Runtime) -> Figures:
    """Ask the database; raises StorageError."""
    return await rt.db.read(lambda tx: _measure(tx, rt))


async def _measure(tx: Tx, rt: Runtime) -> Figures:
    by_state = await licenses.count_by_state(tx)
    backlog = await outbox.backlog(tx)
    webhooks = await webhook_deliveries.backlog(tx)
    return Figures(
        licenses={state.value: count for state, count in by_state.items()},
        outbox_open=backlog.waiting,
        outbox_given_up=backlog.given_up,
        outbox_age_seconds=_age_seconds(rt, backlog.oldest_at),
        webhooks_open=webhooks.waiting,
        webhooks_age_seconds=_age_seconds(rt, webhooks.oldest_at),
        findings_open=await reconciliation.count_all_open(tx),
    )


def _age_seconds(rt: Runtime, since: Instant | None) -> float:
    return 0 if since is None else max(rt.clock() - since, 0) / SECOND
