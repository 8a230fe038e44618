"""The marketplace's result codes as data (spec §§1.6, 1.8, 1.9, 2.1).

In: codes, HTTP statuses, literal texts. Out: which of our errors becomes which code.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

import msgspec

from licensesvc.domain.connection import ErrorTable


class Outcome(NamedTuple):
    """How a code travels: the HTTP status and the documented text."""

    http_status: int
    message: str
    code: str | None = None
    """What is written instead of the code itself, where a generation has another one for it."""


class OpenApiCode(StrEnum):
    """`error_code` of the License open API, by the current table (spec §1.8)."""

    SUCCESS = "92020000"
    INTERNAL_ERROR = "92020001"
    INVALID_PARAM = "92020002"
    ILLEGAL_STATE = "92020003"
    NOT_CLAIMED = "92020004"
    UNKNOWN_CODE = "92020005"
    NOT_ACTIVATED = "92020011"
    INVALID_CODE_IN_LIST = "92020020"
    BAD_REQUEST = "95000001"
    METHOD_NOT_SUPPORTED = "95000002"
    CONTENT_TYPE_NOT_SUPPORTED = "95000003"
    UNREADABLE = "95000004"


_CURRENT: Mapping[OpenApiCode, Outcome] = MappingProxyType(
    {
        OpenApiCode.SUCCESS: Outcome(200, "success"),
        OpenApiCode.INTERNAL_ERROR: Outcome(200, "internal error"),
        OpenApiCode.INVALID_PARAM: Outcome(200, "invalid param"),
        OpenApiCode.ILLEGAL_STATE: Outcome(200, "illegal state"),
        OpenApiCode.NOT_CLAIMED: Outcome(200, "can not active before user received."),
        OpenApiCode.UNKNOWN_CODE: Outcome(200, "license code notexist"),
        OpenApiCode.NOT_ACTIVATED: Outcome(200, "license code has been not activated."),
        OpenApiCode.INVALID_CODE_IN_LIST: Outcome(200, "Invalid license code exists."),
        OpenApiCode.BAD_REQUEST: Outcome(400, "req param is invalid"),
        OpenApiCode.METHOD_NOT_SUPPORTED: Outcome(405, "Request method not supported"),
        OpenApiCode.CONTENT_TYPE_NOT_SUPPORTED: Outcome(415, "Content type not supported"),
        OpenApiCode.UNREADABLE: Outcome(400, "req message is not readable"),
    }
)

# The table of older guides, which knew neither framework errors (9500000x) nor 92020011; what it lacks stands as in the current one.
# Its row `401 92020003` breaks off before the text [I]. Its `403 92020001 Unauthorized` has no use here: the gateway refuses whom
# it does not know, and a code of somebody else is unknown.
_OLDER: Mapping[OpenApiCode, Outcome] = MappingProxyType(
    {
        **_CURRENT,
        OpenApiCode.INTERNAL_ERROR: Outcome(500, "internal error"),
        OpenApiCode.INVALID_PARAM: Outcome(400, "invalid param"),
        OpenApiCode.ILLEGAL_STATE: Outcome(401, "illegal state"),
        OpenApiCode.UNKNOWN_CODE: Outcome(200, "license code not exist."),
        OpenApiCode.NOT_ACTIVATED: Outcome(401, "illegal state", OpenApiCode.ILLEGAL_STATE),
        OpenApiCode.BAD_REQUEST: Outcome(400, "invalid param", OpenApiCode.INVALID_PARAM),
        OpenApiCode.CONTENT_TYPE_NOT_SUPPORTED: Outcome(400, "invalid param", OpenApiCode.INVALID_PARAM),
        OpenApiCode.UNREADABLE: Outcome(400, "invalid param", OpenApiCode.INVALID_PARAM),
    }
)

OPEN_API: Mapping[ErrorTable, Mapping[OpenApiCode, Outcome]] = MappingProxyType(
    {ErrorTable.CURRENT: _CURRENT, ErrorTable.OLDER: _OLDER}
)


class CallbackCode(StrEnum):
    """`resultCode` that a seller answers to a call of the marketplace (spec §2.1); the HTTP status is always 200."""

    SUCCESS = "000000"
    UNAUTHENTICATED = "000001"
    INVALID_PARAMETER = "000002"
    UNKNOWN_LICENSE = "000003"
    IN_PROGRESS = "000004"
    INTERNAL_ERROR = "000005"


CALLBACK: Mapping[CallbackCode, str] = MappingProxyType(
    {
        CallbackCode.SUCCESS: "success.",
        CallbackCode.UNAUTHENTICATED: "authentication failed",
        CallbackCode.INVALID_PARAMETER: "illegal parameter",
        CallbackCode.UNKNOWN_LICENSE: "license code does not exist",
        CallbackCode.IN_PROGRESS: "in progress",
        CallbackCode.INTERNAL_ERROR: "internal error",
    }
)


class OrderCode(StrEnum):
    """`resultCode` of order/query (spec §1.6); the older generation writes `CBC.` for `MKT.`."""

    SUCCESS = "MKT.0000"
    INTERNAL_ERROR = "MKT.0999"
    INPUT_FAILURE = "MKT.0100"
    INVALID_PARAMETER = "MKT.0101"
    PARAMETER_ERROR = "MKT.0199"
    ILLEGAL_OPERATION = "MKT.0150"
    NO_AUTHORITY = "MKT.0151"
    ILLEGAL_TOKEN = "MKT.0154"  # noqa: S105 - a result code
    TOO_FREQUENT = "MKT.0250"
    UNKNOWN_INSTANCE = "MKT.9001"
    INVALID_USAGE = "MKT.9002"
    TOO_MANY_RECORDS = "MKT.9003"
    RECORD_TOO_OLD = "MKT.9004"


ORDER: Mapping[OrderCode, Outcome] = MappingProxyType(
    {
        OrderCode.SUCCESS: Outcome(200, "Success"),
        OrderCode.INTERNAL_ERROR: Outcome(500, "System internal error."),
        OrderCode.INPUT_FAILURE: Outcome(500, "Failure of input parameter"),
        OrderCode.INVALID_PARAMETER: Outcome(400, "Invalid parameter"),
        OrderCode.PARAMETER_ERROR: Outcome(400, "Request parameter error"),
        OrderCode.ILLEGAL_OPERATION: Outcome(401, "Illegal operation"),
        OrderCode.NO_AUTHORITY: Outcome(401, "No authority"),
        OrderCode.ILLEGAL_TOKEN: Outcome(401, "Illegal token"),
        OrderCode.TOO_FREQUENT: Outcome(406, "Access frequency overlimit"),
        OrderCode.UNKNOWN_INSTANCE: Outcome(500, "Instance ID not found."),
        OrderCode.INVALID_USAGE: Outcome(500, "Invalid usage enties."),
        OrderCode.TOO_MANY_RECORDS: Outcome(500, "Usage records extends size limit."),
        OrderCode.RECORD_TOO_OLD: Outcome(500, "Record beginTime extends Limit."),
    }
)


def gateway_throttled(policy: str, count: int, window_s: int, request_id: str) -> tuple[int, bytes]:
    """Status and body of the gateway's refusal of too many calls: 429 `APIG.0308`, in the words of its own help pages."""
    message = f"The throttling threshold has been reached: policy {policy} over ratelimit,limit:{count},time:{window_s} second"
    return 429, msgspec.json.encode({"error_msg": message, "error_code": "APIG.0308", "request_id": request_id})


def gateway_error(message: str, request_id: str) -> tuple[int, bytes]:
    """Status and body of the gateway's refusal of a signature: 401 `APIG.0301` (spec §1.9)."""
    return 401, msgspec.json.encode({"error_msg": message, "error_code": "APIG.0301", "request_id": request_id})


def gateway_unpublished(request_id: str) -> tuple[int, bytes]:
    """Status and body of the gateway's answer for a URI that it does not know: 404 `APIG.0101` (spec §1.9)."""
    message = "The API does not exist or has not been published in the environment."
    return 404, msgspec.json.encode({"error_msg": message, "error_code": "APIG.0101", "request_id": request_id})
