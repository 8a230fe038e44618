"""Activation through the relay: recorded when the marketplace has done it, asked for when its answer was lost, never sent blindly."""

import asyncio

import pytest

from licensesvc.domain.instants import MINUTE
from licensesvc.domain.product import DeliveryKind
from licensesvc.services.relay.relay import REFUSED_KEPT_FOR
from licensesvc.storage.credentials import Scope
from tests.support_edges import change, open_shop
from tests.support_relay import ACTIVATE, EXPIRES, QUERY, Code, states

OK, AWAY, ILLEGAL, UNKNOWN = "92020000", "92020001", "92020003", "92020005"
both_engines = pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)


async def audited(rig):
    return [kind for (kind,) in await rig.rows("SELECT kind FROM audit_events ORDER BY chain, seq")]


async def nodes(rig):
    return [node for (node,) in await rig.rows("SELECT node FROM supervision_cases ORDER BY id")]


@both_engines
async def test_a_known_code_is_put_into_service_at_the_marketplace_then_here(rig):
    await rig.sell()
    assert await nodes(rig) == ["DELIVERING"]

    answer = await rig.call(ACTIVATE, {"license": "PL1", "real_effect_time": "20261118110640"})

    assert answer.json["error_code"] == OK
    assert EXPIRES in answer.json["data"]["license_code_info"]
    assert rig.market.calls == [(ACTIVATE, {"license": "PL1", "real_effect_time": "20261118110640"})]
    assert await states(rig) == [("marketplace", "ACTIVE", "CS1", None)]
    assert await nodes(rig) == ["PROVING"], "the case has moved on in the same transaction"
    assert (await audited(rig))[-1] == "license.activated"


@both_engines
async def test_an_unknown_code_is_learned_with_its_order(rig):
    rig.market.codes["PL7"] = Code("CS7")

    answer = await rig.call(ACTIVATE, {"license": "PL7"})

    assert answer.json["data"]["license_code_info"] == (
        f'{{"status":"ALIVE","expire_time":"{EXPIRES}","product_id":"OFFI100","amount":2,"order_id":"CS7"}}'
    )
    assert await states(rig) == [("marketplace", "ACTIVE", "CS7", 2)]
    assert await rig.rows("SELECT order_id, source FROM orders") == [("CS7", "relay")]
    assert await audited(rig) == [
        *["connection.created", "policy.created", "product.created", "credential.created"],
        *["order.received", "supervision.started", "license.issued", "license.document_prepared", "license.activated"],
    ]
    [(sources,)] = await rig.rows("SELECT expiry_sources FROM licenses")
    assert '"estimate":1826536000000' in sources


async def test_two_codes_of_one_order_have_a_line_each(rig):
    for name in ("PL1", "PL2", "PL3"):
        rig.market.codes[name] = Code("CS1")
        assert await rig.activate(name) == OK

    lines = await rig.rows("SELECT line_id FROM order_lines ORDER BY id")
    assert lines == [("CS1-000001",), ("CS1-000002",), ("CS1-000003",)]


async def test_a_code_finds_the_line_of_its_order_that_is_known_without_code(rig):
    await rig.shop.sell("CS1", line_id="CS1-000004")
    rig.market.codes["PL1"] = Code("CS1")

    assert await rig.activate() == OK

    assert await rig.rows("SELECT line_id FROM order_lines") == [("CS1-000004",)]
    assert await nodes(rig) == ["PROVING"]


REFUSALS = [("PL-unknown", UNKNOWN), ("PL-expired", ILLEGAL), ("PL-released", ILLEGAL)]


@pytest.mark.parametrize(("name", "told"), REFUSALS)
async def test_the_marketplaces_refusal_is_passed_on_and_nothing_is_written(rig, name, told):
    rig.market.codes["PL-expired"] = Code("CS1", status="EXPIRED")
    rig.market.codes["PL-released"] = Code("CS2", status="RELEASED")

    assert await rig.activate(name) == told

    assert await states(rig) == []
    assert await rig.rows("SELECT COUNT(*) FROM orders") == [(0,)]


