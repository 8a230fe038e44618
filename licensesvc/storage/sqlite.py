"""The SQLite engine: one file, one write connection, a few readers, through aiosqlite.

In: connections and their PRAGMAs, the dialect, the translation of errors. Out: queueing and grouping (`writer`).

A whole transaction runs in the thread of its connection (ADR 29): a change of threads costs more than most statements.

What the settings are for (architecture §5, measured): WAL with synchronous=FULL loses no acknowledged commit in a power cut; BEGIN is
always IMMEDIATE because a deferred one that reads and then writes dies at once with BUSY_SNAPSHOT; SQLite before 3.51.3 can corrupt a WAL
that is reset by several connections, so the writer alone checkpoints and readers cannot write.
"""

import asyncio
import json
import logging
import re
import sqlite3
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from contextvars import copy_context
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, Self

import aiosqlite

from licensesvc.storage.port import (
    C,
    ConstraintKind,
    ConstraintViolated,
    Database,
    Engine,
    OnBatch,
    OutcomeUnknown,
    R,
    Row,
    StorageUnavailable,
    T,
    Tx,
    Verb,
)
from licensesvc.storage.writer import Guard, Writer

BUSY_TIMEOUT_S = 5.0  # wait for another process, such as a backup, that holds the write lock
CACHED_STATEMENTS = 512  # prepared and kept by each connection; there are some hundred texts
READER_WAIT_S = 5.0  # wait for a free read connection

_CONSTRAINTS: Final[dict[int, ConstraintKind]] = {
    sqlite3.SQLITE_CONSTRAINT_CHECK: "check",
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: "unique",
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: "unique",
    sqlite3.SQLITE_CONSTRAINT_ROWID: "unique",
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: "foreign_key",
    sqlite3.SQLITE_CONSTRAINT_NOTNULL: "not_null",
}
_PRIMARY = 0xFF  # the lower byte of an extended result code
_UNAVAILABLE: Final = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_NOTADB,
}


