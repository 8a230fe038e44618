"""The compatible API, row by row: documented bytes, statuses and order of checks (spec §§1.3, 1.4, 1.8, 1.9, 5.2, 11.3)."""

import json

import pytest

from licensesvc.domain.instants import DAY, LAST_INSTANT, MINUTE, format_stamp
from licensesvc.domain.policy import Term
from licensesvc.storage.credentials import Scope
from tests.support_edges import (
    ACTIVATE,
    ACTIVATE_ALL,
    HEARTBEAT,
    HEARTBEAT_ALL,
    HOST,
    ROOT,
    USAGE,
    ask,
    change,
    open_shop,
    signed_headers,
)

JSON = "application/json;charset=UTF-8"
UNKNOWN = b'{"error_code":"92020005","error_msg":"license code notexist"}'
ILLEGAL_STATE = b'{"error_code":"92020003","error_msg":"illegal state"}'
INVALID_PARAM = b'{"error_code":"92020002","error_msg":"invalid param"}'
NOT_CLAIMED = b'{"error_code":"92020004","error_msg":"can not active before user received."}'
NOT_ACTIVATED = b'{"error_code":"92020011","error_msg":"license code has been not activated."}'
BAD_REQUEST = b'{"error_code":"95000001","error_msg":"req param is invalid"}'
METHOD = b'{"error_code":"95000002","error_msg":"Request method not supported"}'
CONTENT_TYPE = b'{"error_code":"95000003","error_msg":"Content type not supported"}'
LISTED = b'{"error_code":"92020020","error_msg":"Invalid license code exists."}'
NOT_COUNTED = b'{"error_code":"92020000","error_msg":"success","data":{"check_fail_list":["PL1"]}}'
UNREADABLE = b'{"error_code":"95000004","error_msg":"req message is not readable"}'


def stamp(edge, offset):
    return format_stamp(edge.clock.now + offset, edge.shop.connection.wire)


async def test_activation_answers_the_documented_bytes(edge):
    code = await edge.shop.sell_code("CS123", amount=2)

    answer = await edge.call(ACTIVATE, {"license": code})

    assert answer.status == 200
    assert answer.header("content-type") == JSON
    assert answer.body == (
        b'{"error_code":"92020000","error_msg":"success","data":{"license_code_info":"{\\"status\\":\\"ALIVE\\",'
        b'\\"expire_time\\":\\"20271118110640\\",\\"product_id\\":\\"OFFI100\\",\\"amount\\":2,\\"order_id\\":\\"CS123\\"}"}}'
    )


async def test_heartbeat_answers_the_license(edge):
    code = await edge.shop.sell_code("CS123", amount=2)
    await edge.call(ACTIVATE, {"license": code, "real_effect_time": stamp(edge, 0)})

    answer = await edge.call(HEARTBEAT, {"license": code})

    assert (answer.status, answer.header("content-type")) == (200, JSON)
    assert answer.body == (
        b'{"error_code":"92020000","error_msg":"success","data":{"license_code":"%b","status":"ALIVE",'
        b'"activate_time":"20261118110640","expire_time":"20271118110640","product_id":"OFFI100","order_id":"CS123",'
        b'"amount":2}}' % code.encode()
    )


async def test_times_are_written_in_the_zone_of_the_connection_and_stated_in_utc(edge):
    shop = await open_shop(edge.rt, name="beijing", wire_zone="Asia/Shanghai")
    code = await shop.sell_code("CS9", order_time=edge.clock.now - DAY)

    answer = await edge.call(ACTIVATE, {"license": code, "real_effect_time": "20261118000000"}, pair=await shop.pair())

    assert json.loads(answer.json["data"]["license_code_info"])["expire_time"] == "20271118080000"


async def test_a_perpetual_license_carries_the_agreed_end(edge):
    shop = await open_shop(edge.rt, name="forever", term=Term.PERPETUAL)
    code, pair = await shop.sell_code(), await shop.pair()

    activated = await edge.call(ACTIVATE, {"license": code}, pair=pair)
    asked = await edge.call(HEARTBEAT, {"license": code}, pair=pair)

    assert json.loads(activated.json["data"]["license_code_info"])["expire_time"] == "20991231155959"
    assert asked.json["data"]["expire_time"] == "20991231155959"


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "UTC", "America/New_York"])
async def test_an_end_on_the_last_day_of_the_calendar_is_told_in_every_zone(edge, zone):
    shop = await open_shop(edge.rt, name="last", term=Term.ORDER, wire_zone=zone)
    code, pair = await shop.sell_code(expiry_order_query=LAST_INSTANT), await shop.pair()

    activated = await edge.call(ACTIVATE, {"license": code}, pair=pair)
    asked = await edge.call(HEARTBEAT, {"license": code}, pair=pair)

    assert json.loads(activated.json["data"]["license_code_info"])["expire_time"].startswith("999912")
    assert asked.json["data"]["expire_time"].startswith("999912")


async def test_a_database_that_is_away_is_an_internal_error(edge):
    await edge.rt.db.close()

    answer = await edge.call(ACTIVATE, {"license": "PL1"})

    assert (answer.status, answer.body) == (200, b'{"error_code":"92020001","error_msg":"internal error"}')


