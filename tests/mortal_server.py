"""A server that kills itself with SIGKILL before the n-th step of its work, in as many lives as a test asks for.

`python -m tests.mortal_server DATA_DIR` puts the application together once, on the keys of that directory, and listens. Whoever connects
gets a process of its own that reads one `Life` a line and forks it; a life says where it serves, what it dies before, and how it ended.

A step is one statement of the process on any connection, BEGIN, COMMIT and ROLLBACK too, the moment after a COMMIT and before its answer, or one
change of the proof store's files. The first request arms it. A life that `works` is the server as it always is, with its background work.

`fault` plants a bug, for controls: `late` commits the events of cases in a second transaction, `unaudited` those of the audit; `early` answers
before the commit.
"""

import asyncio
import gc
import os
import select
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio._backends._asyncio  # noqa: F401 - each life would import it anew
import msgspec
import uvloop

from licensesvc.app import create_app
from licensesvc.cli.serving import listen_tcp, run_server, stop_with_parent, url_of
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision import proof_store, supervision_clock
from licensesvc.services.supervision.supervision_clock import SupervisionClock
from licensesvc.services.webhooks import webhook_dispatcher
from licensesvc.settings import Settings
from licensesvc.signing import keyset, vault
from licensesvc.signing.signer import KeysetSigner
from licensesvc.storage import audit, supervision
from licensesvc.storage.port import Database
from licensesvc.storage.sqlite import open_sqlite

NEVER = 1_000_000
LOOK = "/look"
"""A request to this path lets the clock of supervision look once, where there is no background work."""
EVERY_S = 0.05
"""How often background work looks, instead of up to 20 s: a test waits for it."""
HELD_BACK_S = 0.01
"""How long a commit comes after its answer, when the fault is `early`."""

_STDIN, _STDOUT = 0, 1


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """One life on a data directory: what its clock shows, before which step it dies (from 1), whether it does background work.

    One that `tells` says before each step what it is.
    """

    directory: str
    now: int
    dies_before: int = NEVER
    works: bool = False
    tells: bool = False
    fault: str = ""


class Death:
    """Counts the steps of an armed process and ends it."""

    def __init__(self, life: Life) -> None:
        self.armed = False
        self._life = life
        self._steps = 0

    def step(self, what: str) -> None:
        if not self.armed:
            return
        self._steps += 1
        if self._life.tells:
            tell(f"step {what}")
        if self._steps == self._life.dies_before:
            tell(f"dies before {what}")
            os.kill(os.getpid(), signal.SIGKILL)

    def stand_before_everything(self) -> None:
        """Count every statement of every connection, and what the proof store does to files."""
        sqlite3.connect = partial(sqlite3.connect, factory=stepped(self.step))
        for owner, name in ((os, "fsync"), (Path, "hardlink_to"), (Path, "unlink"), (Path, "mkdir")):
            setattr(owner, name, self._before_call(getattr(owner, name), name))
        proof_store._on_disk = self._before_call(proof_store._on_disk, "work on disk")

    def _before_call(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        def stepped(*args: Any, **options: Any) -> Any:
            self.step(name)
            return function(*args, **options)

        return stepped


def stepped(step: Callable[[str], None]) -> type[sqlite3.Connection]:
    """A connection that tells each statement before it is carried out."""

    class Stepped(sqlite3.Connection):
        def execute(self, sql, *values):
            step(sql)
            result = super().execute(sql, *values)
            if sql == "COMMIT":
                step("the answer to COMMIT")
            return result

        def executemany(self, sql, rows):
            step(sql)
            return super().executemany(sql, rows)

        def rollback(self):
            step("rollback")
            super().rollback()

    return Stepped


class LateDatabase:
    """The database that a life opens, for an application that was put together before."""

    def __init__(self) -> None:
        self.db: Database | None = None
        self.fault = ""
        self._late: list[Callable[[Any], Awaitable[None]]] = []
        self._writing: set[asyncio.Task[None]] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.db, name)

    async def write(self, fn):
        if self.fault == "early":
            return await self._answer_first(fn)
        result = await self.db.write(fn)
        late, self._late = self._late, []
        for follow in late:
            await self.db.write(follow)
        return result

    def plant(self, fault: str) -> None:
        """Let what belongs into the transaction of a step follow in one of its own."""
        self.fault = fault
        store, append = supervision.store, audit.append

        async def store_late(tx, cases, events):
            await store(tx, cases, [])
            self._late.append(lambda later: store(later, [], events))

        async def append_late(_tx, events):
            self._late.append(lambda later: append(later, events))

        if fault == "late":
            supervision.store = store_late
        elif fault == "unaudited":
            audit.append = append_late

    async def _answer_first(self, fn):
        loop = asyncio.get_running_loop()
        told = loop.create_future()

        async def decide(tx):
            try:
                loop.call_soon_threadsafe(told.set_result, await fn(tx))
            except Exception as error:
                loop.call_soon_threadsafe(told.set_exception, error)
                raise
            await tx.aside(time.sleep, HELD_BACK_S)

        task = asyncio.create_task(self.db.write(decide))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return await told


