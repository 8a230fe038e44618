"""`/supervision-cases`: where orders stand, events that operators record, proofs of delivery."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.params import JSONBody, QueryParameter, RawBody

from licensesvc.domain.acceptance import ProofKind
from licensesvc.domain.errors import NotFound
from licensesvc.domain.supervision import Node
from licensesvc.services.add_proof import StoredFile, add_proof
from licensesvc.services.proof_store import MAX_SIZE, MEDIA_TYPES, store_proof
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
from licensesvc.web.problems import JSON_BODY, Refusal, problems


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


@dataclass
class _UploadOperation(Operation):
    """The framework does not describe raw bodies."""

    def __post_init__(self) -> None:
        file = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY, max_length=MAX_SIZE)
        self.request_body = RequestBody(
            required=True, content={name: OpenAPIMediaType(schema=file) for name in sorted(MEDIA_TYPES)}
        )


@post(
    "/supervision-cases/{case_id:str}/proofs",
    opt=OPERATOR,
    operation_id="uploadProof",
    operation_class=_UploadOperation,
    request_max_body_size=MAX_SIZE,
    responses=problems(
        "NOT_FOUND",
        "UNSUPPORTED_MEDIA_TYPE",
        "BODY_TOO_LARGE",
        "INVALID_PARAMETER",
        "ILLEGAL_TRANSITION",
        "IDEMPOTENCY_KEY_REUSED",
    ),
)
async def upload_proof(
    request: Request[Any, Any, Any],
    case_id: PublicId,
    body: RawBody,
    kind: Annotated[ProofKind, QueryParameter(description="What the file shows.")],
    filename: Annotated[
        str,
        QueryParameter(min_length=1, max_length=255, pattern=r"^[^/\\\x00-\x1f\x7f]+$(?!\n)", description="Its name."),
    ],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[CaseDetail]:
    """Upload a proof of delivery, the file being the body; the first one moves the case on to who confirms it."""
    media_type = request.content_type[0]
    if media_type not in MEDIA_TYPES:
        raise Refusal("UNSUPPORTED_MEDIA_TYPE", f"a proof is one of {', '.join(sorted(MEDIA_TYPES))}")
    if await runtime.db.read(lambda tx: supervision.by_public_id(tx, case_id)) is None:
        raise NotFound
    # Bytes first, then the row: a row never names a file that is not there. Writers do not wait for the disk here.
    sha256 = await store_proof(runtime.proofs_dir, media_type, body)
    file = StoredFile(filename=filename, media_type=media_type, size=len(body), sha256=sha256)

    async def verb(tx: Tx) -> CaseDetail:
        case = await add_proof(tx, runtime, case_id, kind, file, by=request.user.name)
        return await case_detail(tx, case, runtime.clock())

    return await perform(request, runtime, idempotency_key, verb)


ROUTES: Final = (list_cases, get_case, record_case_event, upload_proof)
