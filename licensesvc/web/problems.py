"""Errors of our own APIs as problem documents (RFC 9457): one table from code to status, one handler.

In: the table, the document, turning whatever was raised into it. Out: the marketplace-compatible API, which has result codes.

`type` is a path on this server, `/problems/no-free-seat`, and `code` the same words as programs compare them, `NO_FREE_SEAT`.
"""

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec

from licensesvc.domain.errors import DomainError, RateLimited
from licensesvc.storage.port import ConstraintViolated, OutcomeUnknown, StorageUnavailable
from licensesvc.web.request_ids import request_id
from licensesvc.web.throttling import limit_headers

MEDIA_TYPE: Final = "application/problem+json"
RETRY_AFTER_S: Final = 1
"""Seconds after which a request that met another one, or no database, may come back."""


class Kind(NamedTuple):
    """What all problems of one code share."""

    status: HTTPStatus
    title: str


TABLE: Final[Mapping[str, Kind]] = {
    # what the domain refuses
    "INVALID_PARAMETER": Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "A value is outside its range or form"),
    "NOT_FOUND": Kind(HTTPStatus.NOT_FOUND, "There is nothing here"),
    "ALREADY_EXISTS": Kind(HTTPStatus.CONFLICT, "Exists already"),
    "STALE_VERSION": Kind(HTTPStatus.PRECONDITION_FAILED, "Changed in the meantime"),
    "IDEMPOTENCY_KEY_REUSED": Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "Idempotency key used with another request"),
    "IN_PROGRESS": Kind(HTTPStatus.CONFLICT, "The same request is being worked on"),
    "LICENSE_NOT_FOUND": Kind(HTTPStatus.NOT_FOUND, "No such license"),
    "LICENSE_NOT_ACTIVATED": Kind(HTTPStatus.CONFLICT, "The license is not activated"),
    "LICENSE_NOT_CLAIMED": Kind(HTTPStatus.CONFLICT, "The license is not claimed"),
    "ILLEGAL_LICENSE_STATE": Kind(HTTPStatus.CONFLICT, "Not in this state of the license"),
    "INVALID_CODE_LISTED": Kind(HTTPStatus.CONFLICT, "Not with every code of the list"),
    "NO_FREE_SEAT": Kind(HTTPStatus.CONFLICT, "All seats are taken"),
    "SEATS_IN_USE": Kind(HTTPStatus.CONFLICT, "Seats are in use"),
    "MAIL_NOT_CONFIGURED": Kind(HTTPStatus.CONFLICT, "No mail server is set"),
    "NO_MAIL_ADDRESS": Kind(HTTPStatus.CONFLICT, "No mail address is known"),
    "ACTIVATION_NOT_FOUND": Kind(HTTPStatus.NOT_FOUND, "No such activation"),
    "PRODUCT_NOT_MAPPED": Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The marketplace's product is not mapped"),
    "ORDER_CONFLICT": Kind(HTTPStatus.CONFLICT, "The order is known with other contents"),
    "ORDER_NOT_FOUND": Kind(HTTPStatus.NOT_FOUND, "No such order"),
    "ORDER_LINE_NOT_FOUND": Kind(HTTPStatus.NOT_FOUND, "No such order line"),
    "NOT_A_SELLER": Kind(HTTPStatus.FORBIDDEN, "Only for the seller"),
    "NOT_ISSUABLE": Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "No license can be issued for this"),
    "ILLEGAL_TRANSITION": Kind(HTTPStatus.CONFLICT, "Not in this state"),
    "MARKETPLACE_AWAY": Kind(HTTPStatus.FAILED_DEPENDENCY, "The marketplace does not answer"),
    "NOT_RESTARTABLE": Kind(HTTPStatus.CONFLICT, "This cannot be carried out again"),
    "MARKETPLACE_NOT_ASKED": Kind(HTTPStatus.CONFLICT, "The marketplace could not be asked"),
    "NOT_REPAIRABLE": Kind(HTTPStatus.CONFLICT, "There is no safe repair"),
    "FORBIDDEN_ACTOR": Kind(HTTPStatus.CONFLICT, "Not by this actor"),
    "ACCEPTANCE_NOT_CONFIRMED": Kind(HTTPStatus.CONFLICT, "The marketplace has not confirmed the acceptance"),
    "PROOF_MISSING": Kind(HTTPStatus.CONFLICT, "The acceptance standard is not met"),
    "ENDPOINT_DISABLED": Kind(HTTPStatus.CONFLICT, "The webhook endpoint is disabled"),
    "EXTRA_NOT_INSTALLED": Kind(HTTPStatus.NOT_IMPLEMENTED, "An optional part is not installed"),
    "RATE_LIMITED": Kind(HTTPStatus.TOO_MANY_REQUESTS, "Too many attempts"),
    # what the edge refuses
    "MALFORMED_REQUEST": Kind(HTTPStatus.BAD_REQUEST, "The request is malformed"),
    "UNREADABLE_BODY": Kind(HTTPStatus.BAD_REQUEST, "The body is not readable"),
    "INVALID_BODY": Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The body does not fit its schema"),
    "INVALID_CURSOR": Kind(HTTPStatus.BAD_REQUEST, "The cursor is not one of this list"),
    "UNAUTHENTICATED": Kind(HTTPStatus.UNAUTHORIZED, "Not authenticated"),
    "FORBIDDEN": Kind(HTTPStatus.FORBIDDEN, "Not allowed"),
    "METHOD_NOT_ALLOWED": Kind(HTTPStatus.METHOD_NOT_ALLOWED, "Not with this method"),
    "BODY_TOO_LARGE": Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    "UNSUPPORTED_MEDIA_TYPE": Kind(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Not this media type"),
    "PRECONDITION_REQUIRED": Kind(HTTPStatus.PRECONDITION_REQUIRED, "If-Match is required"),
    "UNAVAILABLE": Kind(HTTPStatus.SERVICE_UNAVAILABLE, "Not available now"),
    "INTERNAL_ERROR": Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error"),
}
"""Every code that our APIs answer."""
JSON_BODY: Final = ("UNREADABLE_BODY", "INVALID_BODY", "UNSUPPORTED_MEDIA_TYPE", "BODY_TOO_LARGE")
"""What every operation with a JSON body may answer."""

