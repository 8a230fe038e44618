"""The columns that the vault seals: which they are, by which vault key, reading them for a check and writing them anew.

In: SQL only. Out: opening them (`services.sealed_values`). A test holds `COLUMNS` against every binary column of the schema.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from licensesvc.storage.port import Tx

PAGE: Final = 200
"""Values read, and written, at once."""


class SealedColumn(msgspec.Struct, frozen=True, kw_only=True):
    """A column with the primary key of its table; `owner` is the SQL text of the name that its contents are sealed for."""

    table: str
    column: str
    key: tuple[str, ...] = ("id",)
    owner: str = "c.public_id"


class SealedValue(msgspec.Struct, frozen=True, kw_only=True):
    """One sealed value; `owner` is what its column says."""

    key: tuple[Any, ...]
    owner: str
    sealed: bytes

    def __repr__(self) -> str:
        return f"SealedValue({self.owner!r})"


COLUMNS: Final = (
    SealedColumn(table="connections", column="callback_key"),
    SealedColumn(table="connections", column="api_secret"),
    SealedColumn(table="credentials", column="secret"),
    SealedColumn(table="messages", column="sealed_request"),
    SealedColumn(table="alert_channels", column="secret"),
    SealedColumn(table="supervision_cases", column="buyer_code"),
    SealedColumn(table="webhook_secrets", column="sealed"),
    SealedColumn(table="buyer_links", column="sealed_token"),
    SealedColumn(
        table="license_codes",
        column="sealed",
        owner="(SELECT l.public_id FROM licenses l WHERE l.id = c.license_id)",
    ),
    SealedColumn(
        table="idempotency_keys",
        column="response",
        key=("scope", "idempotency_key"),
        owner="c.scope || ':' || c.idempotency_key",
    ),
    SealedColumn(table="relay_usage", column="client", owner="c.client_index"),
)
_KEY_ID: Final = "substr(c.{column}, 2, 2)"  # bytes 2 and 3 (signing.vault)


async def counts(tx: Tx, column: SealedColumn) -> dict[int, int]:
    """How many values of a column each vault key has sealed, by key id."""
    key_id = _KEY_ID.format(column=column.column)
    rows = await tx.all(
        f"SELECT {key_id} AS key_id, COUNT(*) AS sealed FROM {column.table} c"
        f" WHERE c.{column.column} IS NOT NULL GROUP BY {key_id}"
    )
    return {int.from_bytes(row["key_id"], "big"): row["sealed"] for row in rows}


async def sample(tx: Tx, column: SealedColumn, key_id: int) -> SealedValue | None:
    """Any value of a column under this vault key."""
    rows = await tx.all(
        f"{_select(column)} WHERE {_KEY_ID.format(column=column.column)} = $1 LIMIT 1", key_id.to_bytes(2, "big")
    )
    return _values(column, rows)[0] if rows else None


async def newest(tx: Tx, column: SealedColumn) -> SealedValue | None:
    """The value of the newest row that has one."""
    order = ", ".join(f"c.{name} DESC" for name in column.key)
    rows = await tx.all(f"{_select(column)} WHERE c.{column.column} IS NOT NULL ORDER BY {order} LIMIT 1")
    return _values(column, rows)[0] if rows else None


async def page_under_others(
    tx: Tx, column: SealedColumn, key_id: int, after: tuple[Any, ...] | None
) -> list[SealedValue]:
    """Up to `PAGE` values by primary key above `after` that another vault key has sealed."""
    keys = ", ".join(f"c.{name}" for name in column.key)
    above = ", ".join(f"${number}" for number in range(2, 2 + len(column.key)))
    beyond = f" AND ({keys}) > ({above})" if after else ""
    rows = await tx.all(
        f"{_select(column)} WHERE {_KEY_ID.format(column=column.column)} <> $1{beyond} ORDER BY {keys} LIMIT {PAGE}",
        key_id.to_bytes(2, "big"),
        *(after or ()),
    )
    return _values(column, rows)


async def replace(tx: Tx, column: SealedColumn, values: Sequence[tuple[SealedValue, bytes]]) -> None:
    """Write values anew, each unless it has changed since it was read."""
    row = " AND ".join(f"{name} = ${number}" for number, name in enumerate(column.key, start=3))
    await tx.many(
        f"UPDATE {column.table} SET {column.column} = $1 WHERE {column.column} = $2 AND {row}",
        [(anew, value.sealed, *value.key) for value, anew in values],
    )


def _select(column: SealedColumn) -> str:
    keys = ", ".join(f"c.{name} AS key_{number}" for number, name in enumerate(column.key))
    return f"SELECT {keys}, {column.owner} AS owner, c.{column.column} AS sealed FROM {column.table} c"


def _values(column: SealedColumn, rows: Sequence[Any]) -> list[SealedValue]:
    return [
        SealedValue(
            key=tuple(row[f"key_{number}"] for number in range(len(column.key))),
            owner=row["owner"],
            sealed=row["sealed"],
        )
        for row in rows
    ]
