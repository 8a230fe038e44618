"""`/buyer/{token}`: the page of one case for whoever holds its link, the same as JSON, and its proofs as attachments.

In: reading, and actions that are posted with the version that was seen. Out: what they do (services/buyer/buyer_page.py). A GET changes nothing.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from litestar import Request, Response, Router, get, post
from litestar.datastructures import ResponseHeader
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Redirect, Stream

from licensesvc.domain.errors import ForbiddenActor, IllegalTransition, NotFound, RateLimited, StaleVersion
from licensesvc.services.access.limit_attempts import Limiter
from licensesvc.services.buyer.buyer_page import (
    MAX_REASON,
    Action,
    BuyerAction,
    BuyerCase,
    act,
    buyer_case,
    buyer_proof,
    held_up,
)
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.add_proof import StoredFile
from licensesvc.services.supervision.proof_store import receive_proof
from licensesvc.services.supervision.proof_types import sniffed
from licensesvc.services.supervision.record_supervision import MAX_BUYER_CODE
from licensesvc.web.admin.proofs import attachment
from licensesvc.web.asgi import client_address
from licensesvc.web.buyer.forms import MAX_FORM, Attachment, form_files, read_form
from licensesvc.web.buyer.json_views import ActionResult, BuyerCaseView, case_view
from licensesvc.web.buyer.pages import CLOSED, draw, message
from licensesvc.web.buyer.texts import language_of
from licensesvc.web.jsonbody import MAX_BODY, JSONRequest
from licensesvc.web.problems import JSON_BODY, TABLE, Refusal, problem_response, problems

T = TypeVar("T")

Lang: TypeAlias = Annotated[str | None, QueryParameter(max_length=16)]

_CHANGED: Final = (StaleVersion, IllegalTransition, ForbiddenActor)


async def behind(request: Request[Any, Any, Any], limiter: Limiter, work: Callable[[], Awaitable[T]]) -> T:
    """Do work behind a link; who tries links that open nothing is slowed down like who tries admin tokens, apart from them."""
    async with limiter.bad_tokens(f"buyer {client_address(request.scope)}") as attempt:
        try:
            return await work()
        except NotFound:
            await attempt.failed()
            raise


def language(request: Request[Any, Any, Any], asked: str | None = None) -> str:
    """The language of the answer."""
    return language_of(asked or request.query_params.get("lang"), request.headers.get("accept-language", ""))


@get("/{token:str}", include_in_schema=False)
async def show(
    request: Request[Any, Any, Any],
    token: FromPath[str],
    runtime: NamedDependency[Runtime],
    limiter: NamedDependency[Limiter],
) -> Response[str]:
    """Show where the case stands, or with `?ask=` the question before an action."""
    view = await behind(request, limiter, lambda: runtime.db.read(lambda tx: buyer_case(tx, runtime, token)))
    asked = request.query_params.get("ask")
    chosen = next((action for action in view.actions if action == asked), None)
    if chosen is not None:
        return _question(request, token, view, chosen)
    return _case(request, token, view, recorded=request.query_params.get("done") == "1")


@post("/{token:str}", include_in_schema=False, request_max_body_size=MAX_FORM)
async def decide(
    request: Request[Any, Any, Any],
    token: FromPath[str],
    runtime: NamedDependency[Runtime],
    limiter: NamedDependency[Limiter],
) -> Response[Any]:
    """Carry out an action that the form of a question sends."""
    view = await behind(request, limiter, lambda: runtime.db.read(lambda tx: buyer_case(tx, runtime, token)))
    with form_files() as form:
        await read_form(request, form)
        fields = form.fields
        action = next((action for action in Action if action == fields.get("action")), None)
        version = fields.get("version", "")
        if action is None or not (version.isascii() and version.isdigit() and len(version) < 10):  # noqa: PLR2004
            raise Refusal("UNREADABLE_BODY", "the form names no action or version")
        lang = language(request, fields.get("lang"))
        if int(version) != view.case.version or action not in view.actions:
            raise StaleVersion
        reason = fields.get("reason", "").strip() if action is Action.REJECT else None
        buyer_code = fields.get("buyer_code", "").strip() if action is Action.SUBMIT_CODE else None
        faults = _faults(reason, buyer_code, form.files)
        if faults:
            return _question(request, token, view, action, faults=faults, typed=reason or buyer_code or "", lang=lang)
        files = [await _kept(runtime, file) for file in form.files] if action is Action.REJECT else []
        command = BuyerAction(action=action, version=int(version), reason=_lines(reason), buyer_code=buyer_code)
    done = await behind(request, limiter, lambda: runtime.db.write(lambda tx: act(tx, runtime, token, command, files)))
    if done.code is not None:
        return draw("code.html", lang, token=token, code=done.code, switch=None)
    return Redirect(f"/buyer/{token}?lang={lang}&done=1", status_code=303, headers=CLOSED)


@get("/{token:str}/proofs/{proof_id:str}", include_in_schema=False)
async def download(
    request: Request[Any, Any, Any],
    token: FromPath[str],
    proof_id: FromPath[str],
    runtime: NamedDependency[Runtime],
    limiter: NamedDependency[Limiter],
) -> Stream:
    """Download a proof of this case; always an attachment."""
    proof = await behind(
        request, limiter, lambda: runtime.db.read(lambda tx: buyer_proof(tx, runtime, token, proof_id))
    )
    return await attachment(runtime, proof, CLOSED)


@get("/{token:str}/case", operation_id="getBuyerCase", responses=problems("NOT_FOUND"), tags=["buyer"])
async def get_case(
    request: Request[Any, Any, Any],
    token: FromPath[str],
    runtime: NamedDependency[Runtime],
    limiter: NamedDependency[Limiter],
) -> BuyerCaseView:
    """Return the case as its buyer may know it, and what the buyer may do."""
    view = await behind(request, limiter, lambda: runtime.db.read(lambda tx: buyer_case(tx, runtime, token)))
    return case_view(view)


@post(
    "/{token:str}/actions",
    operation_id="actAsBuyer",
    status_code=200,
    request_max_body_size=MAX_BODY,
    responses=problems(
        "NOT_FOUND", *JSON_BODY, "STALE_VERSION", "ILLEGAL_TRANSITION", "FORBIDDEN_ACTOR", "INVALID_PARAMETER"
    ),
    tags=["buyer"],
)
async def take_action(
    request: JSONRequest,
    token: FromPath[str],
    data: JSONBody[BuyerAction],
    runtime: NamedDependency[Runtime],
    limiter: NamedDependency[Limiter],
) -> ActionResult:
    """Claim, submit a code, show the code, accept or reject, decided on the version that was seen; files go with the page's form only."""
    done = await behind(request, limiter, lambda: runtime.db.write(lambda tx: act(tx, runtime, token, data)))
    return ActionResult(case=case_view(done.view), code=done.code)


