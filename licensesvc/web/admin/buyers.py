"""`/buyers`: who bought, and the erasure of what is known of them."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from licensesvc.domain.instants import rfc3339
from licensesvc.services.runtime import Runtime
from licensesvc.services.upkeep.erase_buyer import EraseBuyer, erase_buyer
from licensesvc.storage import buyers, connections
from licensesvc.storage.buyers import StoredBuyer
from licensesvc.storage.port import Tx
from licensesvc.web.admin.access import OPERATOR, OWNER
from licensesvc.web.admin.answers import IdempotencyKey, PublicId, Time, perform, time_or_none
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems

CustomerId = Annotated[
    str | None, QueryParameter(min_length=1, max_length=100, description="The marketplace's id of the customer.")
]


class PersonView(msgspec.Struct, frozen=True, kw_only=True):
    """What the marketplace told of a buyer."""

    customer_id: str
    name: str | None
    real_name: str | None
    email: str | None
    mobile: str | None

    def __repr__(self) -> str:
        return "PersonView(…)"


class BuyerView(msgspec.Struct, frozen=True, kw_only=True):
    """A buyer; `person` is null once erased."""

    id: str
    connection: str
    person: PersonView | None
    created_at: Time
    erased_at: Time | None


async def _views(tx: Tx, records: Sequence[StoredBuyer]) -> list[BuyerView]:
    connection_ids = await connections.public_ids(tx, {buyer.connection_id for buyer in records})
    return [
        BuyerView(
            id=buyer.public_id,
            connection=connection_ids[buyer.connection_id],
            person=PersonView(**msgspec.structs.asdict(buyer.person)) if buyer.person else None,
            created_at=rfc3339(buyer.created_at),
            erased_at=time_or_none(buyer.erased_at),
        )
        for buyer in records
    ]


@get("/buyers", opt=OPERATOR, operation_id="listBuyers", responses=problems("INVALID_CURSOR"))
async def list_buyers(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    customer_id: CustomerId = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[BuyerView]]:
    """List buyers, the oldest first."""

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, BuyerView]]:
        records = await buyers.page(tx, customer_id=customer_id, after=after, limit=count)
        return list(zip((buyer.id for buyer in records), await _views(tx, records), strict=True))

    return await page_of(request, runtime.db, "buyers", cursor=cursor, limit=limit, fetch=fetch)


@post(
    "/buyers/{buyer_id:str}/erase",
    opt=OWNER,
    operation_id="eraseBuyer",
    responses=problems(*JSON_BODY, "NOT_FOUND", "IDEMPOTENCY_KEY_REUSED"),
)
async def erase(
    request: JSONRequest,
    buyer_id: PublicId,
    data: JSONBody[EraseBuyer],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[BuyerView]:
    """Erase what is known of a buyer; their licenses stay, and so does the audit of them. Erasing twice changes nothing."""

    async def verb(tx: Tx) -> BuyerView:
        erased = await erase_buyer(tx, runtime, buyer_id, data, by=request.user.name)
        return (await _views(tx, [erased]))[0]

    return await perform(request, runtime, idempotency_key, verb)


ROUTES: Final = (list_buyers, erase)