# The framework's own refusals say nothing but their status.
_BY_STATUS: Final = {
    HTTPStatus.UNAUTHORIZED: "UNAUTHENTICATED",
    HTTPStatus.FORBIDDEN: "FORBIDDEN",
    HTTPStatus.NOT_FOUND: "NOT_FOUND",
    HTTPStatus.METHOD_NOT_ALLOWED: "METHOD_NOT_ALLOWED",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "BODY_TOO_LARGE",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "UNSUPPORTED_MEDIA_TYPE",
}
_RETRY_LATER: Final = {"retry-after": str(RETRY_AFTER_S)}
_PLACE: Final = re.compile(r"(?P<fault>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_QUOTED: Final = re.compile(r"\b(Invalid enum value)\b.*", re.DOTALL)
_NAMED_FIELD: Final = re.compile(r"Object (?:contains unknown|missing required) field `(?P<name>.*)`", re.DOTALL)

_log = structlog.get_logger(__name__)


class Fault(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong: at a JSON pointer into the body (RFC 6901), or in a named parameter."""

    detail: str
    pointer: str | None = None
    parameter: str | None = None


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document; `code` is stable, `title` and `detail` are for people."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None
    errors: tuple[Fault, ...] = ()


class Refusal(Exception):
    """A request that the edge refuses with a code of the table."""

    def __init__(
        self, code: str, detail: str, *, errors: tuple[Fault, ...] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        """`detail` is shown to the caller, `headers` go with the answer."""
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})


def problem_response(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Turn whatever was raised into a problem document; register it for `Exception`, it knows the framework's errors too."""
    refusal = _refusal(error)
    kind = TABLE[refusal.code]
    name = request_id(request.scope)
    if kind.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("request failed", problem=refusal.code, request_id=name, exc_info=error)
    document = Problem(
        type=f"/problems/{refusal.code.lower().replace('_', '-')}",
        title=kind.title,
        status=kind.status,
        detail=refusal.detail,
        code=refusal.code,
        request_id=name,
        errors=refusal.errors,
    )
    return Response(
        msgspec.json.encode(document), status_code=kind.status, headers=refusal.headers, media_type=MEDIA_TYPE
    )


def problems(*codes: str) -> dict[int, ResponseSpec]:
    """Document in OpenAPI that an operation answers these codes, beside those that every operation answers."""
    by_status: dict[int, list[str]] = {}
    for code in (*codes, "MALFORMED_REQUEST", "UNAUTHENTICATED", "FORBIDDEN", "RATE_LIMITED", "UNAVAILABLE"):
        by_status.setdefault(TABLE[code].status, []).append(code)
    return {
        status: ResponseSpec(
            Problem,
            description=" · ".join(f"`{code}`" for code in named),
            media_type=MEDIA_TYPE,
            generate_examples=False,
        )
        for status, named in by_status.items()
    }


def body_fault(error: msgspec.ValidationError) -> Fault:
    """Say where in the body msgspec found its fault; a field that is missing or unknown is pointed at itself."""
    place = _PLACE.fullmatch(str(error))
    assert place is not None
    pointer = re.sub(r"\.([^.\[]+)|\[(\d+)\]", lambda step: f"/{step[1] or step[2]}", place["path"] or "")
    if field := _NAMED_FIELD.fullmatch(place["fault"]):
        pointer += "/" + field["name"].replace("~", "~0").replace("/", "~1")
    return Fault(detail=_unquoted(place["fault"]), pointer=pointer)


def _unquoted(fault: str) -> str:
    """What is wrong, without the value: it may be a code or a token that stands in the wrong field."""
    return _QUOTED.sub(r"\1", fault)


def _refusal(error: Exception) -> Refusal:
    match error:
        case Refusal():
            return error
        case RateLimited():
            return Refusal(error.code, error.message, headers=limit_headers(error))
        case DomainError() if error.code in TABLE:
            return Refusal(error.code, error.message, headers=_RETRY_LATER if error.code == "IN_PROGRESS" else None)
        case ConstraintViolated(kind="unique"):
            return Refusal("ALREADY_EXISTS", "another record has this identity already")
        case OutcomeUnknown():
            return Refusal(
                "UNAVAILABLE", "it is not known whether this was done: look, or ask again", headers=_RETRY_LATER
            )
        case StorageUnavailable():
            return Refusal("UNAVAILABLE", "the database does not answer; nothing was changed", headers=_RETRY_LATER)
        case ValidationException():
            return _invalid_parameters(error)
        case HTTPException() if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            code = _BY_STATUS.get(HTTPStatus(error.status_code), "MALFORMED_REQUEST")
            return Refusal(code, TABLE[code].title, headers=error.headers)
        case _:
            return Refusal("INTERNAL_ERROR", "the request was not carried out; the log tells why under this request id")


def _invalid_parameters(error: ValidationException) -> Refusal:
    # The framework's own text quotes the whole URL, whose query may hold a license code.
    faults = tuple(
        Fault(detail=_unquoted(fault["message"]), parameter=fault.get("key"))
        for fault in error.extra or ()
        if isinstance(fault, dict)
    )
    return Refusal("MALFORMED_REQUEST", error.detail.partition(" for ")[0], errors=faults)
