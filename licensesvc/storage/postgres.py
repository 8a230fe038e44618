"""The PostgreSQL engine: one write connection that reconnects, a pool of readers, through asyncpg (extra `postgres`).

In: connections and their limits, the dialect, the translation of errors. Out: queueing and grouping (`writer`).

Readers go to the primary as well: seats and idempotency are never read from a replica (architecture §5).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import cache, partial
from typing import Any, Final

import asyncpg

from licensesvc.storage.port import (
    C,
    ConstraintKind,
    ConstraintViolated,
    Database,
    Deadlocked,
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

CONNECT_LIMIT_S = 3.0  # reaching one server that can write
STATEMENT_LIMIT_S = 5.0  # one statement, kept by the server
LOCK_LIMIT_S = 2.0  # waiting for rows another process holds, kept by the server
ANSWER_LIMIT_S = 2.0  # what the network may add before a connection counts as lost
READER_WAIT_S = 5.0  # waiting for a free read connection
CLOSE_LIMIT_S = 5.0  # waiting for readers at work
BACKOFF_S = (0.05, 1.0)  # first and longest pause between attempts to reconnect; meanwhile writes are refused at once

_CONSTRAINTS: Final[dict[str, ConstraintKind]] = {
    "23514": "check",
    "23505": "unique",
    "23503": "foreign_key",
    "23502": "not_null",
}
# SQLSTATE classes: connection, transaction rollback (deadlock), resources (disk full), operator (shutdown, time-out), system error
_UNAVAILABLE: Final = ("08", "40", "53", "57", "58")
_DEADLOCKED: Final = ("40001", "40P01")  # serialization failure, deadlock
_UNAVAILABLE_STATES: Final = (
    "25006",  # read-only transaction: this server is a standby now
    "25P03",  # idle in transaction for too long
    "55P03",  # lock not available
)


async def open_postgres(
    dsn: str,
    *,
    chain: str,
    readers: int = 4,
    on_batch: OnBatch | None = None,
    statement_limit_s: float = STATEMENT_LIMIT_S,
) -> Database:
    """Connect to the server of `dsn` that can write (several hosts may stand in it). Raises `StorageUnavailable`.

    A migration of large tables needs a database opened with a higher `statement_limit_s` (seconds).
    """
    options = {
        "target_session_attrs": "read-write",
        "timeout": CONNECT_LIMIT_S,
        "command_timeout": statement_limit_s + ANSWER_LIMIT_S,
        "server_settings": {
            "application_name": "licensesvc",
            "statement_timeout": _milliseconds(statement_limit_s),
            "lock_timeout": _milliseconds(LOCK_LIMIT_S),
            "idle_in_transaction_session_timeout": _milliseconds(statement_limit_s),
        },
    }
    session = _PostgresSession(partial(asyncpg.connect, dsn, **options), chain)
    await session.connect()
    pool = asyncpg.create_pool(dsn, min_size=0, max_size=readers, reset=_keep, **options)
    with Guard(_unreachable):
        await pool
    return _PostgresDatabase(session, pool, chain, on_batch)


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))


async def _keep(_connection: asyncpg.Connection) -> None:
    """A read-only transaction leaves nothing behind that the pool would have to reset."""


def _unreachable(error: Exception) -> Exception:
    """Whatever stops a connection from being made (network, password, missing database, time-out)."""
    return StorageUnavailable(f"{type(error).__name__}: {error}")


def _is_gone(error: Exception) -> bool:
    """Whether asyncpg refuses a connection that died between two statements; other `InterfaceError`s are mistakes in the call.

    When it has read the server's farewell but not yet the end of the stream it says `InternalClientError` instead.
    """
    return isinstance(error, asyncpg.InterfaceError) and any(word in str(error) for word in ("closed", "released"))


def _translate(error: Exception) -> Exception:
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if kind := _CONSTRAINTS.get(state):
            return ConstraintViolated(kind, error.constraint_name or error.column_name or "")
        if state in _DEADLOCKED:
            return Deadlocked(f"{type(error).__name__}: {error.args[0]}")
        if state.startswith(_UNAVAILABLE) or state in _UNAVAILABLE_STATES:
            return StorageUnavailable(f"{type(error).__name__}: {error.args[0]}")
    elif isinstance(error, OSError | asyncpg.InternalClientError) or _is_gone(error):
        return StorageUnavailable(f"{type(error).__name__}: {error}")
    return error


@cache
def _dialect(sql: str) -> str:
    sql = re.sub(r"IN @list\((\$\d+)\)", r"= ANY(\1::text[])", sql)
    sql = re.sub(r"IN @ints\((\$\d+)\)", r"= ANY(\1::bigint[])", sql)
    return re.sub(r"@lock\(([\w, ]+)\)", r"FOR NO KEY UPDATE OF \1", sql)


class _PostgresTx:
    engine: Engine = "postgres"

    def __init__(self, connection: asyncpg.Connection, chain: str) -> None:
        self.chain = chain
        self.connection = connection
        self.guard = Guard(_translate)

    async def one(self, sql: str, /, *args: Any) -> Row | None:
        with self.guard:
            row: Row | None = await self.connection.fetchrow(_dialect(sql), *args)
        return row

    async def all(self, sql: str, /, *args: Any) -> Sequence[Row]:
        with self.guard:
            rows: Sequence[Row] = await self.connection.fetch(_dialect(sql), *args)
        return rows

    async def run(self, sql: str, /, *args: Any) -> int:
        with self.guard:
            tag: str = await self.connection.execute(_dialect(sql), *args)  # such as "UPDATE 3", "CREATE TABLE"
        count = tag.rpartition(" ")[2]
        return int(count) if count.isdecimal() else 0

    async def many(self, sql: str, rows: Sequence[Sequence[Any]], /) -> None:
        with self.guard:
            await self.connection.executemany(_dialect(sql), rows)

    async def aside(self, fn: Callable[..., T], /, *args: Any) -> T:
        return await asyncio.to_thread(fn, *args)


class _PostgresSession:
    """The write connection, made again when it is lost."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], chain: str) -> None:
        self._connect = connect
        self._chain = chain
        self._connection: asyncpg.Connection | None = None
        self._tx: _PostgresTx
        self._pause, self._longest_pause = BACKOFF_S
        self._next_attempt = 0.0

    async def connect(self) -> asyncpg.Connection:
        """The connection, made if there is none. Raises `StorageUnavailable`, at once while an attempt has failed a moment ago."""
        if self._connection and not self._connection.is_closed():
            return self._connection
        now = asyncio.get_running_loop().time
        if now() < self._next_attempt:
            raise StorageUnavailable("the database could not be reached a moment ago")
        try:
            with Guard(_unreachable):
                self._connection = await self._connect()
        except StorageUnavailable:
            self._next_attempt = now() + self._pause
            self._pause = min(self._pause * 2, self._longest_pause)
            raise
        self._pause = BACKOFF_S[0]
        return self._connection

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await work()

    async def begin(self) -> Tx:
        connection = await self.connect()
        self._tx = _PostgresTx(connection, self._chain)
        with self._tx.guard:
            await connection.execute("BEGIN")
        return self._tx

    async def commit(self) -> None:
        self._tx.guard.check()
        connection = self._tx.connection
        if connection.is_closed():
            raise StorageUnavailable("the connection was lost before COMMIT")
        try:
            tag: str = await connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - whatever it is, it either says that nothing was kept or leaves that open
            if isinstance(error, asyncpg.PostgresError) and error.severity_en == "ERROR":
                raise _translate(error) from None
            connection.terminate()
            raise OutcomeUnknown(f"{type(error).__name__}: {error}") from None
        if tag != "COMMIT":
            raise StorageUnavailable(f"the server answered COMMIT with {tag}")

    async def rollback(self) -> None:
        if self._connection is None or self._connection.is_closed():
            return
        try:
            await self._connection.execute("ROLLBACK")
        except Exception:  # noqa: BLE001 - whatever it is, the next transaction wants a connection without it
            self._connection.terminate()

    async def close(self) -> None:
        if self._connection:
            await self._connection.close(timeout=CLOSE_LIMIT_S)


class _PostgresDatabase:
    engine: Engine = "postgres"

    def __init__(self, session: _PostgresSession, pool: asyncpg.Pool, chain: str, on_batch: OnBatch | None) -> None:
        self._chain = chain
        self._writer = Writer(session, on_batch=on_batch)
        self._pool = pool
        self._closing: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        return self._writer.waiting

    async def read(self, fn: Callable[[Tx], Awaitable[T]], /) -> T:
        if self._closing:
            raise StorageUnavailable("the database is closed")
        with Guard(_unreachable):
            connection = await self._pool.acquire(timeout=READER_WAIT_S)
        tx = _PostgresTx(connection, self._chain)
        try:
            with tx.guard:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    return await fn(tx)
        finally:
            await self._pool.release(connection)

    async def write(self, fn: Callable[[Tx], Awaitable[T]], /) -> T:
        return await self._writer.write(fn)

    async def submit(self, verb: Verb[C, R], command: C, /) -> R:
        return await self._writer.submit(verb, command)

    async def close(self) -> None:
        if self._closing is None:
            self._closing = asyncio.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            await asyncio.wait_for(self._pool.close(), CLOSE_LIMIT_S)
        except TimeoutError:
            self._pool.terminate()
        await self._writer.close()
