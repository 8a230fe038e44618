"""`/reconciliation`: what the nightly comparison with the marketplace found, how far it is, and putting right what it found."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from licensesvc.domain.errors import NotFound
from licensesvc.domain.instants import rfc3339
from licensesvc.domain.reconciliation import FindingKind, Repair, repair_of
from licensesvc.services.licenses.change_license import WithReason
from licensesvc.services.reconciliation.reconcile import AT_ONCE_S, Reconciler
from licensesvc.services.reconciliation.repair_finding import dismiss_finding, repair_finding
from licensesvc.services.runtime import Runtime
from licensesvc.storage import connections, reconciliation
from licensesvc.storage.port import Tx
from licensesvc.storage.reconciliation import Finding, Run
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import OPERATOR, READER
from licensesvc.web.admin.answers import IdempotencyKey, OrderId, OurId, PublicId, Time, perform, time_or_none
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class FindingView(msgspec.Struct, frozen=True, kw_only=True):
    """What we know of an order (`ours`) and what the marketplace says (`theirs`).

    `line_id` is empty where it is the whole order, `repair` what puts it right, null = only a person can decide. `how` it was resolved:
    vanished by itself, repaired or dismissed.
    """

    id: str
    connection: str
    order_id: str
    line_id: str
    kind: FindingKind
    ours: str | None
    theirs: str | None
    repair: Repair | None
    found_at: Time
    seen_at: Time
    resolved_at: Time | None
    how: str | None
    resolved_by: str | None


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """The last comparison of a connection: `asked` orders so far, `unanswered` of them; `finished_at` null = it is under way."""

    connection: str
    night: str
    started_at: Time
    finished_at: Time | None
    asked: int
    unanswered: int
    open_findings: int
    last_error: str | None


class Runs(msgspec.Struct, frozen=True, kw_only=True):
    """The last comparison of each connection."""

    items: list[RunView]


class Compare(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Compare the orders of this connection now; without `begin` only go on with what is under way."""

    connection: Annotated[str, msgspec.Meta(max_length=40, pattern=r"^con_[0-9a-z]{26}$(?!\n)")]
    begin: bool = True


async def _views(tx: Tx, findings: Sequence[Finding]) -> list[FindingView]:
    connection_ids = await connections.public_ids(tx, {finding.connection_id for finding in findings})
    return [
        FindingView(
            id=finding.public_id,
            connection=connection_ids[finding.connection_id],
            order_id=finding.order_id,
            line_id=finding.line_id,
            kind=finding.kind,
            ours=finding.ours,
            theirs=finding.theirs,
            repair=repair_of(finding.kind, finding.ours, finding.theirs),
            found_at=rfc3339(finding.found_at),
            seen_at=rfc3339(finding.seen_at),
            resolved_at=time_or_none(finding.resolved_at),
            how=finding.how,
            resolved_by=finding.resolved_by,
        )
        for finding in findings
    ]


async def _run_views(tx: Tx, runs: Sequence[Run]) -> list[RunView]:
    connection_ids = await connections.public_ids(tx, {run.connection_id for run in runs})
    return [
        RunView(
            connection=connection_ids[run.connection_id],
            night=run.night,
            started_at=rfc3339(run.started_at),
            finished_at=time_or_none(run.finished_at),
            asked=run.asked,
            unanswered=run.unanswered,
            open_findings=await reconciliation.count_open(tx, run.connection_id),
            last_error=run.last_error,
        )
        for run in runs
    ]


