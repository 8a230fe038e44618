"""Every table as plain rows, alike on both engines: what a backup carries and a restore brings back.

In: which tables there are, reading them page by page, filling empty ones. Out: the form of the file. The tables are read from the
migrations themselves, run on an empty SQLite in memory, so a new migration needs nothing here.
"""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from functools import cache
from graphlib import TopologicalSorter
from typing import Final, TypeAlias

import msgspec

from licensesvc.storage.migrate import known, statements
from licensesvc.storage.port import Tx

Value: TypeAlias = int | str | bytes | None
Values: TypeAlias = Sequence[Value]

PAGE: Final = 100
"""Rows read, and written, at once."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """A table with its columns and, among them, its primary key."""

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]


@cache
def tables(last: int) -> tuple[Table, ...]:
    """The tables as migration number `last` leaves them, each behind those that it refers to."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for file in known()[:last]:
            for statement in statements(file, "sqlite"):
                connection.execute(statement)
        names = [
            row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")
        ]
        refers_to = {
            name: {row[0] for row in connection.execute('SELECT "table" FROM pragma_foreign_key_list(?)', (name,))}
            - {name}
            for name in names
        }
        return tuple(_table(connection, name) for name in TopologicalSorter(refers_to).static_order())


def _table(connection: sqlite3.Connection, name: str) -> Table:
    columns = connection.execute("SELECT name, pk FROM pragma_table_info(?) ORDER BY cid", (name,)).fetchall()
    key = sorted((place, column) for column, place in columns if place)
    return Table(name=name, columns=tuple(column for column, _ in columns), key=tuple(column for _, column in key))


async def pages(tx: Tx, table: Table) -> AsyncIterator[list[list[Value]]]:
    """All rows by primary key, `PAGE` at a time."""
    columns, key = ", ".join(table.columns), ", ".join(table.key)
    after = ", ".join(f"${number}" for number in range(1, len(table.key) + 1))
    last: list[Value] = []
    while True:
        where = f"WHERE ({key}) > ({after})" if last else ""
        rows = await tx.all(f"SELECT {columns} FROM {table.name} {where} ORDER BY {key} LIMIT {PAGE}", *last)
        if not rows:
            return
        last = [rows[-1][column] for column in table.key]
        yield [[row[column] for column in table.columns] for row in rows]


async def fill(tx: Tx, table: Table, rows: Sequence[Values]) -> None:
    """Add rows as they were exported."""
    values = ", ".join(f"${number}" for number in range(1, len(table.columns) + 1))
    await tx.many(f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({values})", rows)


async def continue_ids(tx: Tx, table: Table) -> None:
    """Number new rows behind those that were filled in; SQLite does so by itself."""
    if tx.engine == "postgres" and "id" in table.columns:
        await tx.one(
            f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), top.id)"
            f" FROM (SELECT MAX(id) AS id FROM {table.name}) AS top WHERE top.id IS NOT NULL"
        )


async def first_filled(tx: Tx, among: Sequence[Table]) -> str | None:
    """The name of a table that has a row; None = all are empty."""
    for table in among:
        if await tx.one(f"SELECT 1 AS filled FROM {table.name} LIMIT 1") is not None:
            return table.name
    return None
