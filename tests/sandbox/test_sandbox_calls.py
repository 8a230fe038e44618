"""What an order looks like on the wire, without a network."""

import re
from urllib.parse import parse_qs, parse_qsl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.domain.instants import MINUTE
from licensesvc.domain.order import OrderType
from licensesvc.domain.product import DeliveryKind
from licensesvc.marketplace.huawei.callbacks import parse_v1, parse_v2
from licensesvc.marketplace.huawei.orders import order_answer, parse_order_answer
from licensesvc.marketplace.huawei.signature_v1 import body_sign, verify_auth_token
from licensesvc.marketplace.huawei.signature_v2 import verify_url_signature
from licensesvc.marketplace.huawei.wire import SignatureRefused, query_parameters
from licensesvc.sandbox.calls import Answer, AnswerRefused, compose, read_answer, read_license_answer
from licensesvc.sandbox.orders import Activity, NewOrder, expire_time, order_info, place

KEY = "0123456789abcdef-demo-key"
NOW = 1_763_900_000_007  # 2025-11-23T12:13:20.007Z

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=64)
new_orders = st.builds(
    NewOrder,
    product_id=texts,
    dialect=st.just(DeliveryKind.LICENSE_1_0),
    sku_code=st.none() | texts,
    amount=st.integers(1, 9_999_999),
    period_type=st.sampled_from(["year", "month", "day"]),
    period_number=st.none() | st.integers(1, 99),
    order_type=st.sampled_from(OrderType),
)


def an_order(**fields):
    return place(NewOrder(**{"product_id": "OFFI1", "dialect": DeliveryKind.LICENSE_1_0, **fields}), NOW)


@settings(max_examples=60, deadline=None)
@given(new_orders)
def test_any_order_reaches_the_seller_as_it_was_placed(new):
    order = place(new, NOW)

    call = compose(Activity.GET_LICENSE, order, KEY, NOW)
    verified = verify_auth_token(query_parameters(call.query.encode()), KEY, NOW, 15 * MINUTE)
    got = parse_v1(verified.parameters)

    assert verified.sent_at == NOW
    assert (got.order_id, got.product_id, got.sku_code) == (order.order_id, new.product_id, new.sku_code)
    assert (got.amount, got.period_type) == (new.amount, new.period_type)
    assert got.period_number == (new.period_number or 1)
    assert got.expire_time == expire_time(order)


@settings(max_examples=60, deadline=None)
@given(new_orders)
def test_any_order_reads_back_from_order_query(new):
    order = place(new, NOW)

    assert parse_order_answer(order_answer(order_info(order))) == order_info(order)


def test_ids_look_like_the_marketplaces():
    order = an_order()

    assert re.fullmatch("CS2511232013[A-Z0-9]{5}", order.order_id)  # the minute in Beijing
    assert order.order_line_id == f"{order.order_id}-000001"


def test_notification_is_compact_sorted_and_signed_over_its_bytes():
    order = an_order()

    call = compose(Activity.ORDER_NOTIFY, order, KEY, NOW)
    query = dict(parse_qsl(call.query, strict_parsing=True))

    assert call.method == "POST"
    assert (
        call.body
        == (
            f'{{"activity":"orderNotify","orderId":"{order.order_id}",'
            f'"orderLineId":"{order.order_line_id}","testFlag":"0"}}'
        ).encode()
    )
    assert query.keys() == {"signature", "timestamp", "nonce"}
    assert query["timestamp"] == str(NOW)
    assert re.fullmatch("[0-9A-Za-z]{32}", query["nonce"])
    assert verify_url_signature(call.query.encode(), call.body, KEY, NOW).timestamp == NOW
    assert not parse_v2(call.body).test


def test_nonce_and_business_id_are_fresh_each_time():
    order = an_order()

    notifications = [parse_qs(compose(Activity.ORDER_NOTIFY, order, KEY, NOW).query) for _ in range(3)]
    deliveries = [parse_qs(compose(Activity.GET_LICENSE, order, KEY, NOW).query) for _ in range(3)]

    assert len({query["nonce"][0] for query in notifications}) == 3
    assert len({query["businessId"][0] for query in deliveries}) == 3
    assert len({query["orderId"][0] for query in deliveries}) == 1


def test_time_stamp_has_three_digits_of_milliseconds():
    query = parse_qs(compose(Activity.GET_LICENSE, an_order(), KEY, NOW).query)

    assert query["timeStamp"] == ["20251123121320007"]


def test_signatures_are_masked_for_people():
    for activity in Activity:
        call = compose(activity, an_order(), KEY, NOW)
        query = dict(parse_qsl(call.query))
        secret = query.get("authToken") or query["signature"]

        shown = dict(parse_qsl(call.masked_query))

        assert secret not in call.masked_query
        assert {**query, **shown} == shown
        assert "***" in shown.values()


@pytest.mark.parametrize(
    ("period_type", "number", "stamp"),
    [
        (None, None, None),
        ("year", None, "20261123155959"),
        ("month", 3, "20260223155959"),
        ("day", 7, "20251130155959"),
    ],
)
def test_a_period_ends_with_the_day_in_beijing(period_type, number, stamp):
    order = an_order(period_type=period_type, period_number=number)

    assert expire_time(order) == stamp
    assert order_info(order).order_line[0].expire_time == stamp
    assert order_info(order).order_line[0].charging_mode == ("PERIOD" if stamp else "ONE_TIME")