def _case(request: Request[Any, Any, Any], token: str, view: BuyerCase, *, recorded: bool) -> Response[str]:
    lang = language(request)
    place = view.nodes.index(view.case.node) if view.case.node in view.nodes else -1
    return draw(
        "case.html", lang, token=token, view=view, place=place, held=held_up(view.case), recorded=recorded,
        switch=f"/buyer/{token}",
    )  # fmt: skip


def _question(
    request: Request[Any, Any, Any],
    token: str,
    view: BuyerCase,
    action: Action,
    *,
    faults: tuple[tuple[str, str], ...] = (),
    typed: str = "",
    lang: str | None = None,
) -> Response[str]:
    return draw(
        "question.html", lang or language(request), status=422 if faults else 200, token=token, view=view,
        action=action.value, faults=faults, typed=typed, switch=f"/buyer/{token}?ask={action.value}",
    )  # fmt: skip


def _faults(reason: str | None, buyer_code: str | None, files: list[Attachment]) -> tuple[tuple[str, str], ...]:
    """What is wrong with a form: the field, and the text about it."""
    faults = []
    if reason is not None and not 0 < len(_lines(reason) or "") <= MAX_REASON:
        faults.append(("reason", "error_reason"))
    if buyer_code is not None and not 0 < len(buyer_code) <= MAX_BUYER_CODE:
        faults.append(("buyer_code", "error_code"))
    if any(sniffed(file.file) is None for file in files):
        faults.append(("files", "error_files"))
    return tuple(faults)


def _lines(text: str | None) -> str | None:
    """Browsers send CR LF for a new line, which is not what was counted in the field."""
    return None if text is None else text.replace("\r\n", "\n")


async def _kept(rt: Runtime, sent: Attachment) -> StoredFile:
    media_type = sniffed(sent.file)
    assert media_type is not None
    kept = await receive_proof(rt.proofs_dir, media_type, sent.pieces())
    return StoredFile(filename=sent.filename, media_type=media_type, size=kept.size, sha256=kept.sha256)


def refusal(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Whatever was raised behind a link, as a friendly page; as a problem document for programs."""
    problem = problem_response(request, error)
    headers = {**dict(problem.headers), **CLOSED}
    if request.scope["path"].endswith(("/case", "/actions")):
        return Response(
            problem.content, status_code=problem.status_code, headers=headers, media_type=problem.media_type
        )
    lang = language(request)
    token = str(request.path_params.get("token", ""))
    if problem.status_code == TABLE["NOT_FOUND"].status:
        return message("gone", lang, status=404)
    if isinstance(error, _CHANGED):
        return message("changed", lang, status=409, again=f"/buyer/{token}?lang={lang}")
    if isinstance(error, RateLimited):
        return message("slow", lang, status=429, headers=headers)
    return message("failed", lang, status=problem.status_code or 500, headers=headers)


def buyer_router() -> Router:
    """The routes; the application provides `runtime` and `limiter`."""
    return Router(
        "/buyer",
        route_handlers=[show, decide, download, get_case, take_action],
        request_class=JSONRequest,
        exception_handlers={Exception: refusal},
        response_headers=[ResponseHeader(name=name, value=value) for name, value in CLOSED.items()],
    )
