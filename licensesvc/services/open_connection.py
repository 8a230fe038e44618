"""Finds the connection that a callback URL names, with the key that proves the marketplace."""

import msgspec

from licensesvc.domain.connection import Connection
from licensesvc.services.runtime import Runtime
from licensesvc.storage import connections


class CallbackDoor(msgspec.Struct, frozen=True, kw_only=True):
    """A connection that may be called; `access_key` signs its calls and our answers (Key值, spec §0)."""

    connection: Connection
    access_key: str

    def __repr__(self) -> str:
        return f"CallbackDoor({self.connection.public_id})"


async def callback_door(rt: Runtime, public_id: str) -> CallbackDoor | None:
    """Open the door of a connection; None = unknown, or no callback key is set."""
    if "\0" in public_id:  # PostgreSQL takes no such text
        return None
    stored = await rt.db.read(lambda tx: connections.by_public_id(tx, public_id))
    if stored is None or stored.callback_key is None:
        return None
    key = rt.vault.open(stored.callback_key, callback_key_context(public_id))
    return CallbackDoor(connection=stored.connection, access_key=key.decode())


def callback_key_context(public_id: str) -> str:
    """What the vault binds the callback key of a connection to."""
    return f"connection:{public_id}:callback_key"
