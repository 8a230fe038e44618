"""Debug cases (testFlag=1): checked like live calls, answered by a twin that knows nothing, and without a trace (spec §2.0)."""

import json
import random

import pytest

from licensesvc.domain.instants import DAY, HOUR
from licensesvc.domain.product import DeliveryKind
from tests.support_calls import CODE, SUCCESS, V1, V2, Sender
from tests.support_edges import TABLES, ask, get_license_target, notification, open_edge, open_shop
from tests.web.test_callbacks_calls import code_of, last_message

DELIVERED = (
    b'{"resultCode":"000000","resultMsg":"success.","license":"TEST-2391184c1f6138a1b57b0c922d0ce28c",'
    b'"instanceId":"test-2391184c1f6138a1b57b0c922d0ce28c"}'
)
UNTOUCHED = sorted({*TABLES, "license_calls", "buckets", "idempotency_keys"} - {"nonces"})


def debug(call):
    return {**call, "testFlag": "1"}


CASES = {
    **{activity: lambda sender, call=call: sender.post(debug(call)) for activity, call in V2.items()},
    "orderNotify": lambda sender: sender.post(notification(testFlag="1")),
    **{activity: lambda sender, activity=activity: sender.get(activity, testFlag="1") for activity in V1},
    "getLicense": lambda sender: ask(
        sender.edge.app, "GET", get_license_target(sender.shop, sender.edge.clock.now, testFlag="1")
    ),
}
EXPECTED = {activity: DELIVERED if activity == "getLicense" else SUCCESS for activity in CASES}


async def contents(edge):
    """Every row of every table that a debug case must not touch."""

    async def read(tx):
        return {table: [tuple(row) for row in await tx.all(f"SELECT * FROM {table}")] for table in UNTOUCHED}  # noqa: S608

    return await edge.rt.db.read(read)


@pytest.mark.parametrize("activity", CASES)
@pytest.mark.parametrize("known", [False, True], ids=["nothing is known", "a live license is there"])
async def test_a_debug_case_is_a_success_and_leaves_its_message_alone(edge, activity, known):
    sender = Sender(edge, edge.shop)
    if known:
        shop = await open_shop(edge.rt, name="two", sold="OFFI200", kind=DeliveryKind.LICENSE_2_0)
        await shop.sell(code=CODE)
        assert code_of(await ask(edge.app, "GET", get_license_target(edge.shop, edge.clock.now))) == "000000"
    before = await contents(edge)

    answers = [await CASES[activity](sender) for _ in range(3)]

    assert {answer.body for answer in answers} == {EXPECTED[activity]}
    assert {code_of(answer) for answer in answers} == {"000000"}
    assert await contents(edge) == before
    message = await last_message(edge)
    assert (message["activity"], message["purpose"], message["outcome"]) == (activity, "test", "000000")
    assert message["authenticated_at"] == edge.clock.now


async def test_saved_cases_pass_every_morning_and_afternoon_in_any_order(edge):
    sender = Sender(edge, edge.shop)
    before = await contents(edge)
    chance = random.Random(1)  # noqa: S311
    for _ in range(14):
        edge.clock.now += 12 * HOUR
        for activity in chance.sample(list(CASES), len(CASES)):
            assert (await CASES[activity](sender)).body == EXPECTED[activity]
    assert await contents(edge) == before


async def test_another_installation_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        async with open_edge(tmp_path / name) as edge:
            sender = Sender(edge, edge.shop)
            for activity, case in CASES.items():
                assert (await case(sender)).body == EXPECTED[activity]


async def test_cases_pass_whatever_became_of_their_license(edge):
    shop = await open_shop(edge.rt, name="two", sold="OFFI200", kind=DeliveryKind.LICENSE_2_0)
    await shop.sell(code=CODE)
    sender = Sender(edge, shop)
    for live in (
        V2["refreshLicenseCode"],
        {**V2["updateLicenseCodeStatus"], "status": "FREEZE"},
        V2["releaseLicenseCode"],
    ):
        assert code_of(await sender.post(live)) == "000000"
        edge.clock.now += 900 * DAY
        for activity, case in CASES.items():
            assert (await case(sender)).body == EXPECTED[activity]


@pytest.mark.parametrize("activity", V2)
async def test_signature_and_fields_of_a_debug_case_are_checked(edge, activity):
    sender, call = Sender(edge, edge.shop), debug(V2[activity])
    body = json.dumps(call).encode()
    target = sender.target(body)

    assert code_of(await sender.post(body, key="another key")) == "000001"
    assert code_of(await sender.post(body, target=target)) == "000000"
    assert code_of(await sender.post(body, target=target)) == "000001"  # its nonce is used up
    for fault in ({"license": None}, {"license": "x" * 65}, {"testFlag": "2"}, {"orderId": 7}, {"expireTime": "soon"}):
        if next(iter(fault)) in call:
            assert code_of(await sender.post({**call, **fault})) == "000002"
            assert (await last_message(edge))["purpose"] == ("live" if "testFlag" in fault else "test")


async def test_license_1_0_debug_cases_are_checked_too(edge):
    sender = Sender(edge, edge.shop)
    for activity in V1:
        assert (await sender.get(activity, testFlag="01")).body == SUCCESS
        assert code_of(await sender.get(activity, testFlag="1", key="another key")) == "000001"
        assert code_of(await sender.get(activity, testFlag="1", instanceId=None)) == "000002"
    assert code_of(await sender.get("refreshLicense", testFlag="1", expireTime="20281318110640")) == "000002"
    for fault in ({"expireTime": "soon"}, {"periodType": "fortnight"}, {"saasExtendParams": "rubbish!"}):
        target = get_license_target(edge.shop, edge.clock.now, testFlag="1", **fault)
        assert code_of(await ask(edge.app, "GET", target)) == "000002"
