"""Every death of a server in one operation: killed before each of its steps, started again, compared with a run that nobody disturbed.

In: lanes of `mortal_server`, copies of a data directory, what lies on the disk after a death and in the end. Out: the operations.

`survive` asserts of each death: `audit` is clean at once and in the end; what was answered is there; the same request, sent once more as after a
lost answer, is answered as its sender may expect; then the whole database, the proofs and the messages that a receiver of webhooks got are what
they are after the undisturbed run. Ids, seals and hashes that are new are equal to each other. Nonces and interface messages are counted
only: who asks twice has one more.
"""

import asyncio
import itertools
import os
import re
import shutil
import signal
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import httpx2
import msgspec

from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.storage.sqlite_reader import open_sqlite_reader
from tests.mortal_server import NEVER, Life
from tests.support_process import running
from tests.support_scene import ASKED_AT, Request, Scene
from tests.support_webhooks import Receiver, receiving

LANES = 2
"""Lives at the same time: one for each core."""
PATIENCE_S = 20
DRAINED_EVERY_S = 0.01
DATABASE = "licensesvc.db"
DIED = -signal.SIGKILL

COUNTED = ("nonces", "messages")
"""Tables where a request that is sent twice may leave one row more."""

_WITHIN = re.compile(r"step (SELECT|INSERT|UPDATE|DELETE|BEGIN|rollback)")
"""Steps inside of a transaction: whatever one of them does, a death before the next is one without a COMMIT."""
_ID = re.compile(r"\b([a-z]{2,8})_[0-9a-z]{26}\b")
_PASSING = re.compile(r'127\.0\.0\.1:\d+|"duration_ms":\d+')
_DRAINED = """
SELECT (SELECT MAX(seq) FROM audit_events) = (SELECT MIN(seq) FROM webhook_cursors)
  AND NOT EXISTS (SELECT 1 FROM webhook_deliveries WHERE closed_at IS NULL)
  AND NOT EXISTS (SELECT 1 FROM supervision_cases WHERE wake_at IS NULL OR wake_at <= ?1)
  AND NOT EXISTS (SELECT 1 FROM outbox WHERE done_at IS NULL AND given_up_at IS NULL)
"""

Contents: TypeAlias = Mapping[str, Sequence[object]]
"""Rows by table, and in the end also names of proofs and bodies of messages."""


class Reply(msgspec.Struct, frozen=True):
    """What came back, with new ids made equal."""

    status: int
    body: str
    replayed: bool = False


Repeated: TypeAlias = Callable[[Reply, Reply], bool]
"""Whether the first reply may be the one to a repetition of what was done already, when it would have been the second one at first."""


def same(again: Reply, first: Reply) -> bool:
    """The repetition cannot be told from the first time."""
    return again == first


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What somebody asks of a server, and what comes of it: the one value that `sql` finds with the ids of `order`, before and after.

    `again` = False: nobody repeats the request, the server goes on by itself. Each of the `transactions` survives whole or not at all. `whole`
    = it dies before every step.
    """

    name: str
    order: str
    request: Callable[[Scene], Request]
    sql: str
    before: object
    after: object
    now: int = ASKED_AT
    repeated: Repeated = same
    again: bool = True
    transactions: int = 1
    whole: bool = False


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A data directory that every life begins with a copy of; nothing is left to do in it. `known` is what runs have in common."""

    data: Path
    scene: Scene
    known: frozenset[object]
    _masked: dict[object, object] = field(default_factory=dict)

    def masked(self, value: object) -> object:
        """A value without what differs from run to run."""
        if isinstance(value, bytes):
            return value if value in self.known else b"new"
        if isinstance(value, str):
            if value not in self._masked:
                told = _ID.sub(lambda found: found[0] if found[0] in self.known else f"{found[1]}_new", value)
                self._masked[value] = _PASSING.sub("passing", told)
            return self._masked[value]
        return value

    def contents(self, directory: Path) -> dict[str, list[object]]:
        """Every row of every table."""
        return {table: [tuple(map(self.masked, row)) for row in rows] for table, rows in _rows(directory).items()}


def as_stage(data: Path, scene: Scene) -> Stage:
    """A closed data directory as a stage."""
    values = [value for rows in _rows(data).values() for row in rows for value in row]
    ids = {found[0] for value in values if isinstance(value, str) for found in _ID.finditer(value)}
    blobs = {value for value in values if isinstance(value, bytes)}
    return Stage(data=data, scene=scene, known=frozenset(ids | blobs))


