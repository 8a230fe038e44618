"""Credentials of the open API: AK/SK pairs for software and for the seller's own programs."""

import base64
from typing import Annotated, Final

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import InvalidParameter, NotFound
from licensesvc.services.access.authenticate_software import secret_context
from licensesvc.services.runtime import Runtime
from licensesvc.signing import base64url
from licensesvc.storage import audit, catalog, connections, credentials
from licensesvc.storage.credentials import Scope, StoredCredential
from licensesvc.storage.port import Tx

_ACCESS_KEY_SYMBOLS: Final = 18
_ACCESS_KEY_BYTES: Final = 12
_SECRET_BYTES: Final = 30
"""Written as 40 characters."""


class CreateCredential(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Scope `device` is for software of one `product`, `seller` for programs that see the whole `connection`."""

    connection: str
    scope: Scope
    product: str | None = None
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100, examples=["desktop client"])]


async def create_credential(tx: Tx, rt: Runtime, command: CreateCredential, *, by: str) -> tuple[StoredCredential, str]:
    """Make a pair and return its record and the secret key, which is stored sealed. Raises InvalidParameter."""
    connection = await connections.by_public_id(tx, command.connection)
    if connection is None:
        raise InvalidParameter(f"there is no connection {command.connection}")
    product_id = await _product_id(tx, command, connection.connection.id)
    now = rt.clock()
    public_id = rt.new_id(ids.CREDENTIAL, now)
    secret = base64url.encode(rt.entropy(_SECRET_BYTES))
    stored = StoredCredential(
        id=0,
        public_id=public_id,
        connection_id=connection.connection.id,
        product_id=product_id,
        name=command.name,
        access_key="AK" + base64.b32encode(rt.entropy(_ACCESS_KEY_BYTES)).decode()[:_ACCESS_KEY_SYMBOLS],
        secret=rt.vault.seal(secret.encode(), secret_context(public_id)),
        scope=command.scope,
        created_at=now,
    )
    await credentials.insert(tx, stored)
    detail: dict[str, str | int | None] = {"scope": command.scope, "access_key": stored.access_key}
    await audit.append(tx, [AuditEvent(at=now, actor=by, kind="credential.created", subject=public_id, detail=detail)])
    return stored, secret


async def revoke_credential(tx: Tx, rt: Runtime, public_id: str, *, by: str) -> str:
    """Revoke a pair and return its access key, for whoever remembers it; NotFound when there is none."""
    now = rt.clock()
    access_key = await credentials.revoke(tx, public_id, now)
    if access_key is None:
        raise NotFound
    await audit.append(tx, [AuditEvent(at=now, actor=by, kind="credential.revoked", subject=public_id, detail={})])
    return access_key


async def _product_id(tx: Tx, command: CreateCredential, connection_id: int) -> int | None:
    if (command.scope is Scope.DEVICE) != (command.product is not None):
        raise InvalidParameter("a product is given exactly with scope device")
    if command.product is None:
        return None
    product = await catalog.product_by_public_id(tx, command.product)
    if product is None or product.connection_id != connection_id:
        raise InvalidParameter(f"the connection has no product {command.product}")
    return product.id