@pytest.mark.parametrize("known", [True, False])
async def test_a_lost_answer_is_asked_for_and_alive_is_done(rig, known):
    rig.market.codes["PL1"] = Code("CS1")
    if known:
        await rig.sell()
    rig.market.mishap, rig.market.spoils = "lost after", frozenset({ACTIVATE})

    assert await rig.activate() == OK

    assert rig.market.paths() == [ACTIVATE, QUERY]
    assert [state for _, state, _, _ in await states(rig)] == ["ACTIVE"]


async def test_a_lost_call_that_had_no_effect_is_left_to_the_software(rig):
    await rig.sell()
    rig.market.mishap, rig.market.spoils = "lost before", frozenset({ACTIVATE})

    assert await rig.activate() == AWAY
    assert rig.market.paths() == [ACTIVATE, QUERY], "not sent again by ourselves"
    assert await states(rig) == [("marketplace", "ISSUED", "CS1", None)]

    rig.market.mishap = None
    assert await rig.activate() == OK


async def test_answer_and_question_both_lost_the_next_try_finds_it_done(rig):
    await rig.sell()
    rig.market.mishap, rig.market.spoils = "lost after", frozenset({ACTIVATE, QUERY})
    assert await rig.activate() == AWAY
    assert rig.market.codes["PL1"].status == "ALIVE"

    rig.market.mishap = None
    assert await rig.activate() == OK
    assert rig.market.paths()[2:] == [ACTIVATE, QUERY]
    assert [state for _, state, _, _ in await states(rig)] == ["ACTIVE"]


@pytest.mark.parametrize("mishap", ["gateway", "internal", "html", "stopped"])
async def test_a_marketplace_that_is_away_asks_the_software_to_come_back(rig, mishap):
    await rig.sell()
    rig.market.mishap = mishap
    if mishap == "stopped":
        await rig.market.stop()

    assert [await rig.activate(), await rig.activate("PL-never-seen")] == [AWAY, AWAY]

    assert await states(rig) == [("marketplace", "ISSUED", "CS1", None)]
    assert await rig.rows("SELECT COUNT(*) FROM orders") == [(1,)], "a code that nobody knows leaves no row"


async def test_a_second_activation_is_refused_by_ourselves(rig):
    await rig.sell()
    assert [await rig.activate(), await rig.activate()] == [OK, ILLEGAL]
    assert rig.market.paths() == [ACTIVATE]

    await rig.market.stop()
    assert await rig.activate() == ILLEGAL


async def test_a_code_that_entered_service_before_the_relay_is_sent_once(rig):
    await rig.sell()
    await change(rig.rt, "UPDATE connections SET relay = 'off'")
    rig.clock.now += MINUTE
    assert await rig.activate() == OK
    assert rig.market.calls == []
    await change(rig.rt, "UPDATE connections SET relay = 'single'")
    rig.clock.now += MINUTE

    assert [await rig.activate(), await rig.activate()] == [OK, ILLEGAL]
    assert rig.market.paths() == [ACTIVATE]


@pytest.mark.parametrize("column", ["suspended_at", "frozen_at"])
async def test_our_own_no_needs_no_call(rig, column):
    await rig.sell()
    await change(rig.rt, f"UPDATE license_states SET {column} = 1")  # noqa: S608

    assert await rig.activate() == ILLEGAL
    assert rig.market.calls == []


async def test_a_stated_time_before_the_order_needs_no_call(rig):
    await rig.sell()

    answer = await rig.call(ACTIVATE, {"license": "PL1", "real_effect_time": "20200101000000"})

    assert answer.json["error_code"] == "92020002"
    assert rig.market.calls == []


async def test_products_whose_codes_we_make_are_not_relayed(rig):
    other = await open_shop(
        rig.rt, name="other", sold="OFFI200", kind=DeliveryKind.LICENSE_1_0, connection=rig.shop.connection
    )
    code = await other.sell_code("CS9")
    pair = await other.pair()

    assert [await rig.activate(code, pair=pair), await rig.activate("PL-any", pair=pair)] == [OK, UNKNOWN]
    assert rig.market.calls == []


async def test_a_code_of_another_product_is_unknown_to_this_credential(rig):
    rig.market.codes["PL1"] = Code("CS1", product_id="OFFI999")

    assert await rig.activate() == UNKNOWN
    assert await states(rig) == []


