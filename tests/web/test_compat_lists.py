"""Lists of codes and reports of use, row by row, through the real application (spec §§1.3-1.5, 1.8)."""

import asyncio

import pytest

from licensesvc.domain.instants import DAY, MINUTE, format_stamp, parse_rfc3339
from licensesvc.domain.product import DeliveryKind
from licensesvc.marketplace.huawei import usage as wire
from licensesvc.storage.credentials import Scope
from licensesvc.web.asgi import LARGE_BODIES, FewLargeBodies
from tests.support_edges import (
    ACTIVATE,
    ACTIVATE_ALL,
    HEARTBEAT,
    HEARTBEAT_ALL,
    USAGE,
    change,
    open_edge,
    open_shop,
    rows,
    signed_headers,
)
from tests.web.test_compat_rows import BAD_REQUEST, INVALID_PARAM, JSON, LISTED, NOT_CLAIMED

ACTIVATED = b'{"error_code":"92020000","error_msg":"success"}'
COUNTED = b'{"error_code":"92020000","error_msg":"success","data":{"check_fail_list":[]}}'


async def sell(edge, count, **facts):
    return [await edge.shop.sell_code(f"CS{number}", **facts) for number in range(count)]


async def activate_all(edge, codes, **more):
    return await edge.call(ACTIVATE_ALL, {"license_list": codes, **more})


async def query_all(edge, codes):
    return await edge.call(HEARTBEAT_ALL, {"license_list": codes})


async def report(edge, code, *said, **options):
    return await edge.call(USAGE, {"usage_info": [{"license": code, "software_usage_Info": said}]}, **options)


async def used(edge):
    found = await edge.rt.db.read(
        lambda tx: tx.all("SELECT clients, active_num FROM usage_days ORDER BY license_id, day")
    )
    return [(row["clients"], row["active_num"]) for row in found]


async def test_a_list_is_put_into_service_with_the_documented_bytes(edge):
    codes = await sell(edge, 3, order_time=edge.clock.now - DAY)
    stated = format_stamp(edge.clock.now - MINUTE, edge.shop.connection.wire)

    answer = await activate_all(edge, codes, real_effect_time=stated)

    assert (answer.status, answer.header("content-type"), answer.body) == (200, JSON, ACTIVATED)
    for code in codes:
        asked = await edge.call(HEARTBEAT, {"license": code})
        assert asked.json["data"]["activate_time"] == format_stamp(edge.clock.now, edge.shop.connection.wire)


async def test_a_hundred_codes_are_a_list_a_hundred_and_one_are_none(edge):
    codes = await sell(edge, 101)

    assert (await activate_all(edge, codes)).body == BAD_REQUEST
    assert await rows(edge.rt, "supervision_events") == [101]  # all of them opened, none moved on
    assert (await activate_all(edge, codes[:100])).body == ACTIVATED
    assert len((await query_all(edge, codes[:100])).json["data"]) == 100


@pytest.mark.parametrize("call", [activate_all, query_all])
async def test_a_bad_code_in_a_list_is_told_and_nothing_happens(edge, call):
    codes = await sell(edge, 2)
    if call is query_all:
        await activate_all(edge, codes)
    spoilt = {
        "unknown": "PL1",
        "foreign": await (await open_shop(edge.rt, name="abroad")).sell_code(),
        "in the other state": codes[0] if call is activate_all else await edge.shop.sell_code("CS9"),
    }
    if call is activate_all:
        await edge.call(ACTIVATE, {"license": codes[0]})
    before = await edge.written()

    for name, code in spoilt.items():
        answer = await call(edge, [codes[1], code])
        assert (answer.status, answer.body) == (200, LISTED), name
    assert await edge.written() == before


async def test_an_unclaimed_code_is_told_alone_and_spoils_a_list(edge):
    shop = await open_shop(edge.rt, name="old", kind=DeliveryKind.LICENSE_2_0)
    old = await shop.sell_code("CS1", code="PL-1", order_time=parse_rfc3339("2025-04-24T15:59:59Z"))
    new = await shop.sell_code("CS2", code="PL-2")
    pair = await shop.pair()
    before = await edge.written()

    for codes, told in (([old], NOT_CLAIMED), ([old, old], NOT_CLAIMED), ([new, old], LISTED), ([old, new], LISTED)):
        answer = await edge.call(ACTIVATE_ALL, {"license_list": codes}, pair=pair)
        assert (answer.status, answer.body) == (200, told)
    assert await edge.rt.db.read(lambda tx: tx.all("SELECT 1 FROM license_states WHERE state <> 'ISSUED'")) == []
    assert await edge.written() == before