@dataclass(frozen=True)
class Death:
    """One life and its end: before which step, what it had answered, what it left on the disk."""

    step: int
    before: str
    reply: Reply | None
    left: Contents
    steps: Sequence[str] = ()


@dataclass
class Lane:
    """One process that lives again and again, with a receiver of its own, which the stage at `home` tells of; `at_home` is what lies there."""

    home: Path
    receiver: Receiver
    client: httpx2.AsyncClient
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    at_home: Contents
    url: str = ""
    process: int = 0
    steps: list[str] = field(default_factory=list)
    """What the last life told of itself."""

    @asynccontextmanager
    async def living(self, life: Life) -> AsyncIterator[None]:
        """A life that has ended when the context does."""
        await self._start(life)
        try:
            yield
        finally:
            if self.process:
                await self.kill()

    async def _start(self, life: Life) -> None:
        self.writer.write(msgspec.json.encode(life) + b"\n")
        line = await self._line()
        assert line.startswith("ready on "), line
        self.url, _, process = line.removeprefix("ready on ").partition(" as ")
        self.process = int(process)

    async def ask(self, request: Request) -> httpx2.Response | None:
        """The answer; None where the process died instead."""
        try:
            return await self.client.request(request.method, self.url + request.path, **request.options)
        except httpx2.TransportError:
            await self._ended()
            assert self.steps[-1].startswith("dies before "), self.steps
            return None

    async def kill(self) -> None:
        with suppress(ProcessLookupError):  # it has answered and was faster
            os.kill(self.process, signal.SIGKILL)
        await self._ended()

    async def _ended(self) -> None:
        self.steps.clear()
        while not (line := await self._line()).startswith("ended with "):
            self.steps.append(line)
        self.process = 0
        assert line == f"ended with {DIED}"

    async def _line(self) -> str:
        async with asyncio.timeout(PATIENCE_S):
            return (await self.reader.readuntil(b"\n")).decode().rstrip()