BOTH, NOTIFY, ASK = (Activity.ORDER_NOTIFY, Activity.GET_LICENSE), (Activity.ORDER_NOTIFY,), (Activity.GET_LICENSE,)


@pytest.mark.parametrize(
    ("fields", "calls"),
    [
        ({"dialect": DeliveryKind.LICENSE_1_0}, BOTH),
        ({"dialect": DeliveryKind.LICENSE_1_0, "order_type": OrderType.TRIAL}, BOTH),
        ({"dialect": DeliveryKind.LICENSE_1_0, "notify": False}, ASK),
        ({"dialect": DeliveryKind.LICENSE_1_0, "deliver": False}, NOTIFY),
        ({"dialect": DeliveryKind.LICENSE_1_0, "notify": False, "deliver": False}, ()),
        ({"dialect": DeliveryKind.LICENSE_1_0, "order_type": OrderType.RENEW}, NOTIFY),
        ({"dialect": DeliveryKind.LICENSE_1_0, "order_type": OrderType.UNSUBSCRIBE}, NOTIFY),
        ({"dialect": DeliveryKind.LICENSE_2_0}, NOTIFY),
        ({"dialect": DeliveryKind.GENERAL}, NOTIFY),
    ],
)
def test_calls_due_by_dialect_and_order_type(fields, calls):
    assert an_order(**fields).calls == calls


GOOD = b'{"resultCode":"000000","resultMsg":"success.","license":"LS-1","instanceId":"i-1"}'
SIGN_TYPE = "http header->sign_type is not equals HMAC-SHA256 or signature is empty."


def answer(body=GOOD, *, status=200, name=b"Body-Sign", value=None, key=KEY):
    value = body_sign(body, key) if value is None else value
    return Answer(status=status, headers=[(b"Content-Type", b"x"), (name, value.encode())], body=body)


@pytest.mark.parametrize("comma", [", ", ","])
@pytest.mark.parametrize("equals", ["= ", "="])
def test_blanks_after_comma_and_equals_sign_are_optional(comma, equals):
    variant = body_sign(GOOD, KEY).replace(", ", comma).replace('signature="', f'signature{equals}"')

    assert read_license_answer(answer(value=variant), KEY).instance_id == "i-1"


@pytest.mark.parametrize("name", [b"body-sign", b"Body-sign", b"BODY-SIGN", b"BodySign"])
def test_header_name_is_matched_case_by_case(name):
    with pytest.raises(SignatureRefused, match=r"^http header->bodySign is empty\.$"):
        read_license_answer(answer(name=name), KEY)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "http header->bodySign is empty."),
        ('sign_type="HMAC-SHA1", signature="x"', SIGN_TYPE),
        ('sign_type="HMAC-SHA256", signature=""', SIGN_TYPE),
        ("sign_type=HMAC-SHA256, signature=x", SIGN_TYPE),
        (
            'sign_type="HMAC-SHA256", signature="x"',
            "Failed to verify the HTTP Body signature. Expected signature value: ",
        ),
        (body_sign(GOOD, "another key"), "Failed to verify the HTTP Body signature. Expected signature value: "),
        (body_sign(GOOD + b" ", KEY), "Failed to verify the HTTP Body signature. Expected signature value: "),
    ],
)
def test_wrong_body_sign_gets_the_documented_text(value, text):
    with pytest.raises(SignatureRefused) as caught:
        read_license_answer(answer(value=value), KEY)

    assert str(caught.value).startswith(text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"<html>", "not readable as JSON"),
        (b"[]", "not a JSON object"),
        (b"{}", "resultCode is None"),
        (b'{"resultCode":0}', "resultCode is 0"),
        (b'{"resultCode":"000005","resultMsg":"internal error"}', "resultCode is '000005': internal error"),
        (b'{"resultCode":"000000","instanceId":"i"}', "license is missing"),
        (b'{"resultCode":"000000","license":"","instanceId":"i"}', "license is missing"),
        (b'{"resultCode":"000000","license":7,"instanceId":"i"}', "license is missing"),
        (b'{"resultCode":"000000","license":"l"}', "instanceId"),
        (b'{"resultCode":"000000","license":"l","instanceId":""}', "instanceId"),
        (b'{"resultCode":"000000","license":"l","instanceId":"' + b"i" * 65 + b'"}', "instanceId"),
    ],
)
def test_an_answer_without_a_delivered_license_is_refused(body, text):
    with pytest.raises(AnswerRefused, match=re.escape(text)):
        read_license_answer(answer(body), KEY)


@pytest.mark.parametrize("status", [201, 204, 302, 400, 500])
def test_any_status_but_200_is_refused(status):
    with pytest.raises(AnswerRefused, match=str(status)):
        read_license_answer(answer(status=status), KEY)
    with pytest.raises(AnswerRefused, match=str(status)):
        read_answer(answer(status=status), Activity.ORDER_NOTIFY, KEY)


def test_a_notification_needs_no_body_sign_but_a_success_code():
    read_answer(Answer(status=200, headers=[], body=b'{"resultCode":"000000"}'), Activity.ORDER_NOTIFY, KEY)

    with pytest.raises(AnswerRefused, match="000001"):
        read_answer(Answer(status=200, headers=[], body=b'{"resultCode":"000001"}'), Activity.ORDER_NOTIFY, KEY)


def test_64_characters_of_instance_id_and_a_long_license_are_fine():
    body = b'{"resultCode":"000000","license":"' + b"l" * 2_000 + b'","instanceId":"' + b"i" * 64 + b'"}'

    assert len(read_license_answer(answer(body), KEY).license) == 2_000
