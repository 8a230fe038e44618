"""Lists of codes: all or none, exactly one activation of each whoever else activates, on both engines (spec §§1.3, 1.4)."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from licensesvc.domain.errors import IllegalLicenseState, InvalidCodeListed, InvalidParameter, LicenseNotFound
from licensesvc.domain.instants import DAY
from licensesvc.services.licenses.activate import ActivateAll, activate_all
from licensesvc.services.licenses.heartbeat import HeartbeatAll, heartbeat_all
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.storage import licenses
from tests.services.test_service_activation import activated
from tests.support_edges import change, open_shop, rows
from tests.support_storage import open_at


def activated_all(shop, codes, *, real_effect_time=None, product_id=None):
    command = ActivateAll(
        code_indexes=tuple(code_index(shop.rt, code) for code in codes),
        connection_id=shop.connection.id,
        product_id=product_id,
        calendar=shop.connection.calendar,
        real_effect_time=real_effect_time,
        now=shop.rt.clock(),
        actor="crd_test",
    )
    return shop.rt.db.submit(activate_all, command)


def asked_all(shop, codes):
    command = HeartbeatAll(
        code_indexes=tuple(code_index(shop.rt, code) for code in codes),
        connection_id=shop.connection.id,
        product_id=None,
        now=shop.rt.clock(),
    )
    return shop.rt.db.submit(heartbeat_all, command)


async def sell(shop, count):
    return [await shop.sell_code(f"CS{number}") for number in range(count)]


async def active(rt):
    found = await rt.db.read(lambda tx: tx.all("SELECT license_id FROM license_states WHERE state = 'ACTIVE'"))
    return len(found)


async def traces(rt):
    """Audit events and supervision events: what an activation leaves."""
    return await rows(rt, "audit_events", "supervision_events")


async def test_a_list_enters_service_with_its_cases_and_audit_events(shop):
    codes = await sell(shop, 3)

    assert await activated_all(shop, codes) == 3

    assert await active(shop.rt) == 3
    moved = await shop.rt.db.read(lambda tx: tx.all("SELECT DISTINCT node FROM supervision_cases"))
    assert [row["node"] for row in moved] == ["PROVING"]
    assert (await audit_database(shop.rt)).clean


async def test_one_bad_code_anywhere_leaves_all_as_they_were(shop):
    codes = await sell(shop, 2)
    taken = await shop.sell_code("CS9")
    await activated(shop, taken)
    before = await active(shop.rt), await traces(shop.rt)

    for spoilt, unknown in (("PLNOWHERE", 1), (taken, 0)):
        for position in range(3):
            with pytest.raises(InvalidCodeListed) as refused:
                await activated_all(shop, [*codes[:position], spoilt, *codes[position:]])
            assert refused.value.unknown == unknown
    assert (await active(shop.rt), await traces(shop.rt)) == before


async def test_a_code_in_another_state_spoils_a_list(shop):
    first, second = await sell(shop, 2)

    for state in ("frozen_at = 1", "suspended_at = 1, frozen_at = NULL", "state = 'REVOKED'", "state = 'RELEASED'"):
        await change(shop.rt, f"UPDATE license_states SET {state} WHERE license_id = 1")  # noqa: S608
        with pytest.raises(InvalidCodeListed):
            await activated_all(shop, [second, first])
    assert await active(shop.rt) == 0


async def test_codes_of_another_connection_or_product_spoil_a_list_as_unknown_ones(rt, shop):
    abroad = await open_shop(rt, name="abroad")
    own, foreign = await shop.sell_code(), await abroad.sell_code()

    with pytest.raises(InvalidCodeListed) as refused:
        await activated_all(shop, [own, foreign])
    assert refused.value.unknown == 1
    with pytest.raises(InvalidCodeListed) as refused:
        await activated_all(shop, [own], product_id=shop.product.id + 1)
    assert refused.value.unknown == 1
    assert await active(rt) == 0


async def test_a_start_before_one_of_the_orders_refuses_the_list(shop, clock):
    codes = [
        await shop.sell_code("CS1", order_time=clock.now - 2 * DAY),
        await shop.sell_code("CS2", order_time=clock.now),
    ]

    with pytest.raises(InvalidParameter):
        await activated_all(shop, codes, real_effect_time=clock.now - DAY)
    with pytest.raises(InvalidCodeListed):  # a bad code is told first
        await activated_all(shop, [*codes, "PL0"], real_effect_time=clock.now - DAY)
    assert await active(shop.rt) == 0


async def test_two_codes_of_one_license_are_one_license(shop, clock):
    code = await shop.sell_code()
    other = "PLSECOND"
    await shop.rt.db.write(
        lambda tx: licenses.add_code(
            tx, 1, kind="marketplace", code_index=code_index(shop.rt, other), sealed=b"x", now=clock.now
        )
    )

    assert await activated_all(shop, [code, other, code]) == 1
    assert await rows(shop.rt, "supervision_events") == [2]


async def test_lists_in_one_group_see_what_those_before_them_did(shop):
    codes = await sell(shop, 6)

    answers = await asyncio.gather(
        activated_all(shop, codes[:3]),
        activated_all(shop, codes[2:5]),
        activated_all(shop, codes[3:]),
        return_exceptions=True,
    )

    assert [answer if isinstance(answer, int) else type(answer) for answer in answers] == [3, InvalidCodeListed, 3]
    assert await active(shop.rt) == 6


async def test_a_query_of_a_list_answers_in_its_order_and_records_all_as_seen(shop, clock):
    codes = await sell(shop, 3)
    await activated_all(shop, codes)
    clock.now += DAY

    beats = await asked_all(shop, [codes[2], codes[0], codes[2]])

    assert [(beat.status, beat.license.order_id) for beat in beats] == [
        ("ALIVE", "CS2"),
        ("ALIVE", "CS0"),
        ("ALIVE", "CS2"),
    ]
    seen = await shop.rt.db.read(lambda tx: tx.all("SELECT last_seen_at FROM license_states ORDER BY license_id"))
    assert [row["last_seen_at"] for row in seen] == [clock.now, clock.now - DAY, clock.now]


async def test_a_query_of_a_list_with_a_code_that_has_no_answer_is_refused_whole(shop, clock):
    codes = await sell(shop, 3)
    await activated_all(shop, codes[:2])
    clock.now += DAY

    for listed, unknown in ((codes, 0), ([*codes[:2], "PL0", "PL1"], 2)):
        with pytest.raises(InvalidCodeListed) as refused:
            await asked_all(shop, listed)
        assert refused.value.unknown == unknown
    seen = await shop.rt.db.read(lambda tx: tx.all("SELECT last_seen_at FROM license_states ORDER BY license_id"))
    assert clock.now not in [row["last_seen_at"] for row in seen]


@pytest.fixture
async def nodes(rt, shop, place, engine):
    """The shop as the processes see it that may write: two on PostgreSQL."""
    if engine == "sqlite":
        yield [shop, shop]
        return
    database = await open_at(place, chain="second")
    yield [shop, replace(shop, rt=replace(rt, db=database))]
    await database.close()


async def test_lists_and_single_calls_at_once_activate_each_code_exactly_once(nodes):
    shop = nodes[0]
    codes = await sell(shop, 24)
    calls = []
    for number in range(12):  # overlapping lists, forwards and backwards, and single calls for the same codes
        listed = codes[number : number + 12]
        calls.append(activated_all(nodes[number % 2], listed if number % 3 else listed[::-1]))
        calls.append(activated(nodes[1 - number % 2], codes[2 * number]))

    answers = await asyncio.gather(*calls, return_exceptions=True)

    refusals = {type(answer) for answer in answers if isinstance(answer, Exception)}
    assert refusals <= {InvalidCodeListed, IllegalLicenseState, LicenseNotFound}
    won = sum(answer if isinstance(answer, int) else 1 for answer in answers if not isinstance(answer, Exception))
    assert won == await active(shop.rt)
    events = await shop.rt.db.read(
        lambda tx: tx.all("SELECT subject FROM audit_events WHERE kind = 'license.activated'")
    )
    assert Counter(row["subject"] for row in events).most_common(1)[0][1] == 1
    assert len(events) == won
    assert (await audit_database(shop.rt)).clean


async def test_two_lists_that_share_a_code_have_one_winner(nodes):
    shop = nodes[0]
    for turn in range(8):
        codes = [await shop.sell_code(f"CS{turn}-{number}") for number in range(5)]
        before = await active(shop.rt)

        answers = await asyncio.gather(
            activated_all(nodes[0], codes[:3]), activated_all(nodes[1], codes[2:]), return_exceptions=True
        )

        assert sorted(type(answer).__name__ for answer in answers) == ["InvalidCodeListed", "int"]
        assert await active(shop.rt) == before + 3