@get("/reconciliation/findings", opt=READER, operation_id="listFindings", responses=problems("INVALID_CURSOR"))
async def list_findings(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    *,
    resolved: Annotated[bool | None, QueryParameter(description="Only resolved ones; false: only open ones.")] = None,
    kind: Annotated[FindingKind | None, QueryParameter(description="Only findings of this kind.")] = None,
    order_id: OrderId = None,
    connection: OurId = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[FindingView]]:
    """List findings, the oldest first."""
    where = (
        EVERYTHING.given("f.kind = {}", kind)
        .given("f.order_id = {}", order_id)
        .given("f.connection_id = (SELECT id FROM connections WHERE public_id = {})", connection)
    )
    if resolved is not None:
        where = where.always("f.resolved_at IS NOT NULL" if resolved else "f.resolved_at IS NULL")

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, FindingView]]:
        found = await reconciliation.page(tx, after=after, limit=count, where=where)
        return list(zip([finding.id for finding in found], await _views(tx, found), strict=True))

    return await page_of(request, runtime.db, "findings", cursor=cursor, limit=limit, fetch=fetch)


@post(
    "/reconciliation/findings/{finding_id:str}/repair",
    opt=OPERATOR,
    operation_id="repairFinding",
    status_code=200,
    responses=problems(
        *JSON_BODY,
        "NOT_FOUND",
        "NOT_REPAIRABLE",
        "MARKETPLACE_NOT_ASKED",
        "PRODUCT_NOT_MAPPED",
        "ORDER_CONFLICT",
        "NOT_ISSUABLE",
        "INVALID_PARAMETER",
        "STALE_VERSION",
    ),
)
async def repair(
    request: JSONRequest,
    finding_id: PublicId,
    data: JSONBody[WithReason],
    runtime: NamedDependency[Runtime],
    reconciler: NamedDependency[Reconciler],
) -> FindingView:
    """Ask the marketplace again and carry out the `repair` of a finding, for what the marketplace says now."""
    finding = await repair_finding(runtime, reconciler.client, finding_id, data.reason, by=request.user.name)
    return (await runtime.db.read(lambda tx: _views(tx, [finding])))[0]


@post(
    "/reconciliation/findings/{finding_id:str}/dismiss",
    opt=OPERATOR,
    operation_id="dismissFinding",
    responses=problems(*JSON_BODY, "NOT_FOUND", "NOT_REPAIRABLE", "IDEMPOTENCY_KEY_REUSED"),
)
async def dismiss(
    request: JSONRequest,
    finding_id: PublicId,
    data: JSONBody[WithReason],
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[FindingView]:
    """Leave a difference as it is; it is not found again while both sides say the same."""

    async def verb(tx: Tx) -> FindingView:
        finding = await dismiss_finding(tx, runtime, finding_id, data.reason, by=request.user.name)
        return (await _views(tx, [finding]))[0]

    return await perform(request, runtime, idempotency_key, verb, status=200)


@get("/reconciliation/runs", opt=READER, operation_id="listRuns", responses=problems())
async def list_runs(runtime: NamedDependency[Runtime]) -> Runs:
    """Show the last comparison of each connection."""

    async def shown(tx: Tx) -> Runs:
        return Runs(items=await _run_views(tx, await reconciliation.runs(tx)))

    return await runtime.db.read(shown)


@post(
    "/reconciliation/runs",
    opt=OPERATOR,
    operation_id="compareOrders",
    status_code=200,
    responses=problems(*JSON_BODY, "NOT_FOUND"),
)
async def compare(
    data: JSONBody[Compare], runtime: NamedDependency[Runtime], reconciler: NamedDependency[Reconciler]
) -> RunView:
    """Compare orders with the marketplace for some seconds and say how far it is; ask again, without `begin`, until it is finished."""
    stored = await runtime.db.read(lambda tx: connections.by_public_id(tx, data.connection))
    if stored is None:
        raise NotFound
    if data.begin:
        await reconciler.begin_now(stored.connection)
    run = await reconciler.work(stored.connection, AT_ONCE_S, eager=True)
    if run is None:
        raise NotFound("nothing was compared yet: begin")
    return (await runtime.db.read(lambda tx: _run_views(tx, [run])))[0]


ROUTES: Final = (list_findings, repair, dismiss, list_runs, compare)
