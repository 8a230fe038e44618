"""Answers of the License open API as a seller's program reads them (spec §§1.3–1.5, 1.8, 1.9).

In: tolerant decoding; the error code decides, never the HTTP status. Out: transport (`client`), what an answer means for a license.

Unknown fields are ignored, a number may be a text and a text a number, what is not documented may be missing.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec

from licensesvc.marketplace.huawei.orders import MalformedAnswer, MarketplaceRefusal
from licensesvc.marketplace.huawei.result_codes import OpenApiCode
from licensesvc.strictjson import decode_object

MAX_TEXT: Final = 1024
"""Characters of a field that we keep; the longest documented one has so many."""
MAX_AMOUNT: Final = 10**9

_SIGNATURE_CODE: Final = re.compile(r"APIGW?\.03\d\d", re.ASCII)
_THROTTLED: Final = frozenset({"APIG.0308", "APIGW.0308"})
_GATEWAY: Final = "APIG"
_UNAUTHORIZED: Final = 401


class CodeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What the marketplace says of one code; stamps as it wrote them, None where it said nothing.

    `status` is `ALIVE`, `EXPIRED` or `RELEASED`; any other word means that the code is not usable (spec §11.4).
    """

    status: str
    license_code: str | None = None
    activate_time: str | None = None
    expire_time: str | None = None
    product_id: str | None = None
    order_id: str | None = None
    amount: int | None = None

    def __repr__(self) -> str:
        return f"CodeFacts({self.status!r}, order_id={self.order_id!r})"


class UnknownShape(MalformedAnswer):
    """A success whose undocumented part looks otherwise than we assume."""


def refuses_signature(status: int, body: bytes) -> bool | None:
    """Whether the gateway refused the signature; None where the answer tells neither: nobody behind the gateway spoke."""
    try:
        code = _code(decode_object(body))
    except (ValueError, MalformedAnswer):
        return True if status == _UNAUTHORIZED else None
    if not code.startswith(_GATEWAY):
        return False
    if code in _THROTTLED:
        return None
    return True if _SIGNATURE_CODE.fullmatch(code) or status == _UNAUTHORIZED else None


def parse_activated(body: bytes) -> CodeFacts:
    """Read the answer of activate v1: `license_code_info` is JSON inside a string (or, tolerated, an object).

    Raises `MarketplaceRefusal`, `MalformedAnswer`.
    """
    info = _data(body, dict).get("license_code_info")
    if isinstance(info, str):
        try:
            info = decode_object(info.encode(errors="surrogatepass"))
        except ValueError as error:
            raise UnknownShape(f"license_code_info: {error}") from None
    return _facts(info)


def parse_code(body: bytes) -> CodeFacts:
    """Read the answer of query v1. Raises `MarketplaceRefusal`, `MalformedAnswer`."""
    return _facts(_data(body, dict))


def parse_codes(body: bytes, asked: Sequence[str]) -> dict[str, CodeFacts]:
    """Read the answer of query v2, by code; codes that were not asked for are dropped, absent ones stay absent [I].

    Raises `MarketplaceRefusal`, `MalformedAnswer`.
    """
    wanted = set(asked)
    facts = [_facts(item) for item in _data(body, list)]
    return {item.license_code: item for item in facts if item.license_code in wanted}


def parse_done(body: bytes) -> None:
    """Read an answer that carries no data (activate v2). Raises `MarketplaceRefusal`, `MalformedAnswer`."""
    _success(body)


def parse_usage_report(body: bytes) -> frozenset[str]:
    """Read the answer of software-usage-info: the codes that failed validation.

    Only the beginning of that field's name, `check_fail_`, is documented [I]: whatever list bears such a name is read, of codes or of
    objects with a `license`. Raises `MarketplaceRefusal`, `MalformedAnswer`.
    """
    data = _success(body).get("data")
    failed: set[str] = set()
    if isinstance(data, dict):
        for name, items in data.items():
            if name.startswith("check_fail_") and isinstance(items, list):
                failed.update(code for item in items if isinstance(code := _named(item), str))
    return frozenset(failed)


def _named(item: Any) -> Any:
    return item.get("license", item.get("license_code")) if isinstance(item, dict) else item


def _success(body: bytes) -> dict[str, Any]:
    try:
        fields = decode_object(body)
    except ValueError as error:
        raise MalformedAnswer(str(error)) from None
    code = _code(fields)
    if code != OpenApiCode.SUCCESS:
        raise MarketplaceRefusal(code, (_text(fields, "error_msg", "resultMsg") or "")[:MAX_TEXT])
    return fields


def _code(fields: Mapping[str, Any]) -> str:
    code = _text(fields, "error_code", "resultCode")
    if not code or len(code) > MAX_TEXT:
        raise MalformedAnswer("no error_code")
    return code


def _data(body: bytes, kind: type[Any]) -> Any:
    data = _success(body).get("data")
    if not isinstance(data, kind):
        raise UnknownShape(f"data is no {_JSON_WORDS[kind]}")
    return data


_JSON_WORDS: Final[Mapping[type[Any], Literal["object", "array"]]] = {dict: "object", list: "array"}


def _facts(item: Any) -> CodeFacts:
    if not isinstance(item, dict):
        raise UnknownShape("a code's facts are no object")
    status = _text(item, "status")
    if not status:
        raise UnknownShape("a code without status")
    return CodeFacts(
        status=status,
        license_code=_text(item, "license_code", "license"),
        activate_time=_text(item, "activate_time"),
        expire_time=_text(item, "expire_time"),
        product_id=_text(item, "product_id"),
        order_id=_text(item, "order_id"),
        amount=_amount(item.get("amount")),
    )


def _text(fields: Mapping[str, Any], *names: str) -> str | None:
    for name in names:
        value = fields.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, str) and value:
            return value if len(value) <= MAX_TEXT else None
    return None


def _amount(value: Any) -> int | None:
    if isinstance(value, str):
        value = int(value) if value.isascii() and value.isdigit() and len(value) <= len(str(MAX_AMOUNT)) else None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_AMOUNT else None
