"""`/supervision-cases`: where orders stand and what is due, events that operators record, what the marketplace confirms."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from licensesvc.domain.errors import NotFound
from licensesvc.domain.instants import Instant
from licensesvc.domain.supervision import Actor, FlowName, Node, Refund
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.confirm_supervision import Confirmation, Confirmed, confirm_event
from licensesvc.services.supervision.record_supervision import RecordEvent, record_event, show_buyer_code
from licensesvc.services.supervision.supervise_many import ManyResults, SuperviseMany, supervise_many
from licensesvc.storage import supervision
from licensesvc.storage.port import Tx
from licensesvc.storage.where import EVERYTHING, Where
from licensesvc.web.admin.access import OPERATOR, READER
from licensesvc.web.admin.answers import IdempotencyKey, OrderId, OurId, PublicId, perform
from licensesvc.web.admin.case_views import CaseDetail, CaseView, case_detail, case_views
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems

_STEP: Final = (
    "NOT_FOUND",
    *JSON_BODY,
    "INVALID_PARAMETER",
    "ILLEGAL_TRANSITION",
    "FORBIDDEN_ACTOR",
    "PROOF_MISSING",
    "ACCEPTANCE_NOT_CONFIRMED",
    "IDEMPOTENCY_KEY_REUSED",
)
"""What a step of a case may answer."""


class ConfirmedCase(CaseDetail, frozen=True, kw_only=True):
    """A case after a confirmation: `confirmed` says whether that was known, done here already, or news."""

    confirmed: Confirmed


class BuyerCodeView(msgspec.Struct, frozen=True, kw_only=True):
    """The system or hardware code that the buyer submitted, in clear."""

    buyer_code: str

    def __repr__(self) -> str:
        return "BuyerCodeView(…)"


def _where(answers: dict[str, bool | None], actor: Actor | None, now: Instant) -> Where:
    """The conditions that are questions with yes and no, and the one about whose turn it is."""
    where = EVERYTHING if actor is None else EVERYTHING.always(supervision.TURNS[actor])
    for question, answer in answers.items():
        if answer is not None:
            where = where.always(_QUESTIONS[question][answer].format(now=now))
    return where


_QUESTIONS: Final = {
    "overdue": ("(c.due_at IS NULL OR c.due_at >= {now})", "c.due_at < {now}"),
    "unconfirmed": ("c.unconfirmed_since IS NULL", "c.unconfirmed_since IS NOT NULL"),
    "frozen": ("c.appealed_at IS NULL", "c.appealed_at IS NOT NULL"),
}


@get("/supervision-cases", opt=READER, operation_id="listCases", responses=problems("INVALID_CURSOR"))
async def list_cases(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    *,
    node: Annotated[Node | None, QueryParameter(description="Only cases that stand here.")] = None,
    waits_for: Annotated[Actor | None, QueryParameter(description="Only cases where it is their turn.")] = None,
    overdue: Annotated[bool | None, QueryParameter(description="Only cases with a broken promise, or without.")] = None,
    unconfirmed: Annotated[
        bool | None,
        QueryParameter(description="Only cases with something done here and not confirmed there, or without."),
    ] = None,
    frozen: Annotated[
        bool | None, QueryParameter(description="Only cases that an appeal freezes, or that none does.")
    ] = None,
    refund: Annotated[Refund | None, QueryParameter(description="Only cases whose refund is so far.")] = None,
    flow: Annotated[FlowName | None, QueryParameter(description="Only cases of this flow.")] = None,
    settlement_month: Annotated[
        str | None,
        QueryParameter(pattern=r"^\d{4}-(0[1-9]|1[0-2])$(?!\n)", max_length=7, description="Only cases billed then."),
    ] = None,
    order_id: OrderId = None,
    connection: OurId = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[CaseView]]:
    """List supervision cases, the oldest first, of which all that is given is true."""
    answers = {"overdue": overdue, "unconfirmed": unconfirmed, "frozen": frozen}
    where = (
        _where(answers, waits_for, runtime.clock())
        .given("c.node = {}", node)
        .given("c.refund = {}", refund)
        .given("c.flow = {}", flow)
        .given("c.settlement_month = {}", settlement_month)
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
    """Return a case with its events and proofs, what may come next, what is missing and what is due."""

    async def detail(tx: Tx) -> CaseDetail:
        case = await supervision.by_public_id(tx, case_id)
        if case is None:
            raise NotFound
        return await case_detail(tx, case, runtime.clock())

    return await runtime.db.read(detail)


@post(
    "/supervision-cases/{case_id:str}/events", opt=OPERATOR, operation_id="recordCaseEvent", responses=problems(*_STEP)
)
async def record_case_event(
    request: JSONRequest,
    case_id: PublicId,
    data: JSONBody[RecordEvent],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[CaseDetail]:
    """Record what somebody did, as the marketplace shows it or, with `confirmed` false, here only.

    Deliveries, proofs, acceptance, rejections, appeals and rulings, refunds, completion, reopening: `possible` of the case lists what can
    come next and from whom.
    """

    async def verb(tx: Tx) -> CaseDetail:
        case = await record_event(tx, runtime, case_id, data, by=request.user.name)
        return await case_detail(tx, case, runtime.clock())

    return await perform(request, runtime, idempotency_key, verb)


@post(
    "/supervision-cases/{case_id:str}/confirmations",
    opt=OPERATOR,
    operation_id="confirmCaseEvent",
    responses=problems(*_STEP),
)
async def confirm_case_event(
    request: JSONRequest,
    case_id: PublicId,
    data: JSONBody[Confirmation],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[ConfirmedCase]:
    """Confirm that the marketplace shows an event, and so everything before it; what had not happened here is recorded."""

    async def verb(tx: Tx) -> ConfirmedCase:
        outcome = await confirm_event(tx, runtime, case_id, data, by=request.user.name)
        detail = await case_detail(tx, outcome.case, runtime.clock())
        fields = {name: getattr(detail, name) for name in detail.__struct_fields__}
        return ConfirmedCase(**fields, confirmed=outcome.confirmed)

    return await perform(request, runtime, idempotency_key, verb)


@get(
    "/supervision-cases/{case_id:str}/buyer-code",
    opt=OPERATOR,
    operation_id="getBuyerCode",
    responses=problems("NOT_FOUND"),
)
async def get_buyer_code(
    request: Request[Any, Any, Any], case_id: PublicId, runtime: NamedDependency[Runtime]
) -> Response[BuyerCodeView]:
    """Show the system or hardware code that the buyer submitted; this is an audit event."""
    code = await runtime.db.write(lambda tx: show_buyer_code(tx, runtime, case_id, by=request.user.name))
    return Response(BuyerCodeView(buyer_code=code), headers={"cache-control": "no-store"})


@post(
    "/supervision-cases/bulk",
    opt=OPERATOR,
    operation_id="superviseMany",
    status_code=200,
    responses=problems(*JSON_BODY, "INVALID_PARAMETER"),
)
async def bulk(request: JSONRequest, data: JSONBody[SuperviseMany], runtime: NamedDependency[Runtime]) -> ManyResults:
    """Confirm or record the same event in up to 100 cases; each has a result of its own, and one that refuses keeps no other back.

    A caller with more of them, or who shows progress, sends part after part: `done`, `refused` and `left` tell how far a part came.
    """
    return await supervise_many(runtime, data, by=request.user.name)


ROUTES: Final = (
    list_cases,
    get_case,
    record_case_event,
    confirm_case_event,
    get_buyer_code,
    bulk,
)
