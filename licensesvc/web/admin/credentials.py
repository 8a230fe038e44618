"""`/credentials`: AK/SK pairs of the open API."""

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from licensesvc.domain.instants import rfc3339
from licensesvc.services.access.authenticate_software import SoftwareGate
from licensesvc.services.access.manage_credentials import CreateCredential, create_credential, revoke_credential
from licensesvc.services.runtime import Runtime
from licensesvc.storage import catalog, connections, credentials
from licensesvc.storage.credentials import Scope, StoredCredential
from licensesvc.storage.port import Tx
from licensesvc.web.admin.access import OWNER, READER
from licensesvc.web.admin.answers import IdempotencyKey, Live, OurId, PublicId, Time, perform, revocation, time_or_none
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class CredentialView(msgspec.Struct, frozen=True, kw_only=True):
    """A credential without its secret key; `product` is null for scope `seller`."""

    id: str
    connection: str
    product: str | None
    name: str
    access_key: str
    scope: Scope
    created_at: Time
    revoked_at: Time | None


class NewCredential(CredentialView, frozen=True, kw_only=True):
    """A credential with its secret key, which is shown this once."""

    secret_key: str

    def __repr__(self) -> str:
        return f"NewCredential({self.id})"


async def _views(tx: Tx, records: Sequence[StoredCredential]) -> list[CredentialView]:
    connection_ids = await connections.public_ids(tx, {stored.connection_id for stored in records})
    product_ids = await catalog.product_public_ids(
        tx, {stored.product_id for stored in records if stored.product_id is not None}
    )
    return [
        CredentialView(
            id=stored.public_id,
            connection=connection_ids[stored.connection_id],
            product=None if stored.product_id is None else product_ids[stored.product_id],
            name=stored.name,
            access_key=stored.access_key,
            scope=stored.scope,
            created_at=rfc3339(stored.created_at),
            revoked_at=time_or_none(stored.revoked_at),
        )
        for stored in records
    ]


@post(
    "/credentials",
    opt=OWNER,
    operation_id="createCredential",
    responses=problems(*JSON_BODY, "INVALID_PARAMETER", "IDEMPOTENCY_KEY_REUSED"),
)
async def add_credential(
    request: JSONRequest,
    data: JSONBody[CreateCredential],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[NewCredential]:
    """Make an access key and a secret key; the secret key is shown this once."""

    async def verb(tx: Tx) -> NewCredential:
        stored, secret = await create_credential(tx, runtime, data, by=request.user.name)
        view = (await _views(tx, [stored]))[0]
        return NewCredential(**msgspec.structs.asdict(view), secret_key=secret)

    return await perform(request, runtime, idempotency_key, verb)


@get("/credentials", opt=READER, operation_id="listCredentials", responses=problems("INVALID_CURSOR"))
async def list_credentials(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    connection: OurId = None,
    product: OurId = None,
    live: Live = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[CredentialView]]:
    """List credentials, also revoked ones, the oldest first."""
    where = (
        revocation(live)
        .given("c.connection_id = (SELECT id FROM connections WHERE public_id = {})", connection)
        .given("c.product_id = (SELECT id FROM products WHERE public_id = {})", product)
    )

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, CredentialView]]:
        records = await credentials.page(tx, after=after, limit=count, where=where)
        return list(zip([stored.id for stored in records], await _views(tx, records), strict=True))

    return await page_of(request, runtime.db, "credentials", cursor=cursor, limit=limit, fetch=fetch)


@delete("/credentials/{credential_id:str}", opt=OWNER, operation_id="revokeCredential", responses=problems("NOT_FOUND"))
async def delete_credential(
    request: Request[Any, Any, Any],
    credential_id: PublicId,
    runtime: NamedDependency[Runtime],
    gate: NamedDependency[SoftwareGate],
) -> None:
    """Revoke a credential: at once on this node, on others within seconds. Revoking twice is fine."""
    access_key = await runtime.db.write(lambda tx: revoke_credential(tx, runtime, credential_id, by=request.user.name))
    gate.forget(access_key)


ROUTES: Final = (add_credential, list_credentials, delete_credential)
