"""`/keys`: the keys that sign licenses and receipts, and their rotation."""

from typing import Annotated, Final, TypeAlias

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, PathParameter

from licensesvc.domain.instants import rfc3339
from licensesvc.services.runtime import Runtime
from licensesvc.services.upkeep.rotate_keys import CompromiseKey, compromise_key, rotate_keys
from licensesvc.settings import Settings
from licensesvc.signing.keyset import Keyset, KeyStatus
from licensesvc.storage.port import Tx
from licensesvc.web.admin.access import OWNER, READER
from licensesvc.web.admin.answers import IdempotencyKey, Time, perform
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems

Kid: TypeAlias = Annotated[
    str, PathParameter(pattern=r"^[A-Za-z0-9_-]{43}$(?!\n)", description="The kid: the RFC 7638 thumbprint of the key.")
]


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A signing key without its private part."""

    kid: str
    status: KeyStatus
    created_at: Time


class KeysView(msgspec.Struct, frozen=True, kw_only=True):
    """All signing keys, the oldest first."""

    items: list[KeyView]


def _view(keyset: Keyset) -> KeysView:
    keys = sorted(keyset.keys, key=lambda key: key.created_at)
    return KeysView(items=[KeyView(kid=key.kid, status=key.status, created_at=rfc3339(key.created_at)) for key in keys])


@get("/keys", opt=READER, operation_id="listKeys", responses=problems())
async def list_all(runtime: NamedDependency[Runtime]) -> KeysView:
    """List the signing keys; those that verifiers may believe are published at `/.well-known/jwks.json`."""
    return _view(runtime.signer.keyset)


@post("/keys/rotate", opt=OWNER, operation_id="rotateKeys", responses=problems("IDEMPOTENCY_KEY_REUSED"))
async def rotate(
    request: JSONRequest,
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
    idempotency_key: IdempotencyKey = None,
) -> Response[KeysView]:
    """Sign with the next key from now on; the one before verifies on. Takes no body."""

    async def verb(tx: Tx) -> KeysView:
        return _view(await rotate_keys(tx, runtime, settings.signing_keys_file, by=request.user.name))

    return await perform(request, runtime, idempotency_key, verb)


@post(
    "/keys/{kid:str}/compromise",
    opt=OWNER,
    operation_id="compromiseKey",
    responses=problems(*JSON_BODY, "NOT_FOUND", "IDEMPOTENCY_KEY_REUSED"),
)
async def compromise(
    request: JSONRequest,
    kid: Kid,
    data: JSONBody[CompromiseKey],
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
    idempotency_key: IdempotencyKey = None,
) -> Response[KeysView]:
    """Give up a key that leaked: never published, never believed again; what it signed is signed anew when asked for."""

    async def verb(tx: Tx) -> KeysView:
        path = settings.signing_keys_file
        return _view(await compromise_key(tx, runtime, path, kid, data, by=request.user.name))

    return await perform(request, runtime, idempotency_key, verb)


ROUTES: Final = (list_all, rotate, compromise)
