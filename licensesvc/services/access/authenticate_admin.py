"""Who administers: a bearer token, or the command line on the server's own control socket."""

import hmac
from contextlib import suppress
from typing import Final

import msgspec

from licensesvc.domain.instants import MINUTE
from licensesvc.services.runtime import Runtime
from licensesvc.signing.tokens import token_hash, token_prefix
from licensesvc.storage import credentials
from licensesvc.storage.credentials import Role, StoredToken
from licensesvc.storage.port import StorageError

LAST_USE_PRECISION: Final = MINUTE
"""How exactly the last use of a token is known: reading must not write every time."""

_RANK: Final = {Role.READER: 0, Role.OPERATOR: 1, Role.OWNER: 2}


class Administrator(msgspec.Struct, frozen=True, kw_only=True):
    """`name` stands in audit events: the token's public id, or `cli`."""

    name: str
    role: Role

    def may(self, needed: Role) -> bool:
        """Whether this role includes the needed one."""
        return _RANK[self.role] >= _RANK[needed]


COMMAND_LINE: Final = Administrator(name="cli", role=Role.OWNER)
"""Whoever may open the control socket, which only the server's own user can."""


async def authenticate_admin(rt: Runtime, token: str) -> Administrator | None:
    """Return whose live token this is, None if it is nobody's; the comparison takes the same time for every wrong one."""
    prefix = token_prefix(token)
    if prefix is None:
        return None
    stored = await rt.db.read(lambda tx: credentials.token_by_prefix(tx, prefix))
    if stored is None or not hmac.compare_digest(stored.token_hash, token_hash(token)):
        return None
    await _note_use(rt, stored)
    return Administrator(name=stored.public_id, role=stored.role)


async def _note_use(rt: Runtime, stored: StoredToken) -> None:
    now = rt.clock()
    if stored.last_used_at is not None and now - stored.last_used_at < LAST_USE_PRECISION:
        return
    with suppress(StorageError):  # a full disk must not keep administrators from reading
        await rt.db.write(lambda tx: credentials.store_token_use(tx, stored.id, now))
