"""Finds the connection that a callback URL names, with the key that proves the marketplace."""

from typing import Final

import msgspec

from licensesvc.domain.connection import Connection
from licensesvc.domain.instants import SECOND, Instant
from licensesvc.services.runtime import Runtime
from licensesvc.storage import connections

CACHE_TIME: Final = 5 * SECOND
"""How long a connection is believed without asking the database: how late a change on another node may work."""


class CallbackDoor(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that may be called; `access_key` signs its calls and our answers (Key值, spec §0)."""

    connection: Connection
    access_key: str

    def __repr__(self) -> str:
        return f"CallbackDoor({self.connection.public_id})"


class CallbackDoors:
    """The doors of one process."""

    def __init__(self, rt: Runtime) -> None:
        self._rt = rt
        self._known: dict[str, tuple[CallbackDoor, Instant]] = {}
        self._changes = 0

    async def find(self, public_id: str) -> CallbackDoor | None:
        """The door of a connection; None = unknown, or no callback key is set."""
        now = self._rt.clock()
        door, opened_at = self._known.get(public_id, (None, 0))
        if door is not None and 0 <= now - opened_at < CACHE_TIME:
            return door
        changes = self._changes
        door = await self._open(public_id)
        if door is not None and changes == self._changes:  # else what was read may be older than the change
            self._known[public_id] = door, now
        return door

    def forget(self, public_id: str) -> None:
        """Ask the database again: the connection was changed."""
        self._changes += 1
        self._known.pop(public_id, None)

    async def _open(self, public_id: str) -> CallbackDoor | None:
        if "\0" in public_id:  # PostgreSQL takes no such text
            return None
        stored = await self._rt.db.read(lambda tx: connections.by_public_id(tx, public_id))
        if stored is None or stored.callback_key is None:
            self._known.pop(public_id, None)
            return None
        key = self._rt.vault.open(stored.callback_key, callback_key_context(public_id))
        return CallbackDoor(connection=stored.connection, access_key=key.decode())


def callback_key_context(public_id: str) -> str:
    """What the vault binds the callback key of a connection to."""
    return f"connection:{public_id}:callback_key"