async def test_the_same_list_again_is_refused_for_activation_is_not_idempotent(edge):
    codes = await sell(edge, 2)

    assert (await activate_all(edge, [*codes, codes[0], codes[0].lower()])).body == ACTIVATED
    assert (await activate_all(edge, codes)).body == LISTED


async def test_a_stated_start_before_one_of_the_orders_is_an_invalid_parameter(edge):
    early = await edge.shop.sell_code("CS1", order_time=edge.clock.now - 2 * DAY)
    late = await edge.shop.sell_code("CS2", order_time=edge.clock.now)
    stated = format_stamp(edge.clock.now - DAY, edge.shop.connection.wire)

    assert (await activate_all(edge, [early, late], real_effect_time=stated)).body == INVALID_PARAM
    assert (await activate_all(edge, [early], real_effect_time=stated)).body == ACTIVATED


async def test_a_query_of_a_list_answers_what_single_queries_answer(edge):
    codes = await sell(edge, 3, amount=2)
    await activate_all(edge, codes)
    for state, place in (("expires_at = 1", 1), ("state = 'RELEASED'", 2)):
        await change(edge.rt, f"UPDATE license_states SET {state} WHERE license_id = {place}")  # noqa: S608
    asked = [codes[2], codes[0], codes[1], codes[2]]

    answer = await query_all(edge, asked)

    single = [(await edge.call(HEARTBEAT, {"license": code})).json["data"] for code in asked]
    assert (answer.status, answer.header("content-type")) == (200, JSON)
    assert answer.json == {"error_code": "92020000", "error_msg": "success", "data": single}
    assert [info["status"] for info in single] == ["ALIVE", "EXPIRED", "RELEASED", "ALIVE"]


async def test_two_lists_and_a_single_call_at_once_activate_each_code_once(edge):
    codes = await sell(edge, 9)

    answers = await asyncio.gather(
        activate_all(edge, codes[:5]),
        edge.call(ACTIVATE, {"license": codes[6]}),
        activate_all(edge, codes[4:]),
        activate_all(edge, codes[7:]),
        edge.call(ACTIVATE, {"license": codes[6]}),
    )

    told = [answer.json["error_code"] for answer in answers]
    assert sorted(told[index] for index in (1, 4)) in (["92020000", "92020003"], ["92020003", "92020003"])
    active = await edge.rt.db.read(lambda tx: tx.one("SELECT count(*) AS n FROM license_states WHERE state = 'ACTIVE'"))
    events = await edge.rt.db.read(
        lambda tx: tx.all("SELECT subject FROM audit_events WHERE kind = 'license.activated'")
    )
    assert len({event["subject"] for event in events}) == len(events) == active["n"]
    listed = {0: 5, 1: 1, 2: 5, 3: 2, 4: 1}
    assert sum(listed[index] for index, code in enumerate(told) if code == "92020000") == active["n"]


async def test_a_report_is_counted_and_answers_no_failures(edge):
    code = await edge.shop.sell_code()
    await edge.call(ACTIVATE, {"license": code})

    answer = await report(edge, code, {"id": "account1"})

    assert (answer.status, answer.header("content-type"), answer.body) == (200, JSON, COUNTED)
    await report(edge, code, {"id": "account1"}, {"id": "account2"}, {"active_num": 100})
    assert await used(edge) == [(2, 100)]


async def test_codes_of_which_nothing_is_counted_are_listed_as_they_were_sent(edge):
    counted, fresh = await sell(edge, 2)
    await edge.call(ACTIVATE, {"license": counted})
    typed = fresh.lower()
    said = [{"license": code, "software_usage_Info": [{"id": "a"}]} for code in ("PL1", counted, typed, "PL1", fresh)]

    answer = await edge.call(USAGE, {"usage_info": said})

    assert answer.json["data"] == {"check_fail_list": ["PL1", typed]}
    assert await used(edge) == [(1, None)]


async def test_a_report_of_another_product_or_connection_fails_as_an_unknown_code(edge):
    code = await edge.shop.sell_code()
    await edge.call(ACTIVATE, {"license": code})
    second = await open_shop(edge.rt, name="second", sold="OFFI200", connection=edge.shop.connection)
    abroad = await open_shop(edge.rt, name="abroad")

    for stranger in (await second.pair(), await abroad.pair(), await abroad.pair(Scope.SELLER)):
        assert (await report(edge, code, {"id": "a"}, pair=stranger)).json["data"] == {"check_fail_list": [code]}
    assert await used(edge) == []
    assert (await report(edge, code, {"id": "a"}, pair=await second.pair(Scope.SELLER))).body == COUNTED


