"""The database for a command that only reads, also beside the server that writes.

In: one read-only connection behind the port. Out: writing and checkpointing, which only the writer may do (`storage.sqlite`):
this connection can do neither, not even when it is closed.
"""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

from licensesvc.storage.port import C, Database, Engine, R, StorageUnavailable, T, Tx, Verb
from licensesvc.storage.sqlite import Threaded, translate
from licensesvc.storage.writer import Guard


async def open_sqlite_reader(path: Path) -> Database:
    """Open an existing database file; writing through it raises StorageUnavailable, and so does opening one that is not there."""
    # asks for the working directory, no file
    connection = Threaded(f"file:{quote(os.path.abspath(path))}?mode=ro", uri=True)  # noqa: ASYNC240, PTH100
    with Guard(translate):
        return _SqliteReader(await connection.__aenter__())


class _SqliteReader:
    """One reading function at a time: its callers are commands, not requests."""

    engine: Engine = "sqlite"
    waiting = 0

    def __init__(self, connection: Threaded) -> None:
        self._connection = connection

    async def read(self, fn: Callable[[Tx], Awaitable[T]], /) -> T:
        return await self._connection.read("", fn)

    async def write(self, _fn: Callable[[Tx], Awaitable[T]], /) -> T:
        raise StorageUnavailable("the database was opened for reading only")

    async def submit(self, _verb: Verb[C, R], _command: C, /) -> R:
        raise StorageUnavailable("the database was opened for reading only")

    async def close(self) -> None:
        await self._connection.close()
