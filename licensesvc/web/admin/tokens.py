"""`/tokens`: who may administer."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from licensesvc.domain.instants import rfc3339
from licensesvc.services.access.manage_tokens import CreateToken, create_token, revoke_token
from licensesvc.services.runtime import Runtime
from licensesvc.storage import credentials
from licensesvc.storage.credentials import Role, StoredToken
from licensesvc.storage.port import Tx
from licensesvc.web.admin.access import OWNER
from licensesvc.web.admin.answers import IdempotencyKey, Live, PublicId, Time, perform, revocation, time_or_none
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class TokenView(msgspec.Struct, frozen=True, kw_only=True):
    """A token as it is known: `prefix` is its beginning, the rest is not stored; `last_used_at` is exact to a minute."""

    id: str
    name: str
    prefix: str
    role: Role
    created_at: Time
    revoked_at: Time | None
    last_used_at: Time | None


class NewToken(TokenView, frozen=True, kw_only=True):
    """A token in full, which is shown this once."""

    token: str

    def __repr__(self) -> str:
        return f"NewToken({self.id})"


def _view(stored: StoredToken) -> TokenView:
    return TokenView(
        id=stored.public_id,
        name=stored.name,
        prefix=stored.prefix,
        role=stored.role,
        created_at=rfc3339(stored.created_at),
        revoked_at=time_or_none(stored.revoked_at),
        last_used_at=time_or_none(stored.last_used_at),
    )


@post(
    "/tokens",
    opt=OWNER,
    operation_id="createToken",
    responses=problems(*JSON_BODY, "IDEMPOTENCY_KEY_REUSED"),
)
async def add_token(
    request: JSONRequest,
    data: JSONBody[CreateToken],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[NewToken]:
    """Make an admin token; it is shown this once."""

    async def verb(tx: Tx) -> NewToken:
        stored, token = await create_token(tx, runtime, data, by=request.user.name)
        return NewToken(**msgspec.structs.asdict(_view(stored)), token=token)

    return await perform(request, runtime, idempotency_key, verb)


@get("/tokens", opt=OWNER, operation_id="listTokens", responses=problems("INVALID_CURSOR"))
async def list_tokens(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    role: Annotated[Role | None, QueryParameter(description="Only tokens of this role.")] = None,
    live: Live = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[TokenView]]:
    """List admin tokens, also revoked ones, the oldest first."""
    where = revocation(live).given("t.role = {}", role)

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, TokenView]]:
        records = await credentials.token_page(tx, after=after, limit=count, where=where)
        return [(stored.id, _view(stored)) for stored in records]

    return await page_of(request, runtime.db, "tokens", cursor=cursor, limit=limit, fetch=fetch)


@delete("/tokens/{token_id:str}", opt=OWNER, operation_id="revokeToken", responses=problems("NOT_FOUND"))
async def delete_token(request: Request[Any, Any, Any], token_id: PublicId, runtime: NamedDependency[Runtime]) -> None:
    """Revoke a live token, from now on."""
    await runtime.db.write(lambda tx: revoke_token(tx, runtime, token_id, by=request.user.name))


ROUTES: Final = (add_token, list_tokens, delete_token)
