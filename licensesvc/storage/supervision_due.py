"""Rows of `supervision_due`, and when the clock looks at a case next."""

from collections.abc import Sequence

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.supervision import Actor
from licensesvc.domain.supervision_deadlines import Due, DueKind
from licensesvc.storage.port import Tx
from licensesvc.storage.where import EVERYTHING, Where


class OpenDue(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is due in a case (by public id) and was not announced yet."""

    case: str
    kind: DueKind
    at: Instant
    actor: Actor | None


async def to_look_at(tx: Tx, *, now: Instant, limit: int) -> list[str]:
    """Public ids of up to `limit` cases that have changed since the clock looked, then of those whose time has come."""
    changed = await tx.all("SELECT public_id FROM supervision_cases WHERE wake_at IS NULL ORDER BY id LIMIT $1", limit)
    ripe = await tx.all(
        "SELECT public_id FROM supervision_cases WHERE wake_at <= $1 ORDER BY wake_at, id LIMIT $2", now, limit
    )
    return [row["public_id"] for row in (*changed, *ripe)][:limit]


async def put(tx: Tx, case_id: int, dues: Sequence[Due]) -> None:
    """Write what is due in a case anew; what was announced stays."""
    await tx.run("DELETE FROM supervision_due WHERE case_id = $1 AND fired_at IS NULL", case_id)
    await tx.many(
        "INSERT INTO supervision_due (case_id, kind, at, actor) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        [(case_id, due.kind.value, due.at, due.actor.value if due.actor else None) for due in dues],
    )


async def fire(tx: Tx, case_id: int, due: Due, now: Instant) -> bool:
    """Announce what is due; False = it was announced before."""
    fired = await tx.run(
        "UPDATE supervision_due SET fired_at = $4 WHERE case_id = $1 AND kind = $2 AND at = $3 AND fired_at IS NULL",
        case_id,
        due.kind.value,
        due.at,
        now,
    )
    return fired == 1


async def sleep(tx: Tx, case_id: int, version: int, wake_at: Instant) -> None:
    """Let the clock look at a case again at `wake_at`, unless it has changed meanwhile."""
    await tx.run(
        "UPDATE supervision_cases SET wake_at = $3 WHERE id = $1 AND version = $2",
        case_id,
        version,
        wake_at,
    )


async def soonest(tx: Tx, *, until: Instant, limit: int, where: Where = EVERYTHING) -> list[OpenDue]:
    """Up to `limit` things that are due by `until` and not announced, the soonest first; conditions name `d` and `c`."""
    rows = await tx.all(
        "SELECT c.public_id, d.kind, d.at, d.actor FROM supervision_due d JOIN supervision_cases c ON c.id = d.case_id"
        f" WHERE d.fired_at IS NULL AND d.at <= $1{where.sql(3)} ORDER BY d.at, d.case_id LIMIT $2",
        until,
        limit,
        *where.values,
    )
    return [
        OpenDue(
            case=row["public_id"],
            kind=DueKind(row["kind"]),
            at=row["at"],
            actor=Actor(row["actor"]) if row["actor"] else None,
        )
        for row in rows
    ]
