"""Bodies of the License open API, v1 activate and heartbeat (spec §§1.3, 1.4), as its server sees them.

In: reading requests, writing answers. Out: signatures (`aksk`), the decision itself, v2 batches.
"""

from collections.abc import Mapping
from datetime import UTC
from types import MappingProxyType
from typing import Any

import msgspec

from licensesvc.domain.connection import ErrorTable
from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import parse_stamp
from licensesvc.marketplace.huawei.result_codes import OPEN_API, OpenApiCode
from licensesvc.strictjson import Unacceptable, Unreadable, decode_object

MAX_LICENSE = 64
MAX_THIRD_PARTY_ACCOUNT = 256
MAX_IP = 32
STAMP_DIGITS = 14

_SUCCESS_MESSAGE = OPEN_API[ErrorTable.CURRENT][OpenApiCode.SUCCESS].message
"""The same in both generations."""

_encode = msgspec.json.Encoder().encode


class OpenApiFault(Exception):
    """The request cannot be served; answer `failure(error_code)`."""

    def __init__(self, error_code: OpenApiCode) -> None:
        super().__init__(error_code)
        self.error_code = error_code


class ActivateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One code to put into service; `real_effect_time` is 14 digits that are a calendar date, UTC."""

    license: str
    real_effect_time: str | None = None


class HeartbeatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One code to ask for, with what older software still tells about its user."""

    license: str
    third_party_account: str | None = None
    ip: str | None = None


def parse_activate(body: bytes) -> ActivateRequest:
    """Read an activate body (spec §1.3); unknown fields are ignored, `null` is absent [I].

    Raises `OpenApiFault`: `UNREADABLE` for what is no JSON, `INVALID_PARAM` for a stamp that is no calendar date,
    `BAD_REQUEST` for everything else.
    """
    fields = _fields(body)
    real_effect_time = _optional(fields, "real_effect_time", STAMP_DIGITS)
    if real_effect_time is not None:
        _check_stamp(real_effect_time)
    return ActivateRequest(license=_mandatory(fields, "license", MAX_LICENSE), real_effect_time=real_effect_time)


def parse_heartbeat(body: bytes) -> HeartbeatRequest:
    """Read a heartbeat body (spec §1.4); `heartbeatInfo` may be absent, its account is mandatory when it is there.

    Raises `OpenApiFault` as `parse_activate`.
    """
    fields = _fields(body)
    code = _mandatory(fields, "license", MAX_LICENSE)
    info = fields.get("heartbeatInfo")
    if info is None:
        return HeartbeatRequest(license=code)
    if not isinstance(info, dict):
        raise OpenApiFault(OpenApiCode.BAD_REQUEST)
    return HeartbeatRequest(
        license=code,
        third_party_account=_mandatory(info, "thirdPartyAccount", MAX_THIRD_PARTY_ACCOUNT),
        ip=_optional(info, "ip", MAX_IP),
    )


def activate_success(*, status: str, expire_time: str, product_id: str, amount: int, order_id: str) -> bytes:
    """Write the answer of the documented sample, byte for byte: `license_code_info` is JSON inside a string."""
    info = _encode(
        {
            "status": status,
            "expire_time": expire_time,
            "product_id": product_id,
            "amount": amount,
            "order_id": order_id,
        }
    )
    return _success({"license_code_info": info.decode()})


def heartbeat_success(
    *,
    license_code: str,
    status: str,
    activate_time: str,
    expire_time: str,
    product_id: str,
    order_id: str,
    amount: int,
) -> bytes:
    """Write the answer of a query; the fields after `activate_time` and their order are [I] (spec §1.4)."""
    return _success(
        {
            "license_code": license_code,
            "status": status,
            "activate_time": activate_time,
            "expire_time": expire_time,
            "product_id": product_id,
            "order_id": order_id,
            "amount": amount,
        }
    )


def failure(error_code: OpenApiCode, table: ErrorTable = ErrorTable.CURRENT) -> tuple[int, bytes]:
    """HTTP status and body of a refusal in the words of a generation; it carries no `data` [I]."""
    return _FAILURES[table][error_code]


_FAILURES: Mapping[ErrorTable, Mapping[OpenApiCode, tuple[int, bytes]]] = MappingProxyType(
    {
        table: {
            code: (
                outcome.http_status,
                _encode({"error_code": outcome.code or code, "error_msg": outcome.message}),
            )
            for code, outcome in outcomes.items()
            if code is not OpenApiCode.SUCCESS
        }
        for table, outcomes in OPEN_API.items()
    }
)


def _success(data: Any) -> bytes:
    return _encode({"error_code": OpenApiCode.SUCCESS, "error_msg": _SUCCESS_MESSAGE, "data": data})


def _fields(body: bytes) -> dict[str, Any]:
    try:
        return decode_object(body)
    except Unreadable:
        raise OpenApiFault(OpenApiCode.UNREADABLE) from None
    except Unacceptable:
        raise OpenApiFault(OpenApiCode.BAD_REQUEST) from None


def _mandatory(fields: Mapping[str, Any], name: str, max_length: int) -> str:
    value = _optional(fields, name, max_length)
    if not value:
        raise OpenApiFault(OpenApiCode.BAD_REQUEST)
    return value


def _optional(fields: Mapping[str, Any], name: str, max_length: int) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > max_length:
        raise OpenApiFault(OpenApiCode.BAD_REQUEST)
    return value


def _check_stamp(text: str) -> None:
    if len(text) != STAMP_DIGITS or not (text.isascii() and text.isdigit()):
        raise OpenApiFault(OpenApiCode.BAD_REQUEST)
    try:
        parse_stamp(text, UTC)
    except InvalidParameter:
        raise OpenApiFault(OpenApiCode.INVALID_PARAM) from None
