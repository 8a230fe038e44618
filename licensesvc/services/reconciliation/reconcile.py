"""Once a night asks the marketplace for every order that is not settled, and keeps what it tells differently as findings.

In: when, which orders, how fast, going on after a restart, one process at a time. Out: comparing (`compare_order`), repairing
(`repair_finding`). The place in the night commits with the findings of the order before it: a crash between any two lines asks for one
order again and changes nothing.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import msgspec
import structlog

from licensesvc.domain import ids
from licensesvc.domain.connection import Connection
from licensesvc.domain.instants import DAY, MINUTE
from licensesvc.domain.reconciliation import Difference, night_of
from licensesvc.marketplace.huawei.client import MarketplaceClient, MarketplaceUnreachable
from licensesvc.marketplace.huawei.orders import MalformedAnswer, MarketplaceRefusal, OrderInfo
from licensesvc.services.catalog.marketplace_account import CannotAsk
from licensesvc.services.orders.notify_order import OUTBOX_KIND, OrderQuery
from licensesvc.services.orders.query_order import ask_order, decode_query
from licensesvc.services.reconciliation import compare_order
from licensesvc.services.runtime import Runtime
from licensesvc.settings import Settings
from licensesvc.storage import connections, reconciliation
from licensesvc.storage.connections import StoredConnection
from licensesvc.storage.port import StorageError, Tx
from licensesvc.storage.reconciliation import Candidate, Run, Stage

EVERY_S: Final = 60.0
"""How often the server looks whether a night begins or goes on; also how long after its start it looks first."""
LEASE: Final = 3 * MINUTE
"""Milliseconds after which another process takes over from one that does not go on."""
RECOVERY: Final = 15 * MINUTE
"""Milliseconds for which a marketplace that does not answer is left alone."""
UNANSWERED: Final = 3
"""Orders in a row without an answer after which it is left alone."""
AT_ONCE_S: Final = 8.0
"""Seconds of work in one request; its caller asks again for more."""
_UNLEARNED_AT_ONCE: Final = 100
_PLACES: Final = 1_000
"""Connections."""
_ERROR_CHARACTERS: Final = 500
_STAGES: Final = tuple(Stage)

_log = structlog.get_logger(__name__)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """When a night begins (minute of the day, None = never), orders asked for per minute, and how soon "soon" is (days)."""

    begins_at: int | None
    per_minute: int
    expiring_days: int


def plan_of(settings: Settings) -> Plan:
    """What the settings say."""
    hours, _, minutes = settings.reconcile_at.partition(":")
    return Plan(
        begins_at=int(hours) * 60 + int(minutes) if settings.reconcile_at else None,
        per_minute=settings.reconcile_per_minute,
        expiring_days=settings.reconcile_expiring_days,
    )


class Reconciler:
    """Compares the orders of every connection that may ask the marketplace."""

    def __init__(
        self,
        rt: Runtime,
        client: MarketplaceClient,
        plan: Plan,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.rt = rt
        self.client = client
        self._plan = plan
        self._sleep = sleep
        self._holder = rt.new_id(ids.FINDING, rt.clock())
        self._busy: set[int] = set()

    async def run(self) -> None:
        """Look until cancelled; a database that is away is asked again."""
        while True:
            await self._sleep(EVERY_S)
            try:
                await self.look()
            except* StorageError as lost:
                _log.warning("reconciliation_waits_for_database", error=str(lost.exceptions[0]))

    async def look(self) -> None:
        """Begin the nights that are due, and go on with those under way."""
        if self._plan.begins_at is None:
            return
        asking = [stored for stored in await self.rt.db.read(_connections) if stored.api_access_key is not None]
        async with asyncio.TaskGroup() as group:
            for stored in asking:
                group.create_task(self._night(stored.connection, self._plan.begins_at))

    async def _night(self, connection: Connection, begins_at: int) -> None:
        spread = int.from_bytes(hashlib.sha256(connection.public_id.encode()).digest()[:2])
        night = night_of(self.rt.clock(), connection.calendar, begins_at, spread)
        run = await self.rt.db.read(lambda tx: reconciliation.run_of(tx, connection.id))
        if run is None or run.finished_at is not None:
            if night is None or (run is not None and run.night == night):
                return  # looked at every minute: nothing is written where nothing begins
            await self._begin(connection, night, again=False)
        await self.work(connection, EVERY_S)

    async def begin_now(self, connection: Connection) -> None:
        """Begin a comparison whatever the time is, unless one is under way."""
        night = night_of(self.rt.clock(), connection.calendar, 0, 0)
        assert night is not None
        await self._begin(connection, night, again=True)

    async def _begin(self, connection: Connection, night: str, *, again: bool) -> None:
        now = self.rt.clock()
        await self.rt.db.write(lambda tx: reconciliation.begin(tx, connection.id, night, now, again=again))

    async def work(self, connection: Connection, seconds: float, *, eager: bool = False) -> Run | None:
        """Go on with the night of a connection for about so many seconds, if nobody else does; return how far it is.

        `eager` asks a marketplace that did not answer lately all the same.
        """
        if connection.id not in self._busy:
            self._busy.add(connection.id)
            try:
                await self._go_on(connection, seconds, eager=eager)
            finally:
                self._busy.discard(connection.id)
        return await self.rt.db.read(lambda tx: reconciliation.run_of(tx, connection.id))

    async def _go_on(self, connection: Connection, seconds: float, *, eager: bool) -> None:
        now = self.rt.clock()
        if not await self.rt.db.write(
            lambda tx: reconciliation.lease(tx, connection.id, self._holder, now=now, until=now + LEASE, eager=eager)
        ):
            return
        deadline = asyncio.get_running_loop().time() + seconds
        silent = 0
        while asyncio.get_running_loop().time() < deadline:
            run = await self.rt.db.read(lambda tx: reconciliation.run_of(tx, connection.id))
            if run is None or run.finished_at is not None or run.holder != self._holder:
                return
            run, candidate = await self._next(connection, run)
            if candidate is None:
                await self._put(run)
                continue
            answer = await self._ask(connection, candidate)
            silent = silent + 1 if isinstance(answer, Exception) else 0
            if not await self._keep(connection, run, candidate, answer, leave_alone=_leave_alone(answer, silent)):
                return
            if _leave_alone(answer, silent):
                return
            await self._sleep(60 / self._plan.per_minute * (0.5 + self._dice()))

    async def _next(self, connection: Connection, run: Run) -> tuple[Run, Candidate | None]:
        """The next order to ask for; without one the run goes to where there may be one, or to its end."""
        candidate, place = await self.rt.db.read(lambda tx: self._candidate(tx, connection, run))
        if candidate is not None:
            return msgspec.structs.replace(run, after=candidate.place), candidate
        if place is not None:
            return self._held(msgspec.structs.replace(run, after=place)), None
        following = _STAGES.index(run.stage) + 1
        if following < len(_STAGES):
            return self._held(msgspec.structs.replace(run, stage=_STAGES[following], after=0)), None
        return msgspec.structs.replace(run, finished_at=self.rt.clock(), holder=None, leased_until=0), None

    async def _candidate(self, tx: Tx, connection: Connection, run: Run) -> tuple[Candidate | None, int | None]:
        match run.stage:
            case Stage.ORDERS:
                soon = self._plan.expiring_days * DAY
                return await reconciliation.next_order(
                    tx,
                    connection.id,
                    run.after,
                    expiring_from=run.started_at - soon,
                    expiring_until=run.started_at + soon,
                )
            case Stage.UNLEARNED:
                items = await reconciliation.unlearned(tx, OUTBOX_KIND, run.after, limit=_UNLEARNED_AT_ONCE)
                for place, payload in items:
                    query = decode_query(payload)
                    if query.connection == connection.public_id:
                        return Candidate(place=place, order_id=query.order_id), place
                return None, items[-1][0] if items else None
            case Stage.FINDINGS:
                found = await reconciliation.next_found(tx, connection.id, run.after, seen_before=run.started_at)
                return found, found.place if found else None

    async def _ask(self, connection: Connection, candidate: Candidate) -> OrderInfo | str | Exception:
        """The order, the code with which the marketplace says that it knows none, or why nothing was said."""
        query = OrderQuery(connection=connection.public_id, order_id=candidate.order_id, order_line_id=None)
        try:
            return await ask_order(self.rt, self.client, query)
        except MarketplaceRefusal as refused:
            return refused.result_code if refused.order_unknown else refused
        except (MarketplaceUnreachable, MalformedAnswer, CannotAsk) as error:
            return error

    async def _keep(
        self,
        connection: Connection,
        run: Run,
        candidate: Candidate,
        answer: OrderInfo | str | Exception,
        *,
        leave_alone: bool,
    ) -> bool:
        """Keep what was found and go on behind it, as one; False = another process has taken over."""
        now = self.rt.clock()
        run = self._held(msgspec.structs.replace(run, asked=run.asked + 1))
        if isinstance(answer, Exception):
            error = f"{type(answer).__name__}: {answer}"[:_ERROR_CHARACTERS]
            run = msgspec.structs.replace(run, unanswered=run.unanswered + 1, last_error=error)
            if leave_alone:
                _log.warning("reconciliation_paused", connection=connection.public_id, error=error)
                run = msgspec.structs.replace(run, holder=None, leased_until=now + RECOVERY)
        return await self.rt.db.write(
            partial(
                _keep,
                rt=self.rt,
                holder=self._holder,
                connection=connection,
                run=run,
                candidate=candidate,
                answer=answer,
            )
        )

    def _held(self, run: Run) -> Run:
        return msgspec.structs.replace(run, holder=self._holder, leased_until=self.rt.clock() + LEASE)

    async def _put(self, run: Run) -> None:
        await self.rt.db.write(lambda tx: reconciliation.put(tx, run, self._holder))

    def _dice(self) -> float:
        return int.from_bytes(self.rt.entropy(4)) / 2**32


async def _keep(
    tx: Tx,
    *,
    rt: Runtime,
    holder: str,
    connection: Connection,
    run: Run,
    candidate: Candidate,
    answer: OrderInfo | str | Exception,
) -> bool:
    if not await reconciliation.put(tx, run, holder):
        return False
    if isinstance(answer, Exception):
        return True
    found: list[Difference]
    if isinstance(answer, str):
        found = await compare_order.unknown_there(tx, connection, candidate.order_id, answer)
    else:
        found = await compare_order.differences(tx, connection, answer)
    await compare_order.keep(tx, rt, connection, candidate.order_id, found)
    return True


async def _connections(tx: Tx) -> list[StoredConnection]:
    return await connections.page(tx, after=0, limit=_PLACES)


def _leave_alone(answer: OrderInfo | str | Exception, silent: int) -> bool:
    """Whether asking on would only be a burden: too often already, or no answer so many times."""
    if isinstance(answer, MarketplaceRefusal) and answer.too_frequent:
        return True
    return silent >= UNANSWERED
