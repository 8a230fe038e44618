"""Tokens of administrators: made, shown once, revoked."""

from typing import Annotated, Final

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import NotFound
from licensesvc.services.runtime import Runtime
from licensesvc.signing.tokens import new_token, token_hash, token_prefix
from licensesvc.storage import audit, credentials
from licensesvc.storage.credentials import Role, StoredToken
from licensesvc.storage.port import Tx

TOKEN_KIND: Final = "lsa"  # noqa: S105  -- how every admin token begins


class CreateToken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A token for one person or program; `reader` reads, `operator` works on orders and cases, `owner` does everything."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100, examples=["Li Wei"])]
    role: Role


async def create_token(tx: Tx, rt: Runtime, command: CreateToken, *, by: str) -> tuple[StoredToken, str]:
    """Make a token and return its record and the token itself, of which only the hash is stored."""
    now = rt.clock()
    token = new_token(TOKEN_KIND, rt.entropy)
    prefix = token_prefix(token)
    assert prefix is not None
    stored = StoredToken(
        id=0,
        public_id=rt.new_id(ids.TOKEN, now),
        name=command.name,
        prefix=prefix,
        token_hash=token_hash(token),
        role=command.role,
        created_at=now,
    )
    await credentials.insert_token(tx, stored)
    detail: dict[str, str | int | None] = {"role": command.role}
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind="token.created", subject=stored.public_id, detail=detail)]
    )
    return stored, token


async def revoke_token(tx: Tx, rt: Runtime, public_id: str, *, by: str) -> None:
    """Revoke a live token; NotFound otherwise."""
    now = rt.clock()
    if not await credentials.revoke_token(tx, public_id, now):
        raise NotFound
    await audit.append(tx, [AuditEvent(at=now, actor=by, kind="token.revoked", subject=public_id, detail={})])
