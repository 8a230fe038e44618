"""What the marketplace calls: getLicense and the order notification, each fault and its code (spec §§2.0, 2.2, 2.5, 4)."""

import asyncio
import json

import pytest

from licensesvc.domain.instants import HOUR, MINUTE, SECOND
from licensesvc.domain.product import DeliveryKind
from licensesvc.marketplace.huawei import signature_v1
from tests.support_edges import KEY, ask, get_license_target, notification, notify_target, open_shop, rows


async def get(edge, *, shop=None, now=None, **changes):
    return await ask(edge.app, "GET", get_license_target(shop or edge.shop, now or edge.clock.now, **changes))


async def notify(edge, body=None, *, now=None, target=None, **changes):
    body = notification() if body is None else body
    target = target or notify_target(edge.shop, body, now or edge.clock.now, **changes)
    return await ask(edge.app, "POST", target, headers=[("Content-Type", "application/json")], body=body)


def code_of(answer):
    """The result code of an answer that has the form of every answer."""
    assert answer.status == 200
    assert answer.header("content-type") == "application/json;charset=UTF-8"
    signature_v1.check_body_sign(answer.header("Body-Sign"), answer.body, KEY)
    return answer.json["resultCode"]


async def last_message(edge):
    return await edge.rt.db.read(
        lambda tx: tx.one("SELECT * FROM messages WHERE direction = 'in' ORDER BY id DESC LIMIT 1")
    )


async def test_getlicense_delivers_a_code_in_the_documented_form(edge):
    answer = await get(edge, customerName="ACME 中国", amount="3")

    assert code_of(answer) == "000000"
    assert list(answer.json) == ["resultCode", "resultMsg", "license", "instanceId"]
    assert answer.json["resultMsg"] == "success."
    assert answer.json["license"].startswith("LS-")
    assert answer.json["instanceId"] == "biz-1"


async def test_the_same_order_gets_the_same_bytes_with_a_new_business_id(edge):
    first = await get(edge)
    edge.clock.now += HOUR

    again = await get(edge, businessId="biz-2", amount="9", customerName="other")

    assert again.body == first.body
    assert await rows(edge.rt, "orders", "licenses") == [1, 1]


async def test_copies_in_flight_get_the_answer_of_the_first(edge):
    answers = await asyncio.gather(*(get(edge, businessId=f"biz-{n}") for n in range(60)))

    assert len({answer.body for answer in answers}) == 1
    assert code_of(answers[0]) == "000000"
    assert await rows(edge.rt, "orders", "order_lines", "supervision_cases", "licenses") == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"customerId": None}, "000002"),
        ({"customerId": ""}, "000002"),
        ({"customerId": "x" * 101}, "000002"),
        ({"customerId": "x" * 100}, "000000"),
        ({"customerName": "x" * 65}, "000002"),
        ({"businessId": None}, "000002"),
        ({"businessId": "x" * 65}, "000002"),
        ({"orderId": None}, "000002"),
        ({"orderId": "x" * 65}, "000002"),
        ({"orderId": "CS\x001"}, "000002"),
        ({"productId": None}, "000002"),
        ({"productId": "x" * 65}, "000002"),
        ({"productId": "OFFI999"}, "000005"),
        ({"skuCode": "x" * 65}, "000002"),
        ({"skuCode": "any"}, "000000"),
        ({"expireTime": "20271118110640"}, "000000"),
        ({"expireTime": "20271118"}, "000002"),
        ({"expireTime": "20271318110640"}, "000002"),
        ({"periodType": "year", "periodNumber": "1"}, "000000"),
        ({"periodType": "fortnight"}, "000002"),
        ({"periodType": "week"}, "000002"),
        ({"periodType": "week", "periodNumber": "1"}, "000002"),
        ({"periodType": "week", "testFlag": "1"}, "000002"),
        ({"periodType": "Year", "periodNumber": "1"}, "000000"),
        ({"periodType": "day", "periodNumber": "30"}, "000000"),
        ({"amount": "0"}, "000002"),
        ({"amount": "0", "testFlag": "1"}, "000002"),
        ({"amount": "1"}, "000000"),
        ({"periodType": "year", "periodNumber": "101"}, "000002"),
        ({"periodType": "year", "periodNumber": "-1"}, "000002"),
        ({"periodType": "year", "periodNumber": "0"}, "000002"),
        ({"amount": "12345678"}, "000002"),
        ({"amount": "1.5"}, "000002"),
        ({"amount": "٣"}, "000002"),
        ({"amount": ""}, "000000"),
        ({"saasExtendParams": "x" * 4097}, "000002"),
        ({"saasExtendParams": "W10="}, "000000"),
        ({"testFlag": "2"}, "000002"),
        ({"activity": "refreshLicense"}, "000002"),
        ({"activity": None}, "000002"),
        ({"unknown": "ignored"}, "000000"),
    ],
    ids=str,
)
async def test_every_field_is_checked_and_a_fault_changes_nothing(edge, changes, code):
    before = await edge.written()

    answer = await get(edge, **changes)

    assert code_of(answer) == code
    assert (await edge.written() == before) == (code != "000000")
    assert (await last_message(edge))["outcome"] == code


