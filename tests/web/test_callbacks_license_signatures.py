"""Who may send License 2.0 and License 1.0 calls: signatures, windows, nonces and tokens (spec §§4.1, 4.2)."""

import json

import pytest

from licensesvc.domain.instants import HOUR, MINUTE, SECOND
from tests.support_calls import REFRESH, STATUS, SUCCESS, V1, V2, state
from tests.support_edges import KEY, rows
from tests.web.test_callbacks_calls import code_of, last_message


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize(
    ("offset", "seconds", "code"),
    [
        (0, False, "000000"),
        (MINUTE, False, "000000"),
        (-MINUTE, False, "000000"),
        (MINUTE + 1, False, "000001"),
        (-MINUTE - 1, False, "000001"),
        (HOUR, False, "000001"),
        (0, True, "000000"),
        (MINUTE, True, "000000"),
        (-MINUTE, True, "000000"),
        (MINUTE + SECOND, True, "000001"),
        (-MINUTE - SECOND, True, "000001"),
    ],
)
async def test_stamps_are_fresh_for_a_minute_in_either_unit_and_either_case_of_hex(
    edge, two, offset, seconds, code, upper
):
    answer = await two.post(REFRESH, at=edge.clock.now + offset, seconds=seconds, upper=upper)

    assert code_of(answer) == code
    assert await rows(edge.rt, "license_calls", "nonces") == ([1, 1] if code == "000000" else [0, 0])


async def test_every_flipped_bit_and_every_cut_of_a_call_is_refused(edge, two):
    body = json.dumps(STATUS).encode()
    target = two.target(body, nonce="n" * 32)
    path, _, query = target.partition("?")
    before = await edge.written()
    refused = []
    for index in range(len(body)):
        flipped = body[:index] + bytes([body[index] ^ 1]) + body[index + 1 :]
        refused.append(await two.post(flipped, target=target))
        refused.append(await two.post(body[:index], target=target))
    for index, letter in enumerate(query):
        if letter in "=&":  # the names around them are cut below
            continue
        other = "1" if letter != "1" else "2"
        refused.append(await two.post(body, target=f"{path}?{query[:index]}{other}{query[index + 1 :]}"))
    refused += [await two.post(body, target=f"{path}?{query[:index]}") for index in range(0, len(query), 7)]

    assert {code_of(answer) for answer in refused} == {"000001"}
    assert await edge.written() == before
    assert code_of(await two.post(body, target=target)) == "000000"  # the control: as it was sent, it is good


@pytest.mark.parametrize(
    "options",
    [{"key": "another key"}, {"key": KEY + " "}, {"nonce": "%00"}, {"nonce": "x" * 65}, {"nonce": "a b"}],
    ids=str,
)
async def test_another_key_or_a_nonce_of_another_form_is_refused(two, options):
    assert code_of(await two.post(REFRESH, **options)) == "000001"


@pytest.mark.parametrize("activity", V2)
async def test_a_replayed_call_is_not_authentic_and_a_repeated_one_is_answered_alike(edge, two, activity):
    body = json.dumps(V2[activity]).encode()
    target = two.target(body)
    first = await two.post(body, target=target)
    before = await state(edge), await rows(edge.rt, "audit_events", "license_calls")

    assert code_of(await two.post(body, target=target)) == "000001"
    assert (await last_message(edge))["detail"] == "nonce was used before"
    repeats = [await two.post(body) for _ in range(5)]
    assert {answer.body for answer in repeats} == {first.body} == {SUCCESS}
    assert (await state(edge), await rows(edge.rt, "audit_events", "license_calls")) == before


async def test_a_nonce_is_used_up_with_its_effect_or_not_at_all(edge, two):
    body = json.dumps({**REFRESH, "license": "PLUNKNOWN"}).encode()
    target = two.target(body)

    assert code_of(await two.post(body, target=target)) == "000003"
    assert await rows(edge.rt, "nonces") == [0]
    assert code_of(await two.post(body, target=target)) == "000003"


@pytest.mark.parametrize("activity", V1)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda target: target.replace("instanceId=biz-1", "instanceId=biz-2"),
        lambda target: target + "&more=1",
        lambda target: target.replace("authToken=", "authToken=A"),
        lambda target: target.partition("&authToken=")[0],
        lambda target: target + "&orderId=CS1",
        lambda target: target.partition("?")[0],
        lambda target: target + "&x=%ff",
    ],
)
async def test_a_changed_license_1_0_call_is_not_authentic(edge, one, activity, spoil):
    before = await edge.written()

    assert code_of(await one.get(activity, target=spoil(one.v1_target(activity)))) == "000001"
    assert await edge.written() == before


async def test_license_1_0_calls_are_fresh_for_a_quarter_of_an_hour(edge, one):
    for activity in V1:
        for offset, code in ((15 * MINUTE, "000000"), (15 * MINUTE + 1, "000001"), (8 * HOUR, "000000")):
            assert code_of(await one.get(activity, at=edge.clock.now + offset)) == code
        assert code_of(await one.get(activity, key="another key")) == "000001"
