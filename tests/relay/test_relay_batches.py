"""Activations in relay mode that go out together, and lists that software sends."""

import asyncio

import pytest

from licensesvc.domain.instants import DAY
from licensesvc.domain.product import DeliveryKind
from licensesvc.storage.credentials import Scope
from tests.support_edges import open_shop
from tests.support_relay import ACTIVATE_ALL, QUERY, QUERY_ALL, Code, states

OK, ILLEGAL, UNKNOWN = "92020000", "92020003", "92020005"


@pytest.mark.parametrize("mode", ["batch"])
async def test_waiting_activations_go_out_in_one_batch(rig):
    for number in range(12):
        await rig.sell(f"PL{number}", f"CS{number}")

    told = await asyncio.gather(*(rig.activate(f"PL{number}") for number in range(12)))

    assert told == [OK] * 12
    sent = [fields["license_list"] for path, fields in rig.market.calls if path == ACTIVATE_ALL]
    assert sorted(code for codes in sent for code in codes) == sorted(rig.market.codes), "each code in one batch"
    assert len(sent) < 6
    assert set(rig.market.paths()) == {ACTIVATE_ALL, QUERY_ALL}, (
        "a batch answers nothing about its codes: they are asked for"
    )
    assert {state for _, state, _, _ in await states(rig)} == {"ACTIVE"}


@pytest.mark.parametrize("mode", ["batch"])
async def test_a_bad_code_in_a_batch_stands_alone_in_the_end(rig):
    for number in range(8):
        await rig.sell(f"PL{number}", f"CS{number}")
    rig.market.codes["PL3"].status = "RELEASED"
    del rig.market.codes["PL6"]

    told = await asyncio.gather(*(rig.activate(f"PL{number}") for number in range(8)))

    assert told == [OK, OK, OK, ILLEGAL, OK, OK, UNKNOWN, OK]
    assert [state for _, state, _, _ in await states(rig)].count("ACTIVE") == 6


@pytest.mark.parametrize("mode", ["batch"])
async def test_a_batch_whose_answer_was_lost_is_asked_for(rig):
    for number in range(3):
        await rig.sell(f"PL{number}", f"CS{number}")
    rig.market.mishap, rig.market.spoils = "lost after", frozenset({ACTIVATE_ALL})

    told = await asyncio.gather(*(rig.activate(f"PL{number}") for number in range(3)))

    assert told == [OK] * 3
    assert set(rig.market.paths()) == {ACTIVATE_ALL, QUERY_ALL}
    assert rig.market.paths().count(ACTIVATE_ALL) <= 3, "none was sent again"


@pytest.mark.parametrize("mode", ["batch"])
async def test_a_batch_answer_of_another_shape_falls_back_to_single_queries(rig):
    rig.market.shape = "object"
    await rig.sell("PL1", "CS1")
    rig.market.codes["PL1"].status = "ALIVE"

    assert (await rig.query())["status"] == "ALIVE"
    assert rig.market.paths() == [QUERY_ALL, QUERY]


@pytest.mark.parametrize("mode", ["single", "batch"])
async def test_a_list_is_all_or_none(rig):
    for number in range(3):
        await rig.sell(f"PL{number}", f"CS{number}")
    bad = await rig.call(ACTIVATE_ALL, {"license_list": ["PL0", "PL1", "PL-unknown"]})
    assert bad.json["error_code"] == "92020020"
    assert {state for _, state, _, _ in await states(rig)} == {"ISSUED"}

    good = await rig.call(ACTIVATE_ALL, {"license_list": ["PL0", "PL1", "PL2"]})
    assert good.json["error_code"] == OK
    assert {state for _, state, _, _ in await states(rig)} == {"ACTIVE"}
    again = await rig.call(ACTIVATE_ALL, {"license_list": ["PL0", "PL1"]})
    assert again.json["error_code"] == "92020020"


async def test_a_list_whose_answer_was_lost_is_asked_for(rig):
    await rig.sell("PL1", "CS1")
    rig.market.codes["PL2"] = Code("CS2")
    rig.market.mishap, rig.market.spoils = "lost after", frozenset({ACTIVATE_ALL})

    answer = await rig.call(ACTIVATE_ALL, {"license_list": ["PL1", "PL2"]})

    assert answer.json["error_code"] == OK
    assert rig.market.paths() == [ACTIVATE_ALL, QUERY_ALL]
    assert {(state, order) for _, state, order, _ in await states(rig)} == {("ACTIVE", "CS1"), ("ACTIVE", "CS2")}


async def test_a_list_of_nothing_that_relays_is_ours_alone(rig):
    other = await open_shop(
        rig.rt, name="other", sold="OFFI200", kind=DeliveryKind.LICENSE_1_0, connection=rig.shop.connection
    )
    codes = [await other.sell_code("CS9"), await other.sell_code("CS10")]
    pair = await other.pair()

    answer = await rig.call(ACTIVATE_ALL, {"license_list": codes}, pair=pair)

    assert answer.json["error_code"] == OK
    assert rig.market.calls == []


async def test_a_mixed_list_of_a_seller_is_activated_on_both_sides(rig):
    other = await open_shop(
        rig.rt, name="other", sold="OFFI200", kind=DeliveryKind.LICENSE_1_0, connection=rig.shop.connection
    )
    own = await other.sell_code("CS9")
    await rig.sell()
    seller = await rig.shop.pair(Scope.SELLER)

    answer = await rig.call(ACTIVATE_ALL, {"license_list": ["PL1", own]}, pair=seller)

    assert answer.json["error_code"] == OK
    assert rig.market.calls[0] == (ACTIVATE_ALL, {"license_list": ["PL1"]})
    assert {state for _, state, _, _ in await states(rig)} == {"ACTIVE"}
    queried = await rig.call(QUERY_ALL, {"license_list": [own, "PL1"]}, pair=seller)
    assert [info["license_code"] for info in queried.json["data"]] == [own, "PL1"]
    rig.clock.now += DAY