@pytest.mark.parametrize(
    ("offset", "code", "detail"),
    [
        (0, "000000", None),
        (15 * MINUTE, "000000", None),
        (-15 * MINUTE, "000000", None),
        (15 * MINUTE + 1, "000001", "timeStamp expired"),
        (-15 * MINUTE - 1, "000001", "timeStamp expired"),
        (8 * HOUR, "000000", "timeStamp is Beijing time, UTC is documented"),
        (8 * HOUR + 16 * MINUTE, "000001", "timeStamp expired"),
        (-8 * HOUR, "000001", "timeStamp expired"),
    ],
)
async def test_stamps_are_fresh_for_a_quarter_of_an_hour_also_on_beijing_clocks(edge, offset, code, detail):
    assert code_of(await get(edge, now=edge.clock.now + offset)) == code
    assert (await last_message(edge))["detail"] == detail


@pytest.mark.parametrize(
    "spoil",
    [
        lambda target: target.replace("orderId=CS1", "orderId=CS2"),
        lambda target: target + "&more=1",
        lambda target: target.replace("authToken=", "authToken=A"),
        lambda target: target.partition("&authToken=")[0],
        lambda target: target + "&orderId=CS1",
        lambda target: target.partition("?")[0],
        lambda target: target + "&x=%ff",
        lambda target: target + "&x=" + "y" * 9_000,
    ],
)
async def test_a_changed_call_is_not_authentic_and_changes_nothing(edge, spoil):
    before = await edge.written()

    assert code_of(await ask(edge.app, "GET", spoil(get_license_target(edge.shop, edge.clock.now)))) == "000001"
    assert await edge.written() == before
    assert (await last_message(edge))["authenticated_at"] is None


async def test_a_plus_of_the_token_may_stand_unescaped_and_is_a_blank_elsewhere(edge):
    for number in range(20):
        target = get_license_target(edge.shop, edge.clock.now, customerName="a b", businessId=f"biz-{number}")
        assert "customerName=a+b" in target
        assert code_of(await ask(edge.app, "GET", target.replace("%2B", "+"))) == "000000"


async def test_a_call_with_another_key_or_to_another_connection_is_not_authentic(edge):
    assert code_of(await get(edge, key="another key")) == "000001"
    other = await open_shop(edge.rt, name="other")
    target = get_license_target(edge.shop, edge.clock.now).replace(edge.shop.url, "/callbacks/con_unknown")

    unknown = await ask(edge.app, "GET", target)

    assert (unknown.status, unknown.json["resultCode"], unknown.header("Body-Sign")) == (200, "000001", None)
    assert code_of(await get(edge, shop=other, orderId="CS2")) == "000000"


@pytest.mark.parametrize(("name", "value"), [("periodType", "week"), ("amount", "0")])
async def test_a_refused_value_is_named(edge, name, value):
    assert name in (await get(edge, **{name: value})).json["resultMsg"]


async def test_a_test_call_is_answered_alike_and_touches_nothing(edge):
    before = await edge.written()

    first, again = await get(edge, testFlag="1"), await get(edge, testFlag="1", businessId="biz-2")

    assert code_of(first) == "000000"
    assert first.body == again.body
    assert first.json["license"].startswith("TEST-")
    assert await edge.written() == before


async def test_a_product_whose_codes_the_marketplace_makes_has_no_license_of_ours(edge):
    shop = await open_shop(edge.rt, name="two", kind=DeliveryKind.LICENSE_2_0)

    assert code_of(await get(edge, shop=shop)) == "000002"


