"""Calls of the marketplace to the seller and their answers: License 1.0 getLicense (spec §2.2), order notification (§2.5).

In: reading verified parameters and bodies, writing answers. Out: signatures, idempotency, what an order means.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from licensesvc.domain.errors import InvalidParameter
from licensesvc.marketplace.huawei.result_codes import CALLBACK, CallbackCode
from licensesvc.strictjson import decode_object

MAX_EXTEND_PARAMS = 4096  # [NF]; the marketplace's own bound is not published

_TEST_FLAGS = {"": False, "0": False, "1": True}
_NUMBER = re.compile(r"[0-9]+")


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


class OrderNotify(msgspec.Struct, frozen=True, kw_only=True):
    """Something happened to this order: query it."""

    order_id: str
    order_line_id: str | None
    test: bool


def parse_get_license(parameters: Mapping[str, str]) -> GetLicense:
    """Read the decoded, verified parameters; unknown ones are ignored. Raises `InvalidParameter` naming the field."""
    _check_activity(parameters, "getLicense")
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
        amount=_number(parameters, "amount", 7),
        saas_extend_params=_optional(parameters, "saasExtendParams", MAX_EXTEND_PARAMS),
        test=_test_flag(parameters),
    )


def parse_order_notify(body: bytes) -> OrderNotify:
    """Read an order notification; unknown fields are ignored, `null` is absent. Raises `InvalidParameter`."""
    try:
        fields = decode_object(body)
    except ValueError:
        raise InvalidParameter("body is not readable") from None
    _check_activity(fields, "orderNotify")
    return OrderNotify(
        order_id=_mandatory(fields, "orderId", 64),
        order_line_id=_optional(fields, "orderLineId", 64),
        test=_test_flag(fields),
    )


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


def _check_activity(fields: Mapping[str, Any], activity: str) -> None:
    if fields.get("activity") != activity:
        raise InvalidParameter(f"activity is not {activity}")


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


def _number(fields: Mapping[str, Any], name: str, max_digits: int) -> int | None:
    value = _optional(fields, name, max_digits)
    if value is None:
        return None
    if _NUMBER.fullmatch(value) is None:
        raise InvalidParameter(f"{name} is not a whole number")
    return int(value)


def _test_flag(fields: Mapping[str, Any]) -> bool:
    value = _optional(fields, "testFlag", 2) or ""
    if value not in _TEST_FLAGS:
        raise InvalidParameter("testFlag is neither 0 nor 1")
    return _TEST_FLAGS[value]
