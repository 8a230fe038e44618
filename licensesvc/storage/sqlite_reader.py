"""The database for a command that only reads, also beside the server that writes.

In: one read-only connection behind the port. Out: writing and checkpointing, which only the writer may do (`storage.sqlite`):
this connection can do neither, not even when it is closed.
"""

import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import aiosqlite

from licensesvc.storage.port import C, Database, Engine, R, StorageUnavailable, T, Tx, Verb
from licensesvc.storage.sqlite import BUSY_TIMEOUT_S, SqliteTx, translate
from licensesvc.storage.writer import Guard


async def open_sqlite_reader(path: Path) -> Database:
    """Open an existing database file; writing through it raises StorageUnavailable, and so does opening one that is not there."""
    with Guard(translate):
        connection = await aiosqlite.connect(
            f"file:{quote(os.path.abspath(path))}?mode=ro",  # noqa: ASYNC240, PTH100 - asks for the working directory, no file
            uri=True,
            isolation_level=None,
            timeout=BUSY_TIMEOUT_S,
        )
    connection.row_factory = sqlite3.Row
    return _SqliteReader(connection)


class _SqliteReader:
    """One reading function at a time: its callers are commands, not requests."""

    engine: Engine = "sqlite"

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    async def read(self, fn: Callable[[Tx], Awaitable[T]], /) -> T:
        tx = SqliteTx(self._connection, chain="")
        with tx.guard:
            await self._connection.execute_fetchall("BEGIN")
        try:
            return await fn(tx)
        finally:
            await self._connection.rollback()

    async def write(self, _fn: Callable[[Tx], Awaitable[T]], /) -> T:
        raise StorageUnavailable("the database was opened for reading only")

    async def submit(self, _verb: Verb[C, R], _command: C, /) -> R:
        raise StorageUnavailable("the database was opened for reading only")

    async def close(self) -> None:
        await self._connection.close()
