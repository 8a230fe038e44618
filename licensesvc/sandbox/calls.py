"""The calls of the marketplace to the seller: how each is written and signed, and which answers count (spec §§2.2, 2.5, 4).

In: bytes out of an order, a verdict out of an answer. Out: the network, retries (`marketplace`).
"""

import re
import secrets
import string
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode
from uuid import uuid4

import msgspec

from licensesvc.domain.instants import SECOND, Instant, to_datetime
from licensesvc.domain.order import OrderType
from licensesvc.marketplace.huawei.result_codes import CallbackCode
from licensesvc.marketplace.huawei.signature_v1 import BODY_SIGN_HEADER, auth_token, check_body_sign
from licensesvc.marketplace.huawei.signature_v2 import sign_url
from licensesvc.sandbox.orders import BUYER, V1_ACTIVITIES, Activity, PlacedOrder, expire_time, extend_params
from licensesvc.strictjson import decode_object

MAX_INSTANCE_ID: Final = 64

_HTTP_OK: Final = 200
_NONCE_LENGTH: Final = 32
_NONCE_SYMBOLS: Final = string.ascii_letters + string.digits
_MASKED: Final = re.compile(r"\b(authToken|signature)=[^&]*")


class AnswerRefused(Exception):
    """The seller's answer does not count as a success; the text says why."""


