"""`/vault-keys`: the keys that seal secrets and codes at rest, and their rotation."""

from typing import Final

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency

from licensesvc.domain.instants import rfc3339
from licensesvc.services.runtime import Runtime
from licensesvc.services.upkeep.rotate_vault import VaultKey, VaultResealer, rotate_vault, vault_keys
from licensesvc.settings import Settings
from licensesvc.storage.port import Tx
from licensesvc.web.admin.access import OWNER
from licensesvc.web.admin.answers import IdempotencyKey, Time, perform
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import problems


class VaultKeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key without its secret; `sealed` values lie under it, null `created_at` is the key of `init`."""

    id: int
    seals: bool
    sealed: int
    created_at: Time | None


class VaultKeysView(msgspec.Struct, frozen=True, kw_only=True):
    """All vault keys, the newest first."""

    items: list[VaultKeyView]


class RotatedView(msgspec.Struct, frozen=True, kw_only=True):
    """The id of the key that seals from now on."""

    seals: int


def _view(keys: list[VaultKey]) -> VaultKeysView:
    return VaultKeysView(
        items=[
            VaultKeyView(
                id=key.id,
                seals=key.seals,
                sealed=key.sealed,
                created_at=rfc3339(key.created_at) if key.created_at else None,
            )
            for key in keys
        ]
    )


@get("/vault-keys", opt=OWNER, operation_id="listVaultKeys", responses=problems())
async def list_all(runtime: NamedDependency[Runtime]) -> VaultKeysView:
    """List the vault keys with what still lies under each: the progress of a rotation."""
    return _view(await runtime.db.read(lambda tx: vault_keys(tx, runtime)))


@post("/vault-keys/rotate", opt=OWNER, operation_id="rotateVault", responses=problems("IDEMPOTENCY_KEY_REUSED"))
async def rotate(
    request: JSONRequest,
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
    resealer: NamedDependency[VaultResealer],
    idempotency_key: IdempotencyKey = None,
) -> Response[RotatedView]:
    """Seal with a new key from now on; what older keys sealed is sealed anew in the background. Takes no body."""

    async def verb(tx: Tx) -> RotatedView:
        return RotatedView(seals=await rotate_vault(tx, runtime, settings.vault_keys_file, by=request.user.name))

    answer = await perform(request, runtime, idempotency_key, verb)
    resealer.wake()
    return answer


ROUTES: Final = (list_all, rotate)
