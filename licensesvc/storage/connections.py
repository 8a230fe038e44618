"""Rows of `connections`: marketplace accounts with their sealed secrets."""

from collections.abc import Collection

import msgspec

from licensesvc.domain.connection import Connection, ErrorTable, Relay, Site, UnknownCodes
from licensesvc.domain.instants import Instant
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

_COLUMNS = (
    "id, public_id, name, site, base_url, wire_zone, calendar_zone, error_table, unknown_codes, relay,"
    " callback_key, api_access_key, api_secret, version"
)


class StoredConnection(msgspec.Struct, frozen=True, kw_only=True):
    """A connection and what only the vault can open: the callback key and the secret of the open API."""

    connection: Connection
    callback_key: bytes | None
    api_access_key: str | None
    api_secret: bytes | None
    version: int

    def __repr__(self) -> str:
        return f"StoredConnection({self.connection.public_id})"


def _read(row: Row) -> StoredConnection:
    return StoredConnection(
        connection=Connection(
            id=row["id"],
            public_id=row["public_id"],
            name=row["name"],
            site=Site(row["site"]),
            base_url=row["base_url"],
            wire_zone=row["wire_zone"],
            calendar_zone=row["calendar_zone"],
            error_table=ErrorTable(row["error_table"]),
            unknown_codes=UnknownCodes(row["unknown_codes"]),
            relay=Relay(row["relay"]),
        ),
        callback_key=row["callback_key"],
        api_access_key=row["api_access_key"],
        api_secret=row["api_secret"],
        version=row["version"],
    )


async def insert(
    tx: Tx,
    connection: Connection,
    *,
    callback_key: bytes | None,
    api_access_key: str | None,
    api_secret: bytes | None,
    now: Instant,
) -> int:
    """Add a connection; its `id` field is ignored, the new internal id is returned."""
    row = await tx.one(
        "INSERT INTO connections (public_id, name, site, base_url, wire_zone, calendar_zone,"
        " error_table, unknown_codes, relay, callback_key, api_access_key, api_secret, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING id",
        connection.public_id,
        connection.name,
        connection.site.value,
        connection.base_url,
        connection.wire_zone,
        connection.calendar_zone,
        connection.error_table.value,
        connection.unknown_codes.value,
        connection.relay.value,
        callback_key,
        api_access_key,
        api_secret,
        now,
    )
    assert row is not None
    return int(row["id"])


async def update(tx: Tx, stored: StoredConnection) -> bool:
    """Write every field back if the row still has `stored.version`; say whether it had."""
    connection = stored.connection
    changed = await tx.run(
        "UPDATE connections SET name = $2, site = $3, base_url = $4, wire_zone = $5, calendar_zone = $6,"
        " error_table = $7, unknown_codes = $8, relay = $9, callback_key = $10, api_access_key = $11, api_secret = $12,"
        " version = version + 1 WHERE id = $1 AND version = $13",
        connection.id,
        connection.name,
        connection.site.value,
        connection.base_url,
        connection.wire_zone,
        connection.calendar_zone,
        connection.error_table.value,
        connection.unknown_codes.value,
        connection.relay.value,
        stored.callback_key,
        stored.api_access_key,
        stored.api_secret,
        stored.version,
    )
    return changed == 1


async def by_public_id(tx: Tx, public_id: str) -> StoredConnection | None:
    """Find a connection by the id that its callback URL carries."""
    row = await tx.one(f"SELECT {_COLUMNS} FROM connections WHERE public_id = $1", public_id)
    return _read(row) if row else None


async def by_id(tx: Tx, connection_id: int) -> StoredConnection:
    """Load a connection that a foreign key promises."""
    row = await tx.one(f"SELECT {_COLUMNS} FROM connections WHERE id = $1", connection_id)
    assert row is not None
    return _read(row)


async def of_access_keys(tx: Tx, access_keys: Collection[str]) -> list[StoredConnection]:
    """The connections that call the open API with one of these access keys."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM connections WHERE api_access_key IN @list($1) ORDER BY id", sorted(access_keys)
    )
    return [_read(row) for row in rows]


async def public_ids(tx: Tx, connection_ids: Collection[int]) -> dict[int, str]:
    """The public ids of these connections, by internal id."""
    rows = await tx.all("SELECT id, public_id FROM connections WHERE id IN @ints($1)", sorted(connection_ids))
    return {row["id"]: row["public_id"] for row in rows}


async def page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[StoredConnection]:
    """Up to `limit` connections with an internal id above `after`, ascending; conditions name `c`."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM connections c WHERE id > $1{where.sql(3)} ORDER BY id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [_read(row) for row in rows]