async def test_an_order_without_amount_bought_one(edge):
    answer = await edge.call(ACTIVATE, {"license": await edge.shop.sell_code()})

    assert json.loads(answer.json["data"]["license_code_info"])["amount"] == 1


async def test_a_code_activates_once_and_is_asked_for_only_then(edge):
    code = await edge.shop.sell_code()

    assert (await edge.call(HEARTBEAT, {"license": code})).body == NOT_ACTIVATED
    assert (await edge.call(ACTIVATE, {"license": code})).json["error_code"] == "92020000"
    assert (await edge.call(ACTIVATE, {"license": code})).body == ILLEGAL_STATE


STATES = {
    "frozen": ("frozen_at = 1", ILLEGAL_STATE, "EXPIRED"),
    "suspended": ("suspended_at = 1", ILLEGAL_STATE, "EXPIRED"),
    "expired": ("expires_at = 1", ILLEGAL_STATE, "EXPIRED"),
    "revoked": ("state = 'REVOKED'", ILLEGAL_STATE, "RELEASED"),
    "released": ("state = 'RELEASED'", ILLEGAL_STATE, "RELEASED"),
}


@pytest.mark.parametrize("state", STATES)
async def test_every_state_has_its_words(edge, state):
    column, activation, status = STATES[state]
    code = await edge.shop.sell_code()
    await edge.call(ACTIVATE, {"license": code})
    await change(edge.rt, f"UPDATE license_states SET {column}")  # noqa: S608

    assert (await edge.call(ACTIVATE, {"license": code})).body == activation
    assert (await edge.call(HEARTBEAT, {"license": code})).json["data"]["status"] == status


@pytest.mark.parametrize("column", ["frozen_at", "suspended_at"])
async def test_a_license_held_up_before_activation_cannot_be_activated(edge, column):
    code = await edge.shop.sell_code()
    await change(edge.rt, f"UPDATE license_states SET {column} = 1")  # noqa: S608

    assert (await edge.call(ACTIVATE, {"license": code})).body == ILLEGAL_STATE
    assert (await edge.call(HEARTBEAT, {"license": code})).body == NOT_ACTIVATED


@pytest.mark.parametrize(
    ("offset", "body"),
    [
        (-DAY, None),
        (-DAY - 1_000, INVALID_PARAM),
        (5 * MINUTE, None),
        (5 * MINUTE + 1_000, INVALID_PARAM),
    ],
)
async def test_a_stated_start_lies_between_the_order_and_five_minutes_from_now(edge, offset, body):
    code = await edge.shop.sell_code(order_time=edge.clock.now - DAY)

    answer = await edge.call(ACTIVATE, {"license": code, "real_effect_time": stamp(edge, offset)})

    assert answer.status == 200
    assert answer.body == body or (body is None and answer.json["error_code"] == "92020000")


async def test_an_empty_start_is_none(edge):
    alone, listed = await edge.shop.sell_code("CS1"), await edge.shop.sell_code("CS2")

    for path, fields in ((ACTIVATE, {"license": alone}), (ACTIVATE_ALL, {"license_list": [listed]})):
        answer = await edge.call(path, {**fields, "real_effect_time": ""})
        assert (answer.status, answer.json["error_code"]) == (200, "92020000")
    for code in (alone, listed):
        asked = await edge.call(HEARTBEAT, {"license": code})
        assert asked.json["data"]["activate_time"] == stamp(edge, 0)


async def test_own_codes_are_forgiven_case_and_dashes_the_marketplaces_are_not(edge):
    code = await edge.shop.sell_code()
    typed = code.lower().replace("-", " ")

    assert (await edge.call(ACTIVATE, {"license": typed})).json["error_code"] == "92020000"
    assert (await edge.call(ACTIVATE, {"license": "PLabc"})).body == UNKNOWN


ENDPOINTS = pytest.mark.parametrize("path", [ACTIVATE, HEARTBEAT, ACTIVATE_ALL, HEARTBEAT_ALL, USAGE])
UNKNOWN_CODE = {
    ACTIVATE: ({"license": "PL1"}, UNKNOWN),
    HEARTBEAT: ({"license": "PL1"}, UNKNOWN),
    ACTIVATE_ALL: ({"license_list": ["PL1"]}, LISTED),
    HEARTBEAT_ALL: ({"license_list": ["PL1"]}, LISTED),
    USAGE: ({"usage_info": [{"license": "PL1", "software_usage_Info": [{"id": "a"}]}]}, NOT_COUNTED),
}
"""What each call is told of a code that names nothing."""


async def test_a_body_of_exactly_64_kib_is_read(edge):
    body = b'{"license":"PL1","x":"%b"}' % (b"y" * (64 * 1024 - 24))
    assert len(body) == 64 * 1024

    assert (await edge.call(ACTIVATE, body)).body == UNKNOWN


async def test_a_body_in_pieces_is_one_body(edge):
    answer = await edge.call(ACTIVATE, {"license": await edge.shop.sell_code()}, pieces=7)

    assert answer.json["error_code"] == "92020000"


