"""The clock of supervision: writes down what is due before its time, announces it once when its time has come, completes accepted cases.

In: which cases to look at, once among all processes that share a database. Out: what is due (domain/supervision_deadlines.py). An announcement
is an audit event, `supervision.due`, which everything that tells the outside reads.

Nothing lives in memory: a case carries when to look at it next (`wake_at`), and every change of it asks for a look.
"""

import asyncio
from typing import Final

import structlog

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.instants import DAY, LAST_INSTANT, Instant, month_of, rfc3339
from licensesvc.domain.supervision import ENDS, Actor, Event, Node, Source
from licensesvc.domain.supervision_deadlines import COMPLETION, Due
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.record_supervision import locked
from licensesvc.services.supervision.supervise import advance
from licensesvc.services.supervision.watch_supervision import due_of
from licensesvc.storage import audit, connections, supervision_due
from licensesvc.storage.port import StorageError, Tx
from licensesvc.storage.supervision import StoredCase

EVERY_S: Final = 20.0
"""Seconds between two looks: how late an announcement may be."""
AT_ONCE: Final = 100
"""Cases read for one look; each has a transaction of its own."""

_log = structlog.get_logger(__name__)


class SupervisionClock:
    """Looks until cancelled; what a look has not finished, the next one or another process goes on with."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt

    async def run(self) -> None:
        """Look every `EVERY_S`; a database that is away is asked again."""
        while True:
            try:
                more = await self.look() == AT_ONCE
            except StorageError as lost:
                _log.warning("supervision_clock_waits", error=str(lost))
                more = False
            await asyncio.sleep(0 if more else EVERY_S)

    async def look(self) -> int:
        """Look at the cases whose time has come; return how many."""
        now = self._rt.clock()
        cases = await self._rt.db.read(lambda tx: supervision_due.to_look_at(tx, now=now, limit=AT_ONCE))
        for case in cases:
            await self._rt.db.write(lambda tx, case=case: _wind(tx, case, self._rt.clock()))  # type: ignore[misc]
        return len(cases)


async def _wind(tx: Tx, case_id: str, now: Instant) -> None:
    case = await locked(tx, case_id)
    if await _may_complete(tx, case, now):
        case = await advance(
            tx, case, Event.COMPLETED, actor=Actor.SYSTEM, by="system", source=Source.RULE, now=now,
            at=_completed_by(case), confirmed=False, facts=None,
        )  # fmt: skip
    dues = (await due_of(tx, [case], now))[case.id]
    await supervision_due.put(tx, case.id, dues)
    fired = [due for due in dues if due.past and await supervision_due.fire(tx, case.id, due, now)]
    await audit.append(tx, [_announcement(case, due, now) for due in fired])
    await supervision_due.sleep(tx, case.id, case.version, _next_look(case, dues, now))


async def _may_complete(tx: Tx, case: StoredCase, now: Instant) -> bool:
    """The marketplace completes within 3 h of an acceptance (spec §6.4), so by then a confirmed one is completed.

    Where those hours reach into another month nobody here knows which one it is settled with: an operator, or an import, must say so.
    """
    accepted, confirmed = case.state.accepted_at, case.state.acceptance_confirmed_at
    if case.node is not Node.ACCEPTED or case.state.frozen or accepted is None or confirmed is None:
        return False
    if now < _completed_by(case):
        return False
    calendar = (await connections.by_id(tx, case.connection_id)).connection.calendar
    return month_of(accepted, calendar) == month_of(_completed_by(case), calendar)


def _completed_by(case: StoredCase) -> Instant:
    assert case.state.accepted_at is not None
    return case.state.accepted_at + COMPLETION


def _announcement(case: StoredCase, due: Due, now: Instant) -> AuditEvent:
    detail: dict[str, str | int | None] = {
        "kind": due.kind,
        "at": rfc3339(due.at),
        "actor": due.actor,
        "overdue": int(due.hard),
        "node": case.node,
    }
    return AuditEvent(at=now, actor="system", kind="supervision.due", subject=case.public_id, detail=detail)


def _next_look(case: StoredCase, dues: list[Due], now: Instant) -> Instant:
    """With the next thing that falls due, and once a day: a license may have been frozen, which is no change of the case."""
    if case.node in ENDS and not dues:
        return LAST_INSTANT
    return min([now + DAY, *(due.at + 1 for due in dues if not due.past)])