async def open_sqlite(
    path: Path, *, chain: str = "main", readers: int = 2, on_batch: OnBatch | None = None
) -> Database:
    """Open the database file, made with mode 0600 if missing. Raises `StorageUnavailable`."""
    async with AsyncExitStack() as opened:
        with Guard(translate):
            _create(path)
            writing, *reading = [await opened.enter_async_context(Threaded(path)) for _ in range(1 + readers)]
            await writing.set_up("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
            for connection in reading:
                await connection.set_up("query_only=ON", "wal_autocheckpoint=0")
        opened.pop_all()
    return _SqliteDatabase(_SqliteSession(writing, chain), reading, chain, on_batch)


def _create(path: Path) -> None:
    path.touch(mode=0o600)  # SQLite gives its -wal and -shm files the same mode


class Threaded:
    """A connection with a thread of its own, in which transactions run."""

    raw: sqlite3.Connection
    """Touched in its thread only, but for `interrupt`."""

    def __init__(self, path: Path | str, *, uri: bool = False) -> None:
        # aiosqlite writes every statement with its values to its debug log
        logging.getLogger("aiosqlite").setLevel(logging.INFO)
        self._aio = aiosqlite.Connection(partial(self._connect, path, uri), iter_chunk_size=1)

    def _connect(self, path: Path | str, uri: bool) -> sqlite3.Connection:
        self.raw = sqlite3.connect(
            path, uri=uri, isolation_level=None, timeout=BUSY_TIMEOUT_S, cached_statements=CACHED_STATEMENTS
        )
        self.raw.row_factory = sqlite3.Row
        return self.raw

    async def __aenter__(self) -> Self:
        await self._aio
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self.close()

    async def set_up(self, *pragmas: str) -> None:
        """Run these PRAGMAs."""
        for pragma in pragmas:
            await self._aio.execute_fetchall(f"PRAGMA {pragma}")

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `work` returns or raises. It runs in the thread from its first line to its last, also when the caller is cancelled.

        RuntimeError where it awaits anything but statements: the thread has no event loop.
        """
        # aiosqlite has no public name for what all its methods do
        result: T = await self._aio._execute(copy_context().run, _finish, work)  # type: ignore[no-untyped-call]  # noqa: SLF001
        return result

    async def read(self, chain: str, fn: Callable[[Tx], Awaitable[T]]) -> T:
        """What `fn` returns from one snapshot."""
        try:
            return await self.run(partial(self._read, chain, fn))
        except asyncio.CancelledError:
            self.raw.interrupt()  # nobody waits for its statement any more
            raise

    async def _read(self, chain: str, fn: Callable[[Tx], Awaitable[T]]) -> T:
        tx = SqliteTx(self.raw, chain)
        with tx.guard:
            self.raw.execute("BEGIN")
        try:
            return await fn(tx)
        finally:
            self.raw.rollback()

    async def close(self) -> None:
        """Close the connection after what is queued."""
        await self._aio.close()


def _finish(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    coroutine = work()
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise RuntimeError("a transaction awaits its statements and nothing else")


def translate(error: Exception) -> Exception:
    """What the port calls an error of SQLite; others stay as they are."""
    if isinstance(error, OSError):
        return StorageUnavailable(str(error))
    code = getattr(error, "sqlite_errorcode", 0)
    if kind := _CONSTRAINTS.get(code):
        return ConstraintViolated(kind, str(error).partition(": ")[2])
    if code & _PRIMARY in _UNAVAILABLE:
        return StorageUnavailable(str(error))
    return error


@cache
def _dialect(sql: str) -> str:
    sql = re.sub(r"IN @(?:list|ints)\((\$\d+)\)", r"IN (SELECT value FROM json_each(\1))", sql)
    return re.sub(r"\$(\d+)", r"?\1", re.sub(r"@lock\([\w, ]+\)", "", sql))


def _values(args: Sequence[Any]) -> Sequence[Any]:
    return [json.dumps(arg) if isinstance(arg, list) else arg for arg in args]


class SqliteTx:
    """One transaction on one connection; see `Tx`."""

    engine: Engine = "sqlite"

    def __init__(self, connection: sqlite3.Connection, chain: str) -> None:
        self.chain = chain
        self.guard = Guard(translate)
        self._connection = connection

    async def one(self, sql: str, /, *args: Any) -> Row | None:
        """As `Tx.one`."""
        rows = await self.all(sql, *args)
        return rows[0] if rows else None

    async def all(self, sql: str, /, *args: Any) -> Sequence[Row]:
        """As `Tx.all`."""
        with self.guard:
            return self._connection.execute(_dialect(sql), _values(args)).fetchall()

    async def run(self, sql: str, /, *args: Any) -> int:
        """As `Tx.run`."""
        with self.guard:
            cursor = self._connection.execute(_dialect(sql), _values(args))
        return max(cursor.rowcount, 0)

    async def many(self, sql: str, rows: Sequence[Sequence[Any]], /) -> None:
        """As `Tx.many`."""
        with self.guard:
            self._connection.executemany(_dialect(sql), rows)

    async def aside(self, fn: Callable[..., T], /, *args: Any) -> T:
        """As `Tx.aside`: the thread is that of the connection anyway."""
        return fn(*args)


class _SqliteSession:
    """The write connection."""

    def __init__(self, connection: Threaded, chain: str) -> None:
        self._connection = connection
        self._chain = chain
        self._tx = SqliteTx(connection.raw, chain)

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._connection.run(work)

    async def begin(self) -> Tx:
        raw = self._connection.raw
        self._tx = SqliteTx(raw, self._chain)
        with self._tx.guard:
            if raw.in_transaction:  # its ROLLBACK failed
                raw.rollback()
            raw.execute("BEGIN IMMEDIATE")
        return self._tx

    async def savepoint(self, whole: Tx, fn: Callable[[Tx], Awaitable[T]]) -> T:
        """As `Writer` wants it: no other process writes here."""
        await whole.all("SAVEPOINT one")
        part = SqliteTx(self._connection.raw, self._chain)
        try:
            result = await fn(part)
            part.guard.check()
        except Exception:
            await whole.all(
                "ROLLBACK TO one"
            )  # fails where SQLite gave up the whole transaction, as when the disk is full
            await whole.all("RELEASE one")
            raise
        await whole.all("RELEASE one")
        return result

    async def commit(self) -> None:
        self._tx.guard.check()
        try:
            self._connection.raw.execute("COMMIT")
        except sqlite3.Error as error:
            if error.sqlite_errorcode & _PRIMARY == sqlite3.SQLITE_IOERR:
                # the commit may be whole in the WAL and return after a crash
                raise OutcomeUnknown(str(error)) from None
            raise translate(error) from None

    async def rollback(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.raw.rollback()

    async def close(self) -> None:
        try:
            with suppress(sqlite3.Error):
                await self._connection.set_up("wal_checkpoint(TRUNCATE)")
        finally:
            await self._connection.close()


class _SqliteDatabase:
    engine: Engine = "sqlite"

    def __init__(
        self, session: _SqliteSession, readers: Sequence[Threaded], chain: str, on_batch: OnBatch | None
    ) -> None:
        self._chain = chain
        self._writer = Writer(session, on_batch=on_batch, savepoint=session.savepoint)
        self._readers = readers
        self._idle: asyncio.Queue[Threaded] = asyncio.Queue()
        for connection in readers:
            self._idle.put_nowait(connection)
        self._closing: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return self._writer.waiting

    async def read(self, fn: Callable[[Tx], Awaitable[T]], /) -> T:
        if self._closing:
            raise StorageUnavailable("the database is closed")
        try:
            async with asyncio.timeout(READER_WAIT_S):
                connection = await self._idle.get()
        except TimeoutError:
            raise StorageUnavailable(f"no read connection became free in {READER_WAIT_S} s") from None
        try:
            return await connection.read(self._chain, fn)
        finally:  # also when cancelled: what the thread still does comes before the next transaction
            self._idle.put_nowait(connection)

    async def write(self, fn: Callable[[Tx], Awaitable[T]], /) -> T:
        return await self._writer.write(fn)

    async def submit(self, verb: Verb[C, R], command: C, /) -> R:
        return await self._writer.submit(verb, command)

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        for _ in self._readers:
            await (await self._idle.get()).close()
        await self._writer.close()  # last: it alone checkpoints
