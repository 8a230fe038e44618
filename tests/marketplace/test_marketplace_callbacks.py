"""getLicense and the order notification (spec §§2.1, 2.2, 2.5), row by row."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.domain.errors import InvalidParameter
from licensesvc.marketplace.huawei.callbacks import (
    GetLicense,
    OrderNotify,
    get_license_success,
    parse_v1,
    parse_v2,
    result,
)
from licensesvc.marketplace.huawei.result_codes import CallbackCode

LEAST = {
    "activity": "getLicense",
    "customerId": "c1",
    "businessId": "b1",
    "orderId": "CS1",
    "productId": "p1",
    "timeStamp": "20250522020304123",
}
FULL = {
    **LEAST,
    "customerName": "云商店",
    "skuCode": "s1",
    "expireTime": "20260522155959",
    "periodType": "year",
    "periodNumber": "1",
    "amount": "50",
    "saasExtendParams": "W3sibmFtZSI6ImlkIn1d",
    "testFlag": "1",
    "trialFlag": "0",
}
NOTIFICATION = (
    b'{"activity":"orderNotify","orderId":"CS2211181819B4LVS","orderLineId":"CS2211181819B4LVS-000001","testFlag":"1"}'
)


def test_full_get_license_is_read():
    assert parse_v1(FULL) == GetLicense(
        customer_id="c1",
        customer_name="云商店",
        business_id="b1",
        order_id="CS1",
        sku_code="s1",
        product_id="p1",
        expire_time="20260522155959",
        period_type="year",
        period_number=1,
        amount=50,
        saas_extend_params="W3sibmFtZSI6ImlkIn1d",
        test=True,
    )


@pytest.mark.parametrize("blank", [{}, dict.fromkeys(FULL.keys() - LEAST.keys(), "")])
def test_optional_parameters_may_be_absent_or_blank(blank):
    assert parse_v1({**blank, **LEAST}) == GetLicense(
        customer_id="c1",
        customer_name=None,
        business_id="b1",
        order_id="CS1",
        sku_code=None,
        product_id="p1",
        expire_time=None,
        period_type=None,
        period_number=None,
        amount=None,
        saas_extend_params=None,
        test=False,
    )


@pytest.mark.parametrize("name", ["activity", "customerId", "businessId", "orderId", "productId"])
@pytest.mark.parametrize("value", [None, ""])
def test_missing_or_blank_mandatory_parameter_is_named(name, value):
    parameters = {key: text for key, text in FULL.items() if key != name}

    with pytest.raises(InvalidParameter, match=name):
        parse_v1(parameters if value is None else {**parameters, name: value})


@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("customerId", 100),
        ("customerName", 64),
        ("businessId", 64),
        ("orderId", 64),
        ("skuCode", 64),
        ("productId", 64),
        ("expireTime", 20),
        ("periodType", 10),
        ("saasExtendParams", 4096),
    ],
)
def test_length_is_counted_in_characters(name, length):
    parse_v1({**FULL, name: "云" * length})

    with pytest.raises(InvalidParameter, match=name):
        parse_v1({**FULL, name: "云" * (length + 1)})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("activity", "newInstance"),
        ("activity", "GETLICENSE"),
        ("orderId", "CS\0"),
        ("customerName", "\0"),
        ("periodNumber", "100"),
        ("periodNumber", "-1"),
        ("periodNumber", "１"),
        ("periodNumber", "1.0"),
        ("amount", "12345678"),
        ("amount", "many"),
        ("amount", "+1"),
        ("amount", "0"),
        ("amount", "0000000"),
        ("testFlag", "2"),
        ("testFlag", "true"),
    ],
)
def test_wrong_value_is_refused(name, value):
    with pytest.raises(InvalidParameter, match=name):
        parse_v1({**FULL, name: value})


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(FULL)), st.text(max_size=12)))
def test_any_parameters_are_read_or_refused(changes):
    with contextlib.suppress(InvalidParameter):
        assert parse_v1({**FULL, **changes}).order_id


def test_documented_notification_is_read():
    assert parse_v2(NOTIFICATION) == OrderNotify(
        order_id="CS2211181819B4LVS", order_line_id="CS2211181819B4LVS-000001", test=True
    )


@pytest.mark.parametrize("extra", [{}, {"orderLineId": None, "testFlag": None}, {"testFlag": "0", "more": [1]}])
def test_live_notification_without_line_is_read(extra):
    body = json.dumps({"activity": "orderNotify", "orderId": "CS1", **extra}).encode()

    assert parse_v2(body) == OrderNotify(order_id="CS1", order_line_id=None, test=False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"activity":"orderNotify"}',
        b'{"activity":"orderNotify","orderId":1}',
        b'{"activity":"orderNotify","orderId":null}',
        b'{"activity":"orderNotify","orderId":"CS1","orderId":"CS1"}',
        b'{"activity":"orderNotify","orderId":"CS1","testFlag":1}',
        b'{"activity":"orderNotify","orderId":"CS1","orderLineId":{}}',
        b'{"activity":"newInstance","orderId":"CS1"}',
        b'{"activity":"orderNotify","orderId":"' + b"C" * 65 + b'"}',
    ],
)
def test_wrong_notification_is_refused(body):
    with pytest.raises(InvalidParameter):
        parse_v2(body)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("000000", "success."),
        ("000001", "authentication failed"),
        ("000002", "illegal parameter"),
        ("000003", "license code does not exist"),
        ("000004", "in progress"),
        ("000005", "internal error"),
    ],
)
def test_result_has_its_own_text_by_default(code, text):
    assert result(CallbackCode(code)) == f'{{"resultCode":"{code}","resultMsg":"{text}"}}'.encode()


def test_result_text_is_cut_to_the_documented_length():
    assert len(json.loads(result(CallbackCode.INVALID_PARAMETER, "云" * 300))["resultMsg"]) == 255


def test_get_license_success_has_the_keys_of_the_documented_sample():
    assert get_license_success("*****", "4ef28f-312d3d-gad335f-3132hkf") == (
        b'{"resultCode":"000000","resultMsg":"success.","license":"*****","instanceId":"4ef28f-312d3d-gad335f-3132hkf"}'
    )