@pytest.mark.parametrize(
    ("info", "status"),
    [
        ({"thirdPartyAccount": "me", "ip": "192.168.1.51"}, 200),
        ({"thirdPartyAccount": "me", "more": 1}, 200),
        (None, 200),
        ({}, 400),
        ({"ip": "192.168.1.51"}, 400),
        ({"thirdPartyAccount": "x" * 257}, 400),
        ({"thirdPartyAccount": "me", "ip": "1" * 33}, 400),
        ("text", 400),
    ],
)
async def test_the_deprecated_heartbeat_info_is_still_checked(edge, info, status):
    code = await edge.shop.sell_code()
    await edge.call(ACTIVATE, {"license": code})

    answer = await edge.call(HEARTBEAT, {"license": code, "heartbeatInfo": info})

    assert answer.status == status
    assert (answer.body == BAD_REQUEST) == (status == 400)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
async def test_another_method_is_refused_before_anything_else(edge, method):
    for path in UNKNOWN_CODE:
        answer = await ask(edge.app, method, path, body=b" " * 100_000)
        assert (answer.status, answer.body, answer.header("allow")) == (405, METHOD, "POST"), path


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
async def test_a_uri_that_is_none_is_the_gateways_to_refuse(edge, method):
    before, seen = await edge.written(), set()
    for path in (
        "",
        "/",
        "/v1",
        "/v3/license/activate",
        "/v1/license/activate/more",
        "/v1/%00",
        "/%ff/..",
        "/" + "x" * 2_000,
    ):
        answer = await ask(edge.app, method, ROOT + path, body=b" " * 100_000)
        assert (answer.status, answer.header("content-type")) == (404, JSON), path
        told = answer.json
        seen.add(told.pop("request_id"))
        assert told == {
            "error_msg": "The API does not exist or has not been published in the environment.",
            "error_code": "APIG.0101",
        }
    assert len(seen) == 8
    assert await edge.written() == before


async def test_what_the_gateway_does_not_know_ends_at_its_prefix(edge):
    for path in ("/api/mkp-openapi-public", "/api", "/v3"):
        answer = await ask(edge.app, "GET", path)
        assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND")
    signed = await edge.call(f"{ACTIVATE}/", {"license": "PL1"})
    assert signed.json["error_code"] != "APIG.0101"


@ENDPOINTS
async def test_the_checks_come_in_the_agreed_order(edge, path):
    """405, body size, signature, content type, readable, valid, then the license itself (spec §11.3)."""
    large, unreadable = b" " * (70_000 if path != USAGE else 11 * 1024 * 1024 + 1), b"{"
    fields, unknown = UNKNOWN_CODE[path]
    bad = {"Host": HOST, "Content-Type": "text/plain"}
    before = await edge.written()

    assert (await ask(edge.app, "GET", path, headers=bad.items(), body=large)).body == METHOD
    assert (await ask(edge.app, "POST", path, headers=bad.items(), body=large)).body == BAD_REQUEST
    assert (await ask(edge.app, "POST", path, headers=bad.items(), body=unreadable)).json["error_code"] == "APIG.0301"
    plain = signed_headers(edge.pair, path, unreadable, edge.clock.now, more={"Content-Type": "text/plain"})
    assert (await ask(edge.app, "POST", path, headers=plain.items(), body=unreadable)).body == CONTENT_TYPE
    assert (await edge.call(path, unreadable)).body == UNREADABLE
    assert (await edge.call(path, b"{}")).body == BAD_REQUEST
    assert (await edge.call(path, fields)).body == unknown
    assert await edge.written() == before


async def test_a_pair_sees_its_own_product_and_a_sellers_pair_its_connection(edge):
    second = await open_shop(edge.rt, name="second", sold="OFFI200", connection=edge.shop.connection)
    abroad = await open_shop(edge.rt, name="abroad", sold="OFFI100")
    code = await edge.shop.sell_code()

    for stranger in (await second.pair(), await abroad.pair(), await abroad.pair(Scope.SELLER)):
        assert (await edge.call(ACTIVATE, {"license": code}, pair=stranger)).body == UNKNOWN
        assert (await edge.call(HEARTBEAT, {"license": code}, pair=stranger)).body == UNKNOWN
    seller = await second.pair(Scope.SELLER)
    assert (await edge.call(ACTIVATE, {"license": code}, pair=seller)).json["error_code"] == "92020000"


def test_the_uris_are_the_documented_ones(edge):
    """spec §§1.3-1.6, letter by letter: every other test builds on the same constants as the server's callers."""
    root = "/api/mkp-openapi-public/global"
    served = {route.path for route in edge.app._app.routes if route.path.startswith("/api/")}

    assert served - {root} == {  # the root itself refuses every other one
        f"{root}/v1/license/activate",
        f"{root}/v2/license/activate",
        f"{root}/v1/license/heartbeat",
        f"{root}/v2/license/heartbeat",
        f"{root}/v2/license/software-usage-info",
        f"{root}/v1/order/query",
    }
