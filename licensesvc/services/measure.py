"""Figures that the database knows: licenses by state, the backlog of the outbox."""

import msgspec

from licensesvc.domain.instants import SECOND
from licensesvc.services.runtime import Runtime
from licensesvc.storage import licenses, outbox
from licensesvc.storage.port import Tx


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """`outbox_age_seconds` is the age of the oldest open item, 0 when there is none."""

    licenses: dict[str, int]
    outbox_open: int
    outbox_given_up: int
    outbox_age_seconds: float


async def measure(rt: Runtime) -> Figures:
    """Ask the database; raises StorageError."""
    return await rt.db.read(lambda tx: _measure(tx, rt))


async def _measure(tx: Tx, rt: Runtime) -> Figures:
    by_state = await licenses.count_by_state(tx)
    backlog = await outbox.backlog(tx)
    age = 0 if backlog.oldest_at is None else max(rt.clock() - backlog.oldest_at, 0)
    return Figures(
        licenses={state.value: count for state, count in by_state.items()},
        outbox_open=backlog.waiting,
        outbox_given_up=backlog.given_up,
        outbox_age_seconds=age / SECOND,
    )
