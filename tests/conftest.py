"""Fixtures every folder may use: a new database on each engine."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from licensesvc.storage.port import Database
from tests.support_storage import create_database, create_sqlite, drop_database, open_at, running_postgres

# Unconfigured, it draws every traceback with its local variables: seconds for a test that provokes hundreds of errors.
structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with running_postgres() as dsn:
        yield dsn


@pytest.fixture(params=["sqlite", "postgres"])
def engine(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tables() -> bool:
    """Whether the database of this test begins with the tables of this release."""
    return True


@pytest.fixture
async def place(engine: str, request: pytest.FixtureRequest, tmp_path: Path, tables: bool) -> AsyncIterator[Path | str]:
    """Where the database of this test lies: a path or a DSN."""
    if engine == "sqlite":
        path = tmp_path / "licensesvc.db"
        if tables:
            await create_sqlite(path)
        yield path
        return
    server = request.getfixturevalue("postgres_server")
    dsn = await create_database(server, tables=tables)
    yield dsn
    await drop_database(server, dsn)


@pytest.fixture
async def database(place: Path | str) -> AsyncIterator[Database]:
    database = await open_at(place)
    yield database
    await database.close()