class InProgress(AnswerRefused):
    """The seller has begun, but is not done (000004)."""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the seller; `query` is encoded and carries the signature."""

    method: str
    query: str
    body: bytes

    @property
    def masked_query(self) -> str:
        """The query without the signature, for people."""
        return _MASKED.sub(r"\1=***", self.query)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, header names in their own case."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Delivered(msgspec.Struct, frozen=True, kw_only=True):
    """The licence that the seller delivered."""

    license: str
    instance_id: str


def compose(
    activity: Activity,
    order: PlacedOrder,
    access_key: str,
    now: Instant,
    *,
    fields: Mapping[str, str] | None = None,
    upper: bool = False,
) -> Call:
    """Write and sign one call; nonce and businessId are fresh each time.

    `fields` are the call's own where the order alone does not tell them; `upper` writes the signature in upper case.
    """
    if activity is Activity.GET_LICENSE and fields is None:
        return _get(_license_fields(order), access_key, now)
    if activity in V1_ACTIVITIES:
        return _get({"activity": activity, **(fields or {})}, access_key, now)
    told = fields if fields is not None else _order_fields(order, activity)
    return _post({"activity": activity, "testFlag": "0", **told}, access_key, now, upper=upper)


def read_answer(answer: Answer, activity: Activity, access_key: str) -> None:
    """Raise `AnswerRefused`, or `SignatureRefused`, unless the seller took notice."""
    if activity in V1_ACTIVITIES:
        _check_status(answer)
        _check_body_sign(answer, access_key)
    _successful(answer)


def read_refusal(answer: Answer, code: CallbackCode) -> None:
    """Raise `AnswerRefused` unless the seller refused the call with this code."""
    _check_status(answer)
    try:
        fields = decode_object(answer.body)
    except ValueError as error:
        raise AnswerRefused(f"the answer is {error}") from None
    if fields.get("resultCode") != code:
        raise AnswerRefused(f"resultCode is {fields.get('resultCode')!r} instead of {code!r}: the call must be refused")


def read_instance_answer(answer: Answer) -> str:
    """The id of the instance that newInstance made (spec §2.3); raises `AnswerRefused`."""
    instance_id = _successful(answer).get("instanceId")
    if not isinstance(instance_id, str) or not 1 <= len(instance_id) <= MAX_INSTANCE_ID:
        raise AnswerRefused(f"instanceId is not a text of 1 to {MAX_INSTANCE_ID} characters")
    return instance_id


def read_license_answer(answer: Answer, access_key: str) -> Delivered:
    """Return what was delivered; raise `AnswerRefused`, or `SignatureRefused` for the `Body-Sign` header."""
    _check_status(answer)
    _check_body_sign(answer, access_key)
    fields = _successful(answer)
    license_text, instance_id = fields.get("license"), fields.get("instanceId")
    if not isinstance(license_text, str) or not license_text:
        raise AnswerRefused("license is missing")
    if not isinstance(instance_id, str) or not 1 <= len(instance_id) <= MAX_INSTANCE_ID:
        raise AnswerRefused(f"instanceId is not a text of 1 to {MAX_INSTANCE_ID} characters")
    return Delivered(license=license_text, instance_id=instance_id)


def _order_fields(order: PlacedOrder, activity: Activity) -> dict[str, str]:
    fields = {"orderId": order.order_id, "orderLineId": order.order_line_id}
    if activity is Activity.NEW_INSTANCE:
        fields["businessId"] = str(uuid4())
    return fields


def _post(fields: Mapping[str, str], access_key: str, now: Instant, *, upper: bool) -> Call:
    body = msgspec.json.encode(fields, order="sorted")
    nonce = "".join(secrets.choice(_NONCE_SYMBOLS) for _ in range(_NONCE_LENGTH))
    signature = sign_url(body, access_key, nonce, now)
    query = urlencode({"signature": signature.upper() if upper else signature, "timestamp": now, "nonce": nonce})
    return Call(method="POST", query=query, body=body)


def _license_fields(order: PlacedOrder) -> dict[str, str]:
    fields = {
        "activity": Activity.GET_LICENSE,
        "amount": order.amount,
        "businessId": uuid4(),
        "customerId": BUYER.customer_id,
        "customerName": BUYER.customer_name,
        "expireTime": expire_time(order),
        "orderId": order.order_id,
        "periodNumber": order.period_number,
        "periodType": order.period_type,
        "productId": order.product_id,
        "saasExtendParams": _extend_params(order),
        "skuCode": order.sku_code,
        # As SaaS V1 tells a trial [I].
        "trialFlag": "1" if order.order_type is OrderType.TRIAL else None,
    }
    return {name: str(value) for name, value in fields.items() if value is not None}


def _extend_params(order: PlacedOrder) -> str | None:
    """`base64Decode(urlDecode(x))` gives a URL-encoded JSON array (spec §2.2 [I])."""
    params = extend_params(order)
    return b64encode(quote(msgspec.json.encode(params)).encode()).decode() if params else None


def _get(fields: Mapping[str, str], access_key: str, now: Instant) -> Call:
    stamp = to_datetime(now).strftime("%Y%m%d%H%M%S") + f"{now % SECOND:03}"
    parameters = dict(sorted({**fields, "timeStamp": stamp}.items()))
    query = urlencode({**parameters, "authToken": auth_token(parameters.items(), access_key)})
    return Call(method="GET", query=query, body=b"")


def _check_body_sign(answer: Answer, access_key: str) -> None:
    """The marketplace compares the name case by case, against all custom of HTTP (spec §4.1.2)."""
    signatures = [value for name, value in answer.headers if name == BODY_SIGN_HEADER.encode()]
    check_body_sign(signatures[0].decode("latin-1") if signatures else None, answer.body, access_key)


def _check_status(answer: Answer) -> None:
    if answer.status != _HTTP_OK:
        raise AnswerRefused(f"HTTP status {answer.status} instead of {_HTTP_OK}")


def _successful(answer: Answer) -> dict[str, Any]:
    _check_status(answer)
    try:
        fields = decode_object(answer.body)
    except ValueError as error:
        raise AnswerRefused(f"the answer is {error}") from None
    code = fields.get("resultCode")
    if code == CallbackCode.IN_PROGRESS:
        raise InProgress(f"the seller is not done yet: {fields.get('resultMsg')}")
    if code != CallbackCode.SUCCESS:
        raise AnswerRefused(f"resultCode is {code!r}: {fields.get('resultMsg')}")
    return fields
