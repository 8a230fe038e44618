"""Rows of `alert_channels`: where alerts go. `address` and `recipient` are personal data of the operators: shown to them, never logged."""

from enum import StrEnum

import msgspec

from licensesvc.domain.delisting import Level
from licensesvc.domain.instants import Instant
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

_COLUMNS = (
    "id, public_id, name, kind, language, least_level, address, recipient, template, secret_header,"
    " secret, created_at, version"
)


class ChannelKind(StrEnum):
    """How a channel carries an alert."""

    MAIL = "mail"
    WEBHOOK = "webhook"


class StoredChannel(msgspec.Struct, frozen=True, kw_only=True):
    """A channel; `secret` is sealed. Language is a tag like `zh-CN`."""

    id: int
    public_id: str
    name: str
    kind: ChannelKind
    language: str
    least_level: Level
    address: str
    recipient: str | None = None
    template: str | None = None
    secret_header: str | None = None
    secret: bytes | None = None
    created_at: Instant
    version: int = 1

    def __repr__(self) -> str:
        return f"StoredChannel({self.public_id})"


def _read(row: Row) -> StoredChannel:
    return StoredChannel(
        id=row["id"],
        public_id=row["public_id"],
        name=row["name"],
        kind=ChannelKind(row["kind"]),
        language=row["language"],
        least_level=Level(row["least_level"]),
        address=row["address"],
        recipient=row["recipient"],
        template=row["template"],
        secret_header=row["secret_header"],
        secret=row["secret"],
        created_at=row["created_at"],
        version=row["version"],
    )


async def insert(tx: Tx, channel: StoredChannel) -> None:
    """Add a channel; its `id` and `version` fields are ignored."""
    await tx.run(
        "INSERT INTO alert_channels (public_id, name, kind, language, least_level, address, recipient, template,"
        " secret_header, secret, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        channel.public_id,
        channel.name,
        channel.kind.value,
        channel.language,
        channel.least_level.value,
        channel.address,
        channel.recipient,
        channel.template,
        channel.secret_header,
        channel.secret,
        channel.created_at,
    )


async def update(tx: Tx, channel: StoredChannel) -> bool:
    """Write every field back if the row still has `channel.version`; say whether it had."""
    changed = await tx.run(
        "UPDATE alert_channels SET name = $2, language = $3, least_level = $4, address = $5, recipient = $6,"
        " template = $7, secret_header = $8, secret = $9, version = version + 1 WHERE id = $1 AND version = $10",
        channel.id,
        channel.name,
        channel.language,
        channel.least_level.value,
        channel.address,
        channel.recipient,
        channel.template,
        channel.secret_header,
        channel.secret,
        channel.version,
    )
    return changed == 1


async def delete(tx: Tx, public_id: str) -> bool:
    """Remove a channel, its addresses with it; say whether it was there."""
    return await tx.run("DELETE FROM alert_channels WHERE public_id = $1", public_id) == 1


async def by_public_id(tx: Tx, public_id: str) -> StoredChannel | None:
    """Find one channel."""
    row = await tx.one(f"SELECT {_COLUMNS} FROM alert_channels WHERE public_id = $1", public_id)
    return _read(row) if row else None


async def page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[StoredChannel]:
    """Up to `limit` channels with an internal id above `after`, ascending; conditions name `c`."""
    rows = await tx.all(
        f"SELECT {_COLUMNS} FROM alert_channels c WHERE id > $1{where.sql(3)} ORDER BY id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [_read(row) for row in rows]
