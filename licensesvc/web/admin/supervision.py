"""`/supervision-cases`: where orders stand, events that operators record, proofs of delivery."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from licensesvc.domain.errors import NotFound
from licensesvc.domain.supervision import Node
from licensesvc.services.record_supervision import RecordEvent, record_event
from licensesvc.services.runtime import Runtime
from licensesvc.storage import supervision
from licensesvc.storage.port import Tx
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import OPERATOR, READER
from licensesvc.web.admin.answers import IdempotencyKey, OrderId, OurId, PublicId, perform
from licensesvc.web.admin.case_views import CaseDetail, CaseView, case_detail, case_views
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


@get("/supervision-cases", opt=READER, operation_id="listCases", responses=problems("INVALID_CURSOR"))
async def list_cases(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    node: Annotated[Node | None, QueryParameter(description="Only cases that stand here.")] = None,
    order_id: OrderId = None,
    connection: OurId = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[CaseView]]:
    """List supervision cases, the oldest first."""
    where = (
        EVERYTHING.given("c.node = {}", node)
        .given("c.connection_id = (SELECT id FROM connections WHERE public_id = {})", connection)
        .given(
            "c.line_ref IN (SELECT l.id FROM order_lines l JOIN orders o ON o.id = l.order_ref WHERE o.order_id = {})",
            order_id,
        )
    )

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, CaseView]]:
        cases = await supervision.page(tx, after=after, limit=count, where=where)
        return list(zip([case.id for case in cases], await case_views(tx, cases), strict=True))

    return await page_of(request, runtime.db, "cases", cursor=cursor, limit=limit, fetch=fetch)


@get("/supervision-cases/{case_id:str}", opt=READER, operation_id="getCase", responses=problems("NOT_FOUND"))
async def get_case(case_id: PublicId, runtime: NamedDependency[Runtime]) -> CaseDetail:
    """Return a case with its events and proofs."""

    async def detail(tx: Tx) -> CaseDetail:
        case = await supervision.by_public_id(tx, case_id)
        if case is None:
            raise NotFound
        return await case_detail(tx, case, runtime.clock())

    return await runtime.db.read(detail)


@post(
    "/supervision-cases/{case_id:str}/events",
    opt=OPERATOR,
    operation_id="recordCaseEvent",
    responses=problems(
        "NOT_FOUND",
        *JSON_BODY,
        "INVALID_PARAMETER",
        "ILLEGAL_TRANSITION",
        "FORBIDDEN_ACTOR",
        "PROOF_MISSING",
        "ACCEPTANCE_NOT_CONFIRMED",
        "IDEMPOTENCY_KEY_REUSED",
    ),
)
async def record_case_event(
    request: JSONRequest,
    case_id: PublicId,
    data: JSONBody[RecordEvent],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[CaseDetail]:
    """Record what somebody did, for example as the marketplace shows it; a rejection needs a reason."""

    async def verb(tx: Tx) -> CaseDetail:
        case = await record_event(tx, runtime, case_id, data, by=request.user.name)
        return await case_detail(tx, case, runtime.clock())

    return await perform(request, runtime, idempotency_key, verb)


ROUTES: Final = (list_cases, get_case, record_case_event)