class Maker:
    """The applications of all lives, one at rest but for its requests and one at work."""

    def __init__(self, data_dir: Path) -> None:
        self.now = 0
        self.database: Any = LateDatabase()
        settings = Settings(data_dir=".", outbound_networks="127.0.0.0/8", reconcile_at="")
        self.rt = Runtime(
            db=self.database,
            vault=vault.load(data_dir / "vault-keys.json"),
            signer=KeysetSigner(keyset.load(data_dir / "signing-keys.json")),
            clock=lambda: self.now,
            entropy=os.urandom,
            issuer="https://licenses.example",
            proofs_dir=Path("proofs"),
        )
        webhook_dispatcher.EVERY_S = supervision_clock.EVERY_S = EVERY_S  # type: ignore[misc]
        self.apps = {works: create_app(self.rt, settings, outbox=works) for works in (False, True)}

    async def live(self, life: Life) -> None:
        death = Death(life)
        death.stand_before_everything()
        self.now = life.now
        self.database.db = await open_sqlite(Path("licensesvc.db"))
        self.database.plant(life.fault)
        app = self.apps[life.works]

        async def armed(scope, receive, send):
            if scope["type"] == "http":
                death.armed = True
                if scope["path"] == LOOK:
                    await SupervisionClock(self.rt).look()
            await app(scope, receive, send)

        with listen_tcp("127.0.0.1", 0) as tcp:
            await run_server(armed, [tcp], f"ready on {url_of(tcp)} as {os.getpid()}")
        await self.database.db.close()


def tell(line: str) -> None:
    """One line to whoever asked for the life."""
    os.write(_STDOUT, f"{line.splitlines()[0]}\n".encode())


def live_again_and_again(maker: Maker) -> None:
    """Fork a life for each line of standard input; they see its end as their parent's."""
    with os.fdopen(os.dup(_STDIN), buffering=1) as lines:
        for line in lines:
            life = msgspec.json.decode(line, type=Life)
            child = os.fork()
            if child == 0:
                os.chdir(life.directory)
                stop_with_parent()
                uvloop.run(maker.live(life))
                os._exit(0)
            _, status = os.waitpid(child, 0)
            tell(f"ended with {os.waitstatus_to_exitcode(status)}")


def serve(maker: Maker, listening: socket.socket) -> None:
    """A process for whoever connects, until standard input ends; theirs end with their connections."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while _STDIN not in select.select([_STDIN, listening], [], [])[0]:
        connection, _ = listening.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (_STDIN, _STDOUT):
                os.dup2(connection.fileno(), descriptor)
            connection.close()
            listening.close()
            live_again_and_again(maker)
            os._exit(0)
        connection.close()


if __name__ == "__main__":
    with listen_tcp("127.0.0.1", 0) as tcp:
        made = Maker(Path(sys.argv[1]))
        gc.collect()
        gc.freeze()  # the collector of a life leaves pages alone that it shares with all others
        print(f"ready on {url_of(tcp)}", flush=True)  # noqa: T201 - what a starter waits for
        serve(made, tcp)