@asynccontextmanager
async def open_lanes(stage: Stage, directory: Path) -> AsyncIterator[list[Lane]]:
    """As many lanes as there are cores."""
    async with AsyncExitStack() as opened:
        mortal = ("tests.mortal_server", str(stage.data))
        server = opened.enter_context(running(*mortal, log=directory / "mortal.log"))
        lanes = []
        for number in range(LANES):
            receiver = await opened.enter_async_context(receiving())
            home = Path(shutil.copytree(stage.data, directory / f"lane{number}"))
            with closing(sqlite3.connect(home / DATABASE)) as connection, connection:
                connection.execute("UPDATE webhook_endpoints SET url = ?", (receiver.url,))
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            opened.callback(writer.close)
            client = await opened.enter_async_context(httpx2.AsyncClient(timeout=PATIENCE_S, verify=False))
            lanes.append(Lane(home, receiver, client, reader, writer, stage.contents(home)))
        yield lanes


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One operation on one stage; `fault` is planted into the lives that die."""

    stage: Stage
    operation: Operation
    fault: str = ""

    async def undisturbed(self, lane: Lane) -> tuple[Reply | None, Contents]:
        """The answer and the end of a life that nobody ends before its work is done."""
        directory = _copy(lane)
        assert self._effect(directory) == self.operation.before
        told = await self._live_on(lane, directory)
        assert self._effect(directory) == self.operation.after
        return told

    async def die(self, lane: Lane, step: int, wanted: tuple[Reply | None, Contents]) -> Death:
        """Die before a step, or once the operation is answered; look, live on, compare with what is wanted."""
        directory = _copy(lane)
        tells = step == NEVER
        async with lane.living(self._life(directory, dies_before=step, tells=tells, fault=self.fault)):
            reply = self._reply(await lane.ask(self.operation.request(self.stage.scene)))
        before = "nothing" if reply else f"{step}: {lane.steps[-1]}"
        death = Death(step, before, reply, self.stage.contents(directory), [*lane.steps] if tells else ())
        await self._audited(directory, before)
        first, final = wanted
        done = _counted_out(death.left) != _counted_out(lane.at_home)
        if reply is not None:
            assert reply == first or not self.operation.again, (before, reply)
            assert done, "answered, and lost"
        again, found = await self._live_on(lane, directory)
        await self._audited(directory, f"in the end, after {before}")
        if again is not None and first is not None:
            right = self.operation.repeated if done else same
            assert right(again, first), (before, again)
        _compare(found, final, before)
        return death

    async def _live_on(self, lane: Lane, directory: Path) -> tuple[Reply | None, Contents]:
        """A server as it always is: asked (once more), until nothing is left to do."""
        lane.receiver.calls.clear()
        reply = None
        async with lane.living(self._life(directory, works=True)):
            if self.operation.again:
                reply = self._reply(await lane.ask(self.operation.request(self.stage.scene)))
                assert reply is not None, lane.steps
            await self._drained(directory)
        ids = [call.id for call in lane.receiver.accepted]
        assert len(set(ids)) == len(ids), "a message twice"
        told = [str(self.stage.masked(call.body.decode())) for call in lane.receiver.accepted]
        files = [path.name for path in (directory / "proofs").rglob("*") if path.is_file()]
        return reply, {
            **self.stage.contents(directory),
            "proofs by name": sorted(name for name in files if not name.startswith(".upload.")),  # swept away later
            "messages told": sorted(told),
        }

    def _life(self, directory: Path, **more: Any) -> Life:
        return Life(directory=str(directory), now=self.operation.now, **more)

    def _reply(self, response: httpx2.Response | None) -> Reply | None:
        if response is None:
            return None
        replayed = "idempotency-replayed" in response.headers
        return Reply(response.status_code, str(self.stage.masked(response.text)), replayed)

    def _effect(self, directory: Path) -> object:
        with _reading(directory) as connection:
            ids = vars(self.stage.scene.places[self.operation.order])
            return connection.execute(self.operation.sql.format(**ids)).fetchone()[0]

    async def _drained(self, directory: Path) -> None:
        with _reading(directory) as connection:
            async with asyncio.timeout(PATIENCE_S):
                while not connection.execute(_DRAINED, (self.operation.now,)).fetchone()[0]:  # noqa: ASYNC110 - another process
                    await asyncio.sleep(DRAINED_EVERY_S)

    async def _audited(self, directory: Path, when: str) -> None:
        reader = await open_sqlite_reader(directory / DATABASE)
        try:
            report = await audit_database(replace(self.stage.scene.rt, db=reader))
        finally:
            await reader.close()
        assert report.clean, (when, report.findings)


async def survive(trial: Trial, lanes: Sequence[Lane], *, every: int) -> list[Death]:
    """Die around each COMMIT, before each change of a file and each `every`-th step; return what each death left, in order of the steps.

    The last one died when the operation had come through.
    """
    wanted = await trial.undisturbed(lanes[0])
    through = await trial.die(lanes[0], NEVER, wanted)
    spread = 1 if trial.operation.whole else every
    steps = [step for step, what in enumerate(through.steps, start=1) if step % spread == 0 or not _WITHIN.match(what)]
    waiting, deaths = deque(steps), [through]

    async def die_on(lane: Lane) -> None:
        try:
            while waiting:
                deaths.append(await trial.die(lane, waiting.popleft(), wanted))
        finally:
            waiting.clear()

    for outcome in await asyncio.gather(*map(die_on, lanes), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
    deaths.sort(key=lambda death: death.step)
    states = [state for state, _ in itertools.groupby(_counted_out(death.left) for death in deaths)]
    assert states[0] == _counted_out(lanes[0].at_home)
    assert len(states) == trial.operation.transactions + 1, "half a change was on the disk"
    return deaths


def _counted_out(contents: Contents) -> Contents:
    return {name: rows for name, rows in contents.items() if name not in COUNTED}


def _compare(found: Contents, wanted: Contents, when: str) -> None:
    differs = {
        name: (found[name], wanted[name]) for name in _counted_out(wanted) if list(found[name]) != list(wanted[name])
    }
    assert not differs, (when, differs)
    for name in COUNTED:
        assert 0 <= len(found[name]) - len(wanted[name]) <= 1, (when, name)


@contextmanager
def _reading(directory: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot write, so that what a death has left stays as it is."""
    with closing(sqlite3.connect(f"{(directory / DATABASE).as_uri()}?mode=ro", uri=True)) as connection:
        yield connection


def _rows(directory: Path) -> dict[str, list[tuple[object, ...]]]:
    with _reading(directory) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name").fetchall()
        return {table: connection.execute(f"SELECT * FROM {table}").fetchall() for (table,) in tables}  # noqa: S608


def _copy(lane: Lane) -> Path:
    """A copy of the lane's stage, in the place of the one before."""
    directory = lane.home.with_name(f"{lane.home.name}-life")
    shutil.rmtree(directory, ignore_errors=True)
    return Path(shutil.copytree(lane.home, directory))