async def test_a_notification_is_queued_once(edge):
    body = notification()

    answer = await notify(edge, body)

    assert code_of(answer) == "000000"
    assert answer.body == b'{"resultCode":"000000","resultMsg":"success."}'
    assert await rows(edge.rt, "outbox", "nonces") == [1, 1]
    assert code_of(await notify(edge, body)) == "000001"
    assert (await last_message(edge))["detail"] == "nonce was used before"
    assert await rows(edge.rt, "outbox", "nonces") == [1, 1]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (notification(orderLineId=None), "000000"),
        (notification(more=[1]), "000000"),
        (notification(testFlag="1"), "000000"),
        (notification(testFlag="2"), "000002"),
        (notification(activity="refreshLicenseCode"), "000002"),
        (notification(activity=None), "000002"),
        (notification(orderId=None), "000002"),
        (notification(orderId=7), "000002"),
        (notification(orderId="x" * 65), "000002"),
        (notification(orderLineId="x" * 65), "000002"),
        (b"{}", "000002"),
        (b"[]", "000002"),
        (b"", "000002"),
        (b"\xff", "000002"),
        (b"[" * 10_000, "000002"),
        (b'{"activity":"orderNotify","orderId":"\\u0000"}', "000002"),
        (b'{"activity":"orderNotify","orderId":"\\ud800"}', "000002"),
        (b'{"activity":"orderNotify","orderId":"1","orderId":"2"}', "000002"),
        (b" " * (64 * 1024 + 1), "000002"),
    ],
    ids=lambda value: str(value)[:60],
)
async def test_every_field_of_a_notification_is_checked(edge, body, code):
    queued = code == "000000" and b"testFlag" not in body

    assert code_of(await notify(edge, body)) == code
    assert (await rows(edge.rt, "outbox")) == [int(queued)]


@pytest.mark.parametrize(
    ("offset", "code"),
    [(MINUTE, "000000"), (-MINUTE, "000000"), (MINUTE + SECOND, "000001"), (-MINUTE - SECOND, "000001")],
)
async def test_notifications_are_fresh_for_a_minute(edge, offset, code):
    assert code_of(await notify(edge, now=edge.clock.now + offset)) == code


async def test_ten_digits_are_seconds_and_hex_may_be_upper_case(edge):
    body = notification()
    target = notify_target(edge.shop, body, edge.clock.now // 1_000)
    url, _, signature = target.partition("signature=")

    assert code_of(await notify(edge, body, target=f"{url}signature={signature[:64].upper()}{signature[64:]}")) == (
        "000000"
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda target: target.replace("nonce=nonce1", "nonce=nonce2"),
        lambda target: target.replace("&nonce=nonce1", ""),
        lambda target: target.replace("signature=", "signature=0"),
        lambda target: target.replace("timestamp=", "timestamp=0"),
        lambda target: target.partition("?")[0],
        lambda target: target + "&nonce=nonce1",
        lambda target: target.replace("nonce=nonce1", "nonce=%00"),
    ],
)
async def test_a_changed_notification_is_not_authentic(edge, spoil):
    body = notification()

    assert code_of(await notify(edge, body, target=spoil(notify_target(edge.shop, body, edge.clock.now)))) == "000001"
    assert await rows(edge.rt, "outbox", "nonces") == [0, 0]


async def test_a_byte_of_the_body_is_part_of_the_signature(edge):
    target = notify_target(edge.shop, notification("CS1"), edge.clock.now)

    assert code_of(await notify(edge, notification("CS2"), target=target)) == "000001"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
async def test_another_method_is_an_illegal_parameter(edge, method):
    assert code_of(await ask(edge.app, method, get_license_target(edge.shop, edge.clock.now))) == "000002"


async def test_a_connection_without_key_is_like_an_unknown_one(edge):
    await edge.rt.db.write(lambda tx: tx.run("UPDATE connections SET callback_key = NULL"))

    answer = await get(edge)

    assert (answer.status, answer.json["resultCode"], answer.header("Body-Sign")) == (200, "000001", None)


async def test_a_key_that_the_vault_cannot_open_is_an_internal_error(edge):
    await edge.rt.db.write(lambda tx: tx.run("UPDATE connections SET callback_key = $1", b"junk"))

    answer = await get(edge)

    assert (answer.status, answer.json) == (200, {"resultCode": "000005", "resultMsg": "internal error"})


@pytest.mark.parametrize("name", ["%00", "x" * 2_000, "%F0%9F%98%80", "..", "a%2Fb"])
async def test_any_name_of_a_connection_is_just_unknown(edge, name):
    for method in ("GET", "POST"):
        answer = await ask(edge.app, method, f"/callbacks/{name}")
        assert answer.status in {200, 404}
        assert json.loads(answer.body).get("resultCode", "000001") == "000001"
