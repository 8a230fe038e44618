"""The SQLite engine: one file, one write connection, a few readers, through aiosqlite.

In: connections and their PRAGMAs, the dialect, the translation of errors. Out: queueing and grouping (`writer`).

What the settings are for (architecture §5, measured): WAL with synchronous=FULL loses no acknowledged commit in a power cut; BEGIN is
always IMMEDIATE because a deferred one that reads and then writes dies at once with BUSY_SNAPSHOT; SQLite before 3.51.3 can corrupt a WAL
that is reset by several connections, so the writer alone checkpoints and readers cannot write.
"""

import asyncio
import json
import logging
import re
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

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
    # aiosqlite writes every statement with its values to its debug log
    logging.getLogger("aiosqlite").setLevel(logging.INFO)
    async with AsyncExitStack() as opened:
        with Guard(translate):
            _create(path)
            writing = await _connect(opened, path, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
            reading = [await _connect(opened, path, "query_only=ON", "wal_autocheckpoint=0") for _ in range(readers)]
        opened.pop_all()
    return _SqliteDatabase(_SqliteSession(writing, chain), reading, chain, on_batch)


def _create(path: Path) -> None:
    path.touch(mode=0o600)  # SQLite gives its -wal and -shm files the same mode


async def _connect(opened: AsyncExitStack, path: Path, *pragmas: str) -> aiosqlite.Connection:
    connection = await opened.enter_async_context(aiosqlite.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S))
    connection.row_factory = sqlite3.Row
    for pragma in pragmas:
        await connection.execute_fetchall(f"PRAGMA {pragma}")
    return connection


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

    def __init__(self, connection: aiosqlite.Connection, chain: str) -> None:
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
            return list(await self._connection.execute_fetchall(_dialect(sql), _values(args)))

    async def run(self, sql: str, /, *args: Any) -> int:
        """As `Tx.run`."""
        with self.guard:
            cursor = await self._connection.execute(_dialect(sql), _values(args))
        return max(cursor.rowcount, 0)

    async def many(self, sql: str, rows: Sequence[Sequence[Any]], /) -> None:
        """As `Tx.many`."""
        with self.guard:
            await self._connection.executemany(_dialect(sql), rows)


class _SqliteSession:
    """The write connection."""

    def __init__(self, connection: aiosqlite.Connection, chain: str) -> None:
        self._connection = connection
        self._chain = chain
        self._tx = SqliteTx(connection, chain)

    async def begin(self) -> Tx:
        self._tx = SqliteTx(self._connection, self._chain)
        with self._tx.guard:
            if self._connection.in_transaction:  # its ROLLBACK failed
                await self._connection.rollback()
            await self._connection.execute_fetchall("BEGIN IMMEDIATE")
        return self._tx

    async def savepoint(self, whole: Tx, fn: Callable[[Tx], Awaitable[T]]) -> T:
        """As `Writer` wants it: no other process writes here."""
        await whole.all("SAVEPOINT one")
        part = SqliteTx(self._connection, self._chain)
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
            await self._connection.execute_fetchall("COMMIT")
        except sqlite3.Error as error:
            if error.sqlite_errorcode & _PRIMARY == sqlite3.SQLITE_IOERR:
                # the commit may be whole in the WAL and return after a crash
                raise OutcomeUnknown(str(error)) from None
            raise translate(error) from None

    async def rollback(self) -> None:
        with suppress(sqlite3.Error):
            await self._connection.rollback()

    async def close(self) -> None:
        try:
            with suppress(sqlite3.Error):
                await self._connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            await self._connection.close()


class _SqliteDatabase:
    engine: Engine = "sqlite"

    def __init__(
        self, session: _SqliteSession, readers: Sequence[aiosqlite.Connection], chain: str, on_batch: OnBatch | None
    ) -> None:
        self._chain = chain
        self._writer = Writer(session, on_batch=on_batch, savepoint=session.savepoint)
        self._readers = readers
        self._idle: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
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
        tx = SqliteTx(connection, self._chain)
        try:
            with tx.guard:
                await connection.execute_fetchall("BEGIN")
            return await fn(tx)
        finally:  # also when cancelled: the statement goes on in its thread, ROLLBACK queues behind it
            await asyncio.shield(self._release(connection))

    async def _release(self, connection: aiosqlite.Connection) -> None:
        try:
            await connection.rollback()
        finally:
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
