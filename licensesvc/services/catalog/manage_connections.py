"""Connections: marketplace accounts with their zones, and their secrets, which are sealed and never shown again."""

from typing import Annotated, Final, TypeAlias
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, UnsetType

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.connection import Connection, ErrorTable, Relay, Site, UnknownCodes
from licensesvc.domain.errors import InvalidParameter, NotFound, StaleVersion
from licensesvc.services.catalog.marketplace_account import api_secret_context
from licensesvc.services.catalog.open_connection import callback_key_context
from licensesvc.services.runtime import Runtime
from licensesvc.storage import audit, connections
from licensesvc.storage.connections import StoredConnection
from licensesvc.storage.port import Tx

_SEALED: Final = {"callback_key": callback_key_context, "api_secret": api_secret_context}
"""The secrets, and what the vault binds each of them to."""

Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=100, examples=["cn"])]
Zone: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=64, examples=["UTC"])]
BaseUrl: TypeAlias = Annotated[
    str, msgspec.Meta(max_length=200, description="for a sandbox only; null = the site's own hosts")
]
AccessKey: TypeAlias = Annotated[str, msgspec.Meta(max_length=128, pattern=r"^[!-+\--~]+$(?!\n)")]
Secret: TypeAlias = Annotated[str, msgspec.Meta(max_length=256, pattern=r"^[!-~]+$(?!\n)")]


class CreateConnection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An account on a site; `base_url` is for sandboxes only. `callback_key` and `api_secret` are never shown again."""

    name: Name
    site: Site
    base_url: BaseUrl | None = None
    wire_zone: Zone = "UTC"
    calendar_zone: Zone = "Asia/Shanghai"
    error_table: ErrorTable = ErrorTable.CURRENT
    unknown_codes: UnknownCodes = UnknownCodes.REFUSE
    relay: Relay = Relay.OFF
    callback_key: Secret | None = None
    api_access_key: AccessKey | None = None
    api_secret: Secret | None = None

    def __repr__(self) -> str:
        return f"CreateConnection({self.name!r})"


class ChangeConnection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to change of a connection; a field left out stays, null empties it."""

    name: Name | UnsetType = UNSET
    site: Site | UnsetType = UNSET
    base_url: BaseUrl | UnsetType | None = UNSET
    wire_zone: Zone | UnsetType = UNSET
    calendar_zone: Zone | UnsetType = UNSET
    error_table: ErrorTable | UnsetType = UNSET
    unknown_codes: UnknownCodes | UnsetType = UNSET
    relay: Relay | UnsetType = UNSET
    callback_key: Secret | UnsetType | None = UNSET
    api_access_key: AccessKey | UnsetType | None = UNSET
    api_secret: Secret | UnsetType | None = UNSET

    def __repr__(self) -> str:
        return "ChangeConnection(…)"


async def create_connection(tx: Tx, rt: Runtime, command: CreateConnection, *, by: str) -> StoredConnection:
    """Add a connection. Raises InvalidParameter; a name that exists already violates a UNIQUE constraint."""
    now = rt.clock()
    connection = Connection(
        id=0,
        public_id=rt.new_id(ids.CONNECTION, now),
        name=command.name,
        site=command.site,
        base_url=_checked_url(command.base_url),
        wire_zone=command.wire_zone,
        calendar_zone=command.calendar_zone,
        error_table=command.error_table,
        unknown_codes=command.unknown_codes,
        relay=command.relay,
    )
    await connections.insert(
        tx,
        connection,
        callback_key=_sealed(rt, connection.public_id, "callback_key", command.callback_key),
        api_access_key=command.api_access_key,
        api_secret=_sealed(rt, connection.public_id, "api_secret", command.api_secret),
        now=now,
    )
    detail: dict[str, str | int | None] = {"name": command.name, "site": command.site}
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind="connection.created", subject=connection.public_id, detail=detail)]
    )
    return await _known(tx, connection.public_id)


async def change_connection(
    tx: Tx, rt: Runtime, public_id: str, version: int, command: ChangeConnection, *, by: str
) -> StoredConnection:
    """Change a connection that still has this `version`. Raises NotFound, StaleVersion, InvalidParameter."""
    stored = await _known(tx, public_id)
    given = {name: value for name in command.__struct_fields__ if (value := getattr(command, name)) is not UNSET}
    access = {
        name: _sealed(rt, public_id, name, given[name]) if name in _SEALED else given[name]
        for name in (*_SEALED, "api_access_key")
        if name in given
    }
    public = {name: value for name, value in given.items() if name not in access}
    if "base_url" in public:
        public["base_url"] = _checked_url(public["base_url"])
    connection = msgspec.structs.replace(stored.connection, **public)
    changed = msgspec.structs.replace(stored, connection=connection, version=version, **access)
    if not await connections.update(tx, changed):
        raise StaleVersion
    detail: dict[str, str | int | None] = {"fields": " ".join(given), "version": version + 1}
    await audit.append(
        tx, [AuditEvent(at=rt.clock(), actor=by, kind="connection.changed", subject=public_id, detail=detail)]
    )
    return await _known(tx, public_id)


async def _known(tx: Tx, public_id: str) -> StoredConnection:
    stored = await connections.by_public_id(tx, public_id)
    if stored is None:
        raise NotFound
    return stored


def _sealed(rt: Runtime, public_id: str, field: str, secret: str | None) -> bytes | None:
    return None if secret is None else rt.vault.seal(secret.encode(), _SEALED[field](public_id))


def _checked_url(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        url = urlsplit(text)
        well_formed = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        well_formed = False
    else:
        well_formed = well_formed and not (url.username or url.password or url.query or url.fragment)
    if not well_formed or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidParameter("base_url must look like https://host or http://host:port")
    return text.rstrip("/")
