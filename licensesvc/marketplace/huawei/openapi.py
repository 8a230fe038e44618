"""Bodies of the License open API, activate and heartbeat, one by one (v1) and in lists (v2), as its server sees them (spec §§1.3, 1.4).

In: reading requests, writing answers. Out: signatures (`aksk`), the decision itself, reports of usage (`usage`).
"""

from collections.abc import Mapping, Sequence
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
MAX_LIST = 100
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


class ActivateAllRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Codes to put into service, 1 to 100, each once."""

    license_list: tuple[str, ...]
    real_effect_time: str | None = None

    def __repr__(self) -> str:
        return f"ActivateAllRequest({len(self.license_list)} codes)"


class HeartbeatAllRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Codes to ask for, 1 to 100."""

    license_list: tuple[str, ...]

    def __repr__(self) -> str:
        return f"HeartbeatAllRequest({len(self.license_list)} codes)"


class LicenseInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a query tells of a code; the fields after `activate_time` and their order are [I] (spec §1.4)."""

    license_code: str
    status: str
    activate_time: str
    expire_time: str
    product_id: str
    order_id: str
    amount: int

    def __repr__(self) -> str:
        return f"LicenseInfo(status={self.status!r}, order_id={self.order_id!r})"


def parse_activate(body: bytes) -> ActivateRequest:
    """Read an activate body (spec §1.3); unknown fields are ignored, `null` is absent, and so is an empty stamp [I].

    Raises `OpenApiFault`: `UNREADABLE` for what is no JSON, `INVALID_PARAM` for a stamp that is no calendar date,
    `BAD_REQUEST` for everything else.
    """
    fields = read_fields(body)
    real_effect_time = _stamp(fields)
    return ActivateRequest(license=mandatory(fields, "license", MAX_LICENSE), real_effect_time=real_effect_time)


def parse_activate_all(body: bytes) -> ActivateAllRequest:
    """Read a v2 activate body (spec §1.3); a code that is listed twice is listed once. Raises as `parse_activate`."""
    fields = read_fields(body)
    real_effect_time = _stamp(fields)
    codes = tuple(dict.fromkeys(_codes(fields)))
    return ActivateAllRequest(license_list=codes, real_effect_time=real_effect_time)


def parse_heartbeat(body: bytes) -> HeartbeatRequest:
    """Read a heartbeat body (spec §1.4); `heartbeatInfo` may be absent, its account is mandatory when it is there.

    Raises `OpenApiFault` as `parse_activate`.
    """
    fields = read_fields(body)
    code = mandatory(fields, "license", MAX_LICENSE)
    info = fields.get("heartbeatInfo")
    if info is None:
        return HeartbeatRequest(license=code)
    if not isinstance(info, dict):
        raise OpenApiFault(OpenApiCode.BAD_REQUEST)
    return HeartbeatRequest(
        license=code,
        third_party_account=mandatory(info, "thirdPartyAccount", MAX_THIRD_PARTY_ACCOUNT),
        ip=optional(info, "ip", MAX_IP),
    )


def parse_heartbeat_all(body: bytes) -> HeartbeatAllRequest:
    """Read a v2 heartbeat body [I] (spec §1.4). Raises as `parse_activate`."""
    return HeartbeatAllRequest(license_list=tuple(_codes(read_fields(body))))


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
    return success({"license_code_info": info.decode()})


def activate_all_success() -> bytes:
    """Write the answer to a list that was put into service: no `data` (spec §1.3)."""
    return _ALL_ACTIVATED


def heartbeat_success(info: LicenseInfo) -> bytes:
    """Write the answer of a query."""
    return success(info)


def heartbeat_all_success(infos: Sequence[LicenseInfo]) -> bytes:
    """Write the answer of a query of a list, in its order [I] (spec §1.4)."""
    return success(infos)


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


_ALL_ACTIVATED = _encode({"error_code": OpenApiCode.SUCCESS, "error_msg": _SUCCESS_MESSAGE})


def success(data: Any) -> bytes:
    """Write the envelope of a success."""
    return _encode({"error_code": OpenApiCode.SUCCESS, "error_msg": _SUCCESS_MESSAGE, "data": data})


def read_fields(body: bytes) -> dict[str, Any]:
    """Read the object in a body; raises `OpenApiFault`."""
    try:
        return decode_object(body)
    except Unreadable:
        raise OpenApiFault(OpenApiCode.UNREADABLE) from None
    except Unacceptable:
        raise OpenApiFault(OpenApiCode.BAD_REQUEST) from None


def mandatory(fields: Mapping[str, Any], name: str, max_length: int) -> str:
    """Take a text that must be there and not be empty; raises `OpenApiFault`."""
    value = optional(fields, name, max_length)
    if not value:
        raise OpenApiFault(OpenApiCode.BAD_REQUEST)
    return value


def optional(fields: Mapping[str, Any], name: str, max_length: int) -> str | None:
    """Take a text, if it is there; raises `OpenApiFault`."""
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or len(value) > max_length:
        raise OpenApiFault(OpenApiCode.BAD_REQUEST)
    return value


def listed(fields: Mapping[str, Any], name: str, max_length: int) -> list[Any]:
    """Take a list that must be there and not be empty; raises `OpenApiFault`."""
    values = fields.get(name)
    if not isinstance(values, list) or not 0 < len(values) <= max_length:
        raise OpenApiFault(OpenApiCode.BAD_REQUEST)
    return values


def _codes(fields: Mapping[str, Any]) -> list[str]:
    codes = listed(fields, "license_list", MAX_LIST)
    if not all(isinstance(code, str) and 0 < len(code) <= MAX_LICENSE for code in codes):
        raise OpenApiFault(OpenApiCode.BAD_REQUEST)
    return codes


def _stamp(fields: Mapping[str, Any]) -> str | None:
    text = optional(fields, "real_effect_time", STAMP_DIGITS)
    if not text:
        return None
    if len(text) != STAMP_DIGITS or not (text.isascii() and text.isdigit()):
        raise OpenApiFault(OpenApiCode.BAD_REQUEST)
    try:
        parse_stamp(text, UTC)
    except InvalidParameter:
        raise OpenApiFault(OpenApiCode.INVALID_PARAM) from None
    return text
