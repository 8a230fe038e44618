"""Calls of the marketplace to the seller and their answers: License 2.0 (spec §2.1), License 1.0 (§2.2), acceptance (§2.3), order notification (§2.5).

In: reading verified parameters and bodies by one table per dialect, writing answers. Out: signatures, idempotency, what a call means.
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.marketplace_calls import Scene
from licensesvc.marketplace.huawei.result_codes import CALLBACK, CallbackCode
from licensesvc.strictjson import decode_object

MAX_EXTEND_PARAMS = 4096  # [NF]; the marketplace's own bound is not published

_TEST_FLAGS: Final = {"": False, "0": False, "1": True}
_NUMBER: Final = re.compile(r"[0-9]+")
_FLAG: Final = re.compile(r"[0-9]{1,2}")

E = TypeVar("E", bound=StrEnum)


class Status(StrEnum):
    """What updateLicenseCodeStatus makes of a code."""

    FREEZE = "FREEZE"
    UNFREEZE = "UNFREEZE"


class GetLicense(msgspec.Struct, frozen=True, kw_only=True):
    """A getLicense call; `None` where a parameter is absent or blank.

    `business_id` differs on every request, `order_id` is the key of idempotency. `expire_time` is an estimate in the
    connection's wire zone, `saas_extend_params` stays encoded as received.
    """

    customer_id: str
    customer_name: str | None
    business_id: str
    order_id: str
    sku_code: str | None
    product_id: str
    expire_time: str | None
    period_type: str | None
    period_number: int | None
    amount: int | None
    saas_extend_params: str | None
    test: bool

    def __repr__(self) -> str:
        return f"GetLicense({self.order_id!r})"


class RefreshLicense(msgspec.Struct, frozen=True, kw_only=True):
    """License 1.0: the instance ends at `expire_time`; `order_id` is the new order of the renewal."""

    order_id: str
    instance_id: str
    product_id: str | None
    expire_time: str
    period_type: str | None
    period_number: int | None
    test: bool


class ExpireLicense(msgspec.Struct, frozen=True, kw_only=True):
    """License 1.0: the instance has expired; `order_id` is the purchase. The fields are those of releaseLicense [I]."""

    order_id: str
    instance_id: str
    test: bool


class ReleaseLicense(msgspec.Struct, frozen=True, kw_only=True):
    """License 1.0: the instance is given up; `order_id` is the purchase."""

    order_id: str
    instance_id: str
    test: bool


class RefreshLicenseCode(msgspec.Struct, frozen=True, kw_only=True):
    """License 2.0: the code ends at `expire_time`; `order_id` is the new order of the renewal, or of its refund."""

    scene: Scene
    order_id: str
    order_line_id: str
    license: str
    product_id: str | None
    expire_time: str
    test: bool

    def __repr__(self) -> str:
        return f"RefreshLicenseCode({self.order_id!r})"


class UpdateLicenseCodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """License 2.0: the code is frozen, or usable again."""

    license: str
    status: Status
    test: bool

    def __repr__(self) -> str:
        return f"UpdateLicenseCodeStatus({self.status!r})"


class ReleaseLicenseCode(msgspec.Struct, frozen=True, kw_only=True):
    """License 2.0: the code is given up; `order_id` is the refund, None where the buyer did not renew."""

    license: str
    order_id: str | None
    order_line_id: str | None
    test: bool

    def __repr__(self) -> str:
        return f"ReleaseLicenseCode({self.order_id!r})"


class NewInstance(msgspec.Struct, frozen=True, kw_only=True):
    """SaaS: the line was bought, or, with `acceptance_time` (in the connection's wire zone), its buyer has accepted."""

    order_id: str
    order_line_id: str
    acceptance_time: str | None
    test: bool


class OrderNotify(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened to this order: query it."""

    order_id: str
    order_line_id: str | None
    test: bool


Call: TypeAlias = (
    GetLicense
    | RefreshLicense
    | ExpireLicense
    | ReleaseLicense
    | RefreshLicenseCode
    | UpdateLicenseCodeStatus
    | ReleaseLicenseCode
    | NewInstance
    | OrderNotify
)
"""Every call there is. With `test` (testFlag=1) it is a debug case: checked like a live one, answered without touching anything."""


def parse_v1(parameters: Mapping[str, str]) -> Call:
    """Read the decoded, verified parameters of a GET; unknown ones are ignored. Raises `InvalidParameter` naming the field."""
    return _parse(V1, parameters)


def parse_v2(body: bytes) -> Call:
    """Read the body of a POST; unknown fields are ignored, `null` is absent. Raises `InvalidParameter` naming the field."""
    return _parse(V2, _fields(body))


def is_test(fields: Mapping[str, object]) -> bool:
    """Say whether a call claims to be a debug case; it need not be readable otherwise."""
    return _whole(fields.get("testFlag")) == "1"


def _read_get_license(parameters: Mapping[str, Any]) -> GetLicense:
    return GetLicense(
        customer_id=_mandatory(parameters, "customerId", 100),
        customer_name=_optional(parameters, "customerName", 64),
        business_id=_mandatory(parameters, "businessId", 64),
        order_id=_mandatory(parameters, "orderId", 64),
        sku_code=_optional(parameters, "skuCode", 64),
        product_id=_mandatory(parameters, "productId", 64),
        expire_time=_optional(parameters, "expireTime", 20),
        period_type=_optional(parameters, "periodType", 10),
        period_number=_number(parameters, "periodNumber", 2),
        amount=_amount(parameters),
        saas_extend_params=_optional(parameters, "saasExtendParams", MAX_EXTEND_PARAMS),
        test=_v1_test_flag(parameters),
    )


def _read_refresh_license(parameters: Mapping[str, Any]) -> RefreshLicense:
    return RefreshLicense(
        order_id=_mandatory(parameters, "orderId", 64),
        instance_id=_mandatory(parameters, "instanceId", 64),
        product_id=_optional(parameters, "productId", 64),
        expire_time=_mandatory(parameters, "expireTime", 20),
        period_type=_optional(parameters, "periodType", 10),
        period_number=_number(parameters, "periodNumber", 2),
        test=_v1_test_flag(parameters),
    )


def _read_expire_license(parameters: Mapping[str, Any]) -> ExpireLicense:
    return ExpireLicense(
        order_id=_mandatory(parameters, "orderId", 64),
        instance_id=_mandatory(parameters, "instanceId", 64),
        test=_v1_test_flag(parameters),
    )


def _read_release_license(parameters: Mapping[str, Any]) -> ReleaseLicense:
    return ReleaseLicense(
        order_id=_mandatory(parameters, "orderId", 64),
        instance_id=_mandatory(parameters, "instanceId", 64),
        test=_v1_test_flag(parameters),
    )


def _read_refresh_license_code(fields: Mapping[str, Any]) -> RefreshLicenseCode:
    return RefreshLicenseCode(
        scene=_one_of(fields, "scene", 64, Scene),
        order_id=_mandatory(fields, "orderId", 64),
        order_line_id=_mandatory(fields, "orderLineId", 64),
        license=_mandatory(fields, "license", 64),
        product_id=_optional(fields, "productId", 64),
        expire_time=_mandatory(fields, "expireTime", 20),
        test=_test_flag(fields),
    )


def _read_update_license_code_status(fields: Mapping[str, Any]) -> UpdateLicenseCodeStatus:
    return UpdateLicenseCodeStatus(
        license=_mandatory(fields, "license", 64),
        status=_one_of(fields, "status", 32, Status),
        test=_test_flag(fields),
    )


def _read_release_license_code(fields: Mapping[str, Any]) -> ReleaseLicenseCode:
    return ReleaseLicenseCode(
        license=_mandatory(fields, "license", 64),
        order_id=_optional(fields, "orderId", 64),
        order_line_id=_optional(fields, "orderLineId", 64),
        test=_test_flag(fields),
    )


def _read_new_instance(fields: Mapping[str, Any]) -> NewInstance:
    _mandatory(fields, "businessId", 64)
    return NewInstance(
        order_id=_mandatory(fields, "orderId", 64),
        order_line_id=_mandatory(fields, "orderLineId", 64),
        acceptance_time=_optional(fields, "acceptanceTime", 20),
        test=_test_flag(fields),
    )


def _read_order_notify(fields: Mapping[str, Any]) -> OrderNotify:
    return OrderNotify(
        order_id=_mandatory(fields, "orderId", 64),
        order_line_id=_optional(fields, "orderLineId", 64),
        test=_test_flag(fields),
    )


V1: Final[Mapping[str, Callable[[Mapping[str, Any]], Call]]] = {
    "getLicense": _read_get_license,
    "refreshLicense": _read_refresh_license,
    "expireLicense": _read_expire_license,
    "releaseLicense": _read_release_license,
}
"""Calls by GET, with authToken (spec §2.2)."""
V2: Final[Mapping[str, Callable[[Mapping[str, Any]], Call]]] = {
    "refreshLicenseCode": _read_refresh_license_code,
    "updateLicenseCodeStatus": _read_update_license_code_status,
    "releaseLicenseCode": _read_release_license_code,
    "newInstance": _read_new_instance,
    "orderNotify": _read_order_notify,
}
"""Calls by POST of a JSON body, with the signature in the URL (spec §§2.1, 2.3, 2.5)."""


def result(code: CallbackCode, msg: str | None = None) -> bytes:
    """Write `{"resultCode":…,"resultMsg":…}`; without `msg` the code's own text. At most 255 characters are sent."""
    return msgspec.json.encode({"resultCode": code, "resultMsg": (msg or CALLBACK[code])[:255]})


def get_license_success(license_text: str, instance_id: str) -> bytes:
    """Write the answer that delivers a licence, in the key order of the documented sample (spec §2.2)."""
    return msgspec.json.encode(
        {
            "resultCode": CallbackCode.SUCCESS,
            "resultMsg": CALLBACK[CallbackCode.SUCCESS],
            "license": license_text,
            "instanceId": instance_id,
        }
    )


def new_instance_success(instance_id: str) -> bytes:
    """Write the answer to newInstance (spec §2.3)."""
    code = CallbackCode.SUCCESS
    return msgspec.json.encode({"resultCode": code, "resultMsg": CALLBACK[code], "instanceId": instance_id})


def _fields(body: bytes) -> dict[str, Any]:
    try:
        return decode_object(body)
    except ValueError:
        raise InvalidParameter("body is not readable") from None


def _parse(table: Mapping[str, Callable[[Mapping[str, Any]], Call]], fields: Mapping[str, Any]) -> Call:
    activity = fields.get("activity")
    parse = table.get(activity) if isinstance(activity, str) else None
    if parse is None:
        raise InvalidParameter(f"activity is not one of {', '.join(table)}")
    return parse(fields)


def _optional(fields: Mapping[str, Any], name: str, max_length: int) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > max_length or "\0" in value:
        raise InvalidParameter(f"{name} is not a text of at most {max_length} characters")
    return value


def _mandatory(fields: Mapping[str, Any], name: str, max_length: int) -> str:
    value = _optional(fields, name, max_length)
    if value is None:
        raise InvalidParameter(f"{name} is missing")
    return value


def _one_of(fields: Mapping[str, Any], name: str, max_length: int, values: type[E]) -> E:
    value = _mandatory(fields, name, max_length)
    try:
        return values(value)
    except ValueError:
        raise InvalidParameter(f"{name} is not one of {', '.join(values)}") from None


def _number(fields: Mapping[str, Any], name: str, max_digits: int) -> int | None:
    value = _optional(fields, name, max_digits)
    if value is None:
        return None
    if _NUMBER.fullmatch(value) is None:
        raise InvalidParameter(f"{name} is not a whole number")
    return int(value)


def _amount(parameters: Mapping[str, Any]) -> int | None:
    amount = _number(parameters, "amount", 7)
    if amount == 0:
        raise InvalidParameter("amount is not 1 or more")
    return amount


def _test_flag(fields: Mapping[str, Any]) -> bool:
    value = _optional(fields, "testFlag", 2) or ""
    if value not in _TEST_FLAGS:
        raise InvalidParameter("testFlag is neither 0 nor 1")
    return _TEST_FLAGS[value]


def _v1_test_flag(parameters: Mapping[str, Any]) -> bool:
    """License 1.0 has no table for it, its sibling SaaS 1.0 calls it an integer (spec §2.4): `01` is 1."""
    return _test_flag({"testFlag": _whole(_optional(parameters, "testFlag", 2))})


def _whole(value: object) -> object:
    """A text of one or two digits without leading zeros; anything else as it is."""
    return str(int(value)) if isinstance(value, str) and _FLAG.fullmatch(value) else value