async def test_the_account_of_the_deprecated_heartbeat_info_is_a_client_of_the_day(edge):
    code = await edge.shop.sell_code()
    info = {"thirdPartyAccount": "account1", "ip": "192.168.1.51"}
    assert (await edge.call(HEARTBEAT, {"license": code, "heartbeatInfo": info})).json["error_code"] == "92020011"
    assert await used(edge) == []
    await edge.call(ACTIVATE, {"license": code})

    for _ in range(2):
        assert (await edge.call(HEARTBEAT, {"license": code, "heartbeatInfo": info})).json["error_code"] == "92020000"
    await report(edge, code, {"id": "account1"}, {"id": "account2"})
    await edge.call(HEARTBEAT, {"license": code})

    assert await used(edge) == [(2, None)]


async def test_the_largest_report_is_taken_whole_and_a_byte_more_than_fits_is_not(edge):
    code = await edge.shop.sell_code()
    await edge.call(ACTIVATE, {"license": code})
    said = [
        {"license": code, "software_usage_Info": [{"id": f"{n:05}" + "x" * 251} for n in range(start, start + 100)]}
        for start in range(0, 10_000, 100)
    ]

    assert (await edge.call(USAGE, {"usage_info": said}, pieces=20)).body == COUNTED
    assert await used(edge) == [(10_000, None)]
    fits = b'{"usage_info":[]' + b" " * (wire.MAX_BODY - 17) + b"}"
    assert len(fits) == wire.MAX_BODY
    assert (await edge.call(USAGE, fits)).body == BAD_REQUEST  # an empty list, which says that it was read
    assert (await edge.call(USAGE, fits + b" ", pieces=3)).body == BAD_REQUEST


async def test_few_large_bodies_are_read_at_a_time_and_any_number_of_small_ones():
    reading, most, go_on = 0, 0, asyncio.Event()

    async def endpoint(_scope, receive, _send):
        nonlocal reading, most
        await receive()
        reading += 1
        most = max(most, reading)
        await go_on.wait()
        reading -= 1

    door = FewLargeBodies(endpoint, 10)

    def asked(size):
        async def receive():
            return {"type": "http.request", "body": b"x" * size, "more_body": False}

        return asyncio.ensure_future(door({}, receive, None))

    async def settled():
        for _ in range(20):
            await asyncio.sleep(0)

    large = [asked(11) for _ in range(LARGE_BODIES + 5)]
    await settled()
    assert reading == LARGE_BODIES
    small = [asked(10) for _ in range(50)]
    await settled()
    assert reading == LARGE_BODIES + 50
    large[0].cancel()  # one that is served leaves its place to the next, one that waits just goes
    large[-1].cancel()
    await settled()
    assert reading == LARGE_BODIES + 50 + 1
    go_on.set()
    await asyncio.gather(*large, *small, return_exceptions=True)
    assert reading == 1  # the one that was cancelled never came back
    assert door._room._value == LARGE_BODIES


@pytest.mark.parametrize("path", [ACTIVATE_ALL, HEARTBEAT_ALL, USAGE])
async def test_a_list_of_guesses_costs_as_many_guesses(tmp_path, path):
    async with open_edge(tmp_path) as edge:
        guesses = [f"PL{number}" for number in range(100)]
        named = {
            "license_list": guesses,
            "usage_info": [{"license": code, "software_usage_Info": [{"id": "a"}]} for code in guesses],
        }

        assert (await edge.call(path, named)).json["error_code"] in {"92020020", "92020000"}
        refused = await edge.call(path, named)
        assert (refused.status, refused.json["error_code"]) == (429, "APIG.0308")
        assert refused.header("retry-after") == "41"  # 100 guesses, 60 of them at once and one a second, and one more
        single = await edge.call(HEARTBEAT, {"license": await edge.shop.sell_code()})
        assert single.json["error_code"] == "APIG.0308"
        edge.clock.now += 41_000
        assert (await edge.call(path, named)).status == 200


async def test_what_is_wrong_with_known_codes_costs_nothing(edge):
    codes = await sell(edge, 50)

    for _ in range(5):
        assert (await query_all(edge, codes)).body == LISTED
    assert await rows(edge.rt, "buckets") == [0]


async def test_a_report_with_a_bad_signature_is_refused_by_the_gateway_and_counts_nothing(edge):
    body = b'{"usage_info":[{"license":"PL1","software_usage_Info":[{"id":"a"}]}]}'
    headers = signed_headers(edge.pair, USAGE, body, edge.clock.now)
    from tests.support_edges import ask

    answer = await ask(edge.app, "POST", USAGE, headers=headers.items(), body=body.replace(b'"a"', b'"b"'))

    assert (answer.status, list(answer.json)) == (401, ["error_msg", "error_code", "request_id"])
