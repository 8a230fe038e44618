"""`/agreements`: service agreements of products in their versions, which buyers accepted them, and the seller's own."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from licensesvc.domain.instants import rfc3339
from licensesvc.services.money.manage_agreements import (
    AcceptAgreement,
    AddAgreement,
    accept_agreement,
    add_agreement,
)
from licensesvc.services.runtime import Runtime
from licensesvc.storage import agreements
from licensesvc.storage.agreements import Accepted, Agreement
from licensesvc.storage.port import Tx
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import OPERATOR, OWNER, READER
from licensesvc.web.admin.answers import IdempotencyKey, OrderId, OurId, Time, perform, time_or_none
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class AgreementView(msgspec.Struct, frozen=True, kw_only=True):
    """A version of an agreement; `product` null = the seller's own with the marketplace."""

    id: str
    connection: str
    product: str | None
    title: str
    version: str
    sha256: str | None
    effective_at: Time
    ends_at: Time | None


class AcceptedView(msgspec.Struct, frozen=True, kw_only=True):
    """What the buyer of an order line accepted, and when."""

    agreement: str
    line: str
    order_id: str
    buyer: str | None
    accepted_at: Time
    source: str


def _view(agreement: Agreement) -> AgreementView:
    return AgreementView(
        id=agreement.public_id,
        connection=agreement.connection,
        product=agreement.product,
        title=agreement.title,
        version=agreement.version,
        sha256=agreement.sha256,
        effective_at=rfc3339(agreement.effective_at),
        ends_at=time_or_none(agreement.ends_at),
    )


def _accepted(accepted: Accepted) -> AcceptedView:
    return AcceptedView(
        agreement=accepted.agreement,
        line=accepted.line,
        order_id=accepted.order_id,
        buyer=accepted.buyer,
        accepted_at=rfc3339(accepted.accepted_at),
        source=accepted.source,
    )


@post(
    "/agreements",
    opt=OWNER,
    operation_id="addAgreement",
    responses=problems(*JSON_BODY, "INVALID_PARAMETER", "IDEMPOTENCY_KEY_REUSED"),
)
async def post_agreement(
    request: JSONRequest,
    data: JSONBody[AddAgreement],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[AgreementView]:
    """Add a version of a product's service agreement, or of the seller's own."""

    async def verb(tx: Tx) -> AgreementView:
        return _view(await add_agreement(tx, runtime, data, by=request.user.name))

    return await perform(request, runtime, idempotency_key, verb)


@get("/agreements", opt=READER, operation_id="listAgreements", responses=problems("INVALID_CURSOR"))
async def list_agreements(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    product: OurId = None,
    connection: OurId = None,
    own: Annotated[bool, QueryParameter(description="Only the seller's own.")] = False,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[AgreementView]]:
    """List agreements, the first that was added first."""
    where = EVERYTHING.given("p.public_id = {}", product).given("c.public_id = {}", connection)
    if own:
        where = where.always("a.product_id IS NULL")

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, AgreementView]]:
        return [(one.id, _view(one)) for one in await agreements.page(tx, after=after, limit=count, where=where)]

    return await page_of(request, runtime.db, "agreements", cursor=cursor, limit=limit, fetch=fetch)


@post(
    "/agreement-acceptances",
    opt=OPERATOR,
    operation_id="acceptAgreement",
    status_code=204,
    responses=problems(*JSON_BODY, "INVALID_PARAMETER"),
)
async def post_acceptance(
    request: JSONRequest, data: JSONBody[AcceptAgreement], runtime: NamedDependency[Runtime]
) -> None:
    """Record that the buyer of an order line has accepted it; the same again changes nothing."""
    await runtime.db.write(lambda tx: accept_agreement(tx, runtime, data, by=request.user.name))


@get(
    "/agreement-acceptances",
    opt=READER,
    operation_id="listAcceptances",
    responses=problems("INVALID_CURSOR"),
)
async def list_acceptances(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    agreement: OurId = None,
    line: OurId = None,
    order_id: OrderId = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[AcceptedView]]:
    """List who accepted what, by order line."""
    where = (
        EVERYTHING.given("a.public_id = {}", agreement)
        .given("l.public_id = {}", line)
        .given("o.order_id = {}", order_id)
    )

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, AcceptedView]]:
        found = await agreements.acceptances(tx, after=after, limit=count, where=where)
        return [(one.id, _accepted(one)) for one in found]

    return await page_of(request, runtime.db, "acceptances", cursor=cursor, limit=limit, fetch=fetch)


ROUTES: Final = (post_agreement, list_agreements, post_acceptance, list_acceptances)