async def test_a_known_code_of_another_product_is_not_sent(rig):
    other = await open_shop(
        rig.rt, name="other", sold="OFFI200", kind=DeliveryKind.LICENSE_2_0, connection=rig.shop.connection
    )
    await rig.sell()

    assert await rig.activate(pair=await other.pair()) == UNKNOWN
    assert rig.market.calls == []


async def test_a_sellers_own_credential_learns_codes_of_every_mapped_product(rig):
    seller = await rig.shop.pair(Scope.SELLER)
    rig.market.codes |= {"PL1": Code("CS1"), "PL2": Code("CS2", product_id="OFFI999")}

    assert [await rig.activate("PL1", pair=seller), await rig.activate("PL2", pair=seller)] == [OK, UNKNOWN]


async def test_a_program_in_a_loop_is_refused_without_a_call_for_each(rig):
    await rig.sell()
    rig.market.codes["PL1"].status = "RELEASED"
    assert {await rig.activate() for _ in range(5)} == {ILLEGAL}
    assert rig.market.paths() == [ACTIVATE, QUERY]

    rig.clock.now += REFUSED_KEPT_FOR
    rig.market.codes["PL1"].status = None
    assert await rig.activate() == OK


# --- strangers, crowds and the unlucky ---


async def test_unknown_codes_are_asked_for_once_in_ten_minutes(rig):
    assert [await rig.activate("PL-x"), await rig.code(QUERY, "PL-x"), await rig.activate("PL-x")] == [UNKNOWN] * 3
    assert rig.market.paths() == [ACTIVATE]

    rig.clock.now += 10 * MINUTE
    rig.market.codes["PL-x"] = Code("CS1")
    assert await rig.activate("PL-x") == OK


async def test_one_address_looks_up_five_codes_a_minute(rig):
    told = [(await rig.call(ACTIVATE, {"license": f"PL-{number}"})) for number in range(7)]
    assert [answer.json["error_code"] for answer in told] == [UNKNOWN] * 5 + ["APIG.0308"] * 2
    assert len(rig.market.calls) == 5
    assert told[-1].status == 429

    assert await rig.activate("PL-elsewhere", peer="198.51.100.8") == UNKNOWN
    await rig.sell()
    assert await rig.activate() == OK, "a code that is known is no look-up"
    rig.clock.now += MINUTE
    assert await rig.activate("PL-6") == UNKNOWN
    assert len(rig.market.calls) == 8


@both_engines
@pytest.mark.parametrize("known", [True, False])
async def test_forty_programs_share_one_call(rig, known):
    rig.market.codes["PL1"] = Code("CS1")
    if known:
        await rig.sell()
    rig.market.gate = asyncio.Event()
    calls = [asyncio.create_task(rig.activate()) for _ in range(40)]
    await rig.market.arrived.wait()
    rig.market.gate.set()

    assert set(await asyncio.gather(*calls)) <= {OK, ILLEGAL}
    assert rig.market.paths() == [ACTIVATE]
    assert len(await states(rig)) == 1


async def test_who_hangs_up_does_not_take_the_activation_with_him(rig):
    await rig.sell()
    rig.market.gate = asyncio.Event()
    call = asyncio.create_task(rig.activate())
    await rig.market.arrived.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    rig.market.gate.set()
    await rig.restart()  # waits for what is under way

    assert [state for _, state, _, _ in await states(rig)] == ["ACTIVE"]


@pytest.mark.parametrize("code", ["", "P" * 65, "PL\0", "PL\ud800", 7, None, ["PL1"]])
async def test_malformed_codes_never_reach_the_marketplace(rig, code):
    answer = await rig.call(ACTIVATE, b'{"license":"PL\\ud800"}' if code == "PL\ud800" else {"license": code})

    assert answer.json["error_code"] == "95000001"
    assert rig.market.calls == []


async def test_a_connection_without_keys_is_like_a_marketplace_that_is_away(rig):
    await rig.sell()
    await change(rig.rt, "UPDATE connections SET api_secret = NULL")

    assert await rig.activate() == AWAY
