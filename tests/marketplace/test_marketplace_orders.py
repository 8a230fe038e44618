"""The order/query answer in both directions (spec §1.6) and the gateway's refusal (spec §1.9)."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.domain.order import OrderType, default_line_id
from licensesvc.marketplace.huawei.orders import (
    BuyerInfo,
    MalformedAnswer,
    MarketplaceRefusal,
    order_answer,
    order_failure,
    parse_order_answer,
)
from licensesvc.marketplace.huawei.orders_mock import MOCK_ORDERS
from licensesvc.marketplace.huawei.result_codes import OrderCode, gateway_error

OBSERVED = '{"resultCode":"MKT.0000","resultMsg":"Success","orderInfo":{"orderId":"MOCKPERIODYEARNEW","orderType":"NEW","createTime":"20241121090846","orderLine":[{"orderLineId":"MOCKPERIODYEARNEW-000001","chargingMode":"PERIOD","periodType":"year","periodNumber":1,"expireTime":"20251121235959","productInfo":[{"productId":"OFFI846204237451911168","skuCode":"0a4d1578-5295-46a7-92d4-7c803dccc51d","linearValue":50,"productName":"MOCK测试商品,测试规格,基础版,包周期"}],"extendParams":[{"name":"emailDomainName","value":"test.xxxx.com"},{"name":"ip","value":"127.0.0.1"}],"currency":"100","currencyAfterDiscount":"100"}],"buyerInfo":{"mobilePhone":"18688888888","email":null,"customerId":"459bbbec25d24749b2eb83be37b602a8","customerName":"mock_user_01","customerRealName":"测试用户1","customerType":0,"userId":null,"userName":null},"extendParams":[]}}'.encode()


def answer(**changes):
    order = {"orderId": "CS1", "orderType": "NEW", "createTime": "20241121090846", "orderLine": [], **changes}
    return json.dumps({"resultCode": "MKT.0000", "orderInfo": order}).encode()


def line(**fields):
    return answer(orderLine=[{"orderLineId": "CS1-000001", "chargingMode": "PERIOD", **fields}])


def test_observed_answer_is_read_and_written_byte_for_byte():
    order = parse_order_answer(OBSERVED)

    assert order == MOCK_ORDERS["MOCKPERIODYEARNEW"]
    assert order_answer(order) == OBSERVED


@pytest.mark.parametrize("order_id", MOCK_ORDERS)
def test_mock_order_survives_the_round_trip(order_id):
    order = parse_order_answer(order_answer(MOCK_ORDERS[order_id]))

    assert order == MOCK_ORDERS[order_id]
    assert order.order_id == order_id
    assert [line.order_line_id for line in order.order_line] == [default_line_id(order_id)]


@pytest.mark.parametrize(
    ("order_id", "order_type", "charging_mode", "period_type"),
    [
        ("MOCKPERIODYEARNEW", OrderType.NEW, "PERIOD", "year"),
        ("MOCKONETIMENEW", OrderType.NEW, "ONE_TIME", None),
        ("MOCKONDEMAND", OrderType.NEW, "ON_DEMAND", None),
        ("MOCKONDEMANDPKG", OrderType.NEW, "ON_DEMAND_PKG", "month"),
        ("MOCKPERIODDAYTRIAL", OrderType.TRIAL, "PERIOD", "day"),
        ("MOCKMONTYTRIALTOFORMAL", OrderType.TRIAL_TO_FORMAL, "PERIOD", "month"),
        ("MOCKMONTYUNSUBSCRIBE", OrderType.UNSUBSCRIBE, "PERIOD", "month"),
        ("MOCKMONTYRENEW", OrderType.RENEW, "PERIOD", "month"),
        ("MOCKMONTYCHANGE", OrderType.CHANGE, "PERIOD", "month"),
    ],
)
def test_mock_order_fits_its_name(order_id, order_type, charging_mode, period_type):
    order = MOCK_ORDERS[order_id]

    assert order.order_type is order_type
    assert (order.order_line[0].charging_mode, order.order_line[0].period_type) == (charging_mode, period_type)


def test_nine_mock_orders_are_documented():
    assert len(MOCK_ORDERS) == 9


@pytest.mark.parametrize(
    "body",
    [
        answer(),
        answer(unknown={"a": 1}, buyerInfo=None, extendParams=None),
        answer(buyerInfo={"surprise": 1}),
        line(),
        line(periodType=None, periodNumber=None, expireTime=None, productInfo=None, extendParams=None, currency=None),
        line(periodNumber="1", currency=100, currencyAfterDiscount=99.5),
        line(productInfo=[{"productId": "p", "linearValue": "50"}]),
        line(productInfo=[{"productId": "p", "linearValue": 50.0, "new": True}]),
        line(extendParams=[{"name": "n", "value": {"nested": [1]}}, {"name": "m"}]),
        answer().replace(b"MKT.", b"CBC.").replace(b"resultCode", b"error_code"),
    ],
)
def test_tolerated_answer_is_read(body):
    assert parse_order_answer(body).order_id == "CS1"


def test_numbers_sent_as_texts_are_numbers():
    order = parse_order_answer(line(periodNumber="2", productInfo=[{"productId": "p", "linearValue": "50"}]))

    assert order.order_line[0].period_number == 2
    assert order.order_line[0].product_info is not None
    assert order.order_line[0].product_info[0].linear_value == 50


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"resultCode":"MKT.0150","resultMsg":"Illegal operation"}', "MKT.0150", "Illegal operation"),
        (b'{"error_code":"CBC.0150","error_msg":"Illegal operation"}', "CBC.0150", "Illegal operation"),
        (b'{"resultCode":"MKT.0100","resultMsg":"x","extra_info":[1]}', "MKT.0100", "x"),
        (b'{"resultCode":"MKT.0999","resultMsg":null,"orderInfo":{}}', "MKT.0999", ""),
        (
            gateway_error("Incorrect IAM authentication information", "r1")[1],
            "APIG.0301",
            "Incorrect IAM authentication information",
        ),
    ],
)
def test_error_code_is_a_refusal(body, code, message):
    with pytest.raises(MarketplaceRefusal) as refusal:
        parse_order_answer(body)

    assert (refusal.value.result_code, refusal.value.message) == (code, message)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"resultCode":null}',
        b'{"resultCode":0}',
        b'{"resultCode":"MKT.0000"}',
        b'{"resultCode":"MKT.0000","orderInfo":null}',
        b'{"resultCode":"MKT.0000","orderInfo":{}}',
        b'{"resultCode":"MKT.0000","resultCode":"MKT.0000"}',
        answer(orderId=None),
        answer(orderId="CS\0"),
        answer(orderType="GIFT"),
        answer(orderLine=None),
        line(periodNumber="one"),
        line(productInfo=[{}]),
    ],
)
def test_anything_else_is_malformed(body):
    with pytest.raises(MalformedAnswer):
        parse_order_answer(body)


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=60)
    | st.builds(
        lambda x: b'{"resultCode":"MKT.0000","orderInfo":%b}' % json.dumps(x).encode(),
        st.recursive(st.none() | st.text(), lambda x: st.dictionaries(st.sampled_from(["orderId", "orderLine"]), x)),
    )
)
def test_any_answer_is_read_refused_or_malformed(body):
    with pytest.raises((MarketplaceRefusal, MalformedAnswer)):
        parse_order_answer(body)


@pytest.mark.parametrize(
    ("code", "http_status", "message"),
    [
        ("MKT.0999", 500, "System internal error."),
        ("MKT.0100", 500, "Failure of input parameter"),
        ("MKT.0101", 400, "Invalid parameter"),
        ("MKT.0199", 400, "Request parameter error"),
        ("MKT.0150", 401, "Illegal operation"),
        ("MKT.0151", 401, "No authority"),
        ("MKT.0154", 401, "Illegal token"),
        ("MKT.0250", 406, "Access frequency overlimit"),
        ("MKT.9001", 500, "Instance ID not found."),
        ("MKT.9002", 500, "Invalid usage enties."),
        ("MKT.9003", 500, "Usage records extends size limit."),
        ("MKT.9004", 500, "Record beginTime extends Limit."),
    ],
)
def test_refusal_is_the_row_of_the_table(code, http_status, message):
    body = f'{{"resultCode":"{code}","resultMsg":"{message}"}}'.encode()

    assert order_failure(OrderCode(code)) == (http_status, body)


def test_gateway_error_has_the_observed_shape():
    assert gateway_error("Incorrect IAM authentication information: x", "r1") == (
        401,
        b'{"error_msg":"Incorrect IAM authentication information: x","error_code":"APIG.0301","request_id":"r1"}',
    )


def test_buyer_is_not_shown():
    buyer = BuyerInfo(mobile_phone="18600000000", email="a@example.com", customer_real_name="张三", customer_id="c1")

    shown = repr(buyer) + repr(buyer.__rich_repr__())
    assert "c1" in shown
    assert not any(secret in shown for secret in ("18600000000", "a@example.com", "张三"))
