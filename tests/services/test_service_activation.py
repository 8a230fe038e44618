"""Activation, heartbeat and seats under contention, on both engines (spec §§1.3, 1.4, 6.3; architecture §5)."""

import asyncio
from collections import Counter

import msgspec
import pytest

from licensesvc.domain.errors import (
    ActivationNotFound,
    IllegalLicenseState,
    InvalidParameter,
    LicenseNotActivated,
    LicenseNotFound,
    NoFreeSeat,
)
from licensesvc.domain.instants import DAY, MINUTE, PeriodUnit, add_period
from licensesvc.domain.supervision import Node
from licensesvc.services.licenses.activate import Activate, activate
from licensesvc.services.licenses.heartbeat import Heartbeat, heartbeat
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.licenses.seats import give_back, take_seat
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.storage.port import ConstraintViolated
from tests.support_edges import change, open_shop, rows


def activation(shop, code, *, real_effect_time=None, product_id=None):
    return Activate(
        code_index=code_index(shop.rt, code),
        connection_id=shop.connection.id,
        product_id=product_id,
        calendar=shop.connection.calendar,
        real_effect_time=real_effect_time,
        now=shop.rt.clock(),
        actor="crd_test",
    )


def activated(shop, code, **told):
    return shop.rt.db.submit(activate, activation(shop, code, **told))


def beat(shop, code, *, at=None, connection_id=None):
    command = Heartbeat(
        code_index=code_index(shop.rt, code),
        connection_id=connection_id or shop.connection.id,
        product_id=None,
        now=at or shop.rt.clock(),
    )
    return shop.rt.db.submit(heartbeat, command)


async def outcomes(calls):
    answers = await asyncio.gather(*calls, return_exceptions=True)
    return Counter(type(answer).__name__ if isinstance(answer, Exception) else "ok" for answer in answers)


async def one(rt, sql):
    return await rt.db.read(lambda tx: tx.one(sql))


async def test_activation_starts_service_moves_the_case_and_is_audited(shop, clock):
    code = await shop.sell_code()
    clock.now += DAY

    loaded = await activated(shop, code)

    assert loaded.view.service_start == clock.now
    assert loaded.view.expires_at == add_period(clock.now, PeriodUnit.YEAR, 1, shop.connection.calendar)
    assert (await one(shop.rt, "SELECT node FROM supervision_cases"))["node"] == Node.PROVING
    event = await one(shop.rt, "SELECT actor, subject FROM audit_events WHERE kind = 'license.activated'")
    assert (event["actor"], event["subject"]) == ("crd_test", loaded.view.public_id)
    assert (await audit_database(shop.rt)).clean


async def test_a_stated_start_of_service_counts_instead_of_the_call(shop, clock):
    code = await shop.sell_code(order_time=clock.now - 2 * DAY)

    loaded = await activated(shop, code, real_effect_time=clock.now - DAY)

    assert (loaded.view.activated_at, loaded.view.service_start) == (clock.now, clock.now - DAY)


@pytest.mark.parametrize("offset", [-2 * DAY - 1_000, 5 * MINUTE + 1])
async def test_a_start_before_the_order_or_in_the_future_changes_nothing(shop, clock, offset):
    code = await shop.sell_code(order_time=clock.now - 2 * DAY)

    with pytest.raises(InvalidParameter):
        await activated(shop, code, real_effect_time=clock.now + offset)
    assert (await one(shop.rt, "SELECT state FROM license_states"))["state"] == "ISSUED"


async def test_a_thousand_activations_of_one_code_have_one_winner(shop):
    code = await shop.sell_code()

    counted = await outcomes(activated(shop, code) for _ in range(1_000))

    assert counted == {"ok": 1, "IllegalLicenseState": 999}
    assert await rows(shop.rt, "supervision_events") == [2]
    assert (await audit_database(shop.rt)).clean


async def test_activations_of_many_codes_all_win(shop):
    codes = [await shop.sell_code(f"CS{number}") for number in range(40)]

    assert await outcomes(activated(shop, code) for code in codes) == {"ok": 40}
    assert (await audit_database(shop.rt)).clean


async def test_two_hundred_clients_on_ten_seats_get_exactly_ten(shop):
    code = await shop.sell_code()

    counted = await outcomes(take_seat(shop.rt, code, f"device {number}") for number in range(200))

    assert counted == {"ok": 10, "NoFreeSeat": 190}
    assert (await one(shop.rt, "SELECT seats_taken FROM license_states"))["seats_taken"] == 10
    assert await rows(shop.rt, "activations") == [10]
    assert (await audit_database(shop.rt)).clean


async def test_one_fingerprint_takes_one_seat_however_often_it_asks(shop):
    code = await shop.sell_code()

    seats = await asyncio.gather(*(take_seat(shop.rt, code, "device") for _ in range(50)))

    assert len({seat.activation_id for seat in seats}) == 1
    assert sum(seat.is_new for seat in seats) == 1
    assert {seat.seats_taken for seat in seats} == {1}


async def test_a_seat_given_back_can_be_taken_again(rt):
    shop = await open_shop(rt, seats=1)
    code = await shop.sell_code()
    first = await take_seat(rt, code, "one")
    with pytest.raises(NoFreeSeat):
        await take_seat(rt, code, "two")

    await asyncio.gather(*(give_back(rt, first.activation_id) for _ in range(5)))

    assert (await take_seat(rt, code, "two")).is_new
    with pytest.raises(NoFreeSeat):
        await take_seat(rt, code, "one")
    assert (await audit_database(rt)).clean


async def test_a_returning_device_gets_a_seat_of_a_new_id(shop):
    code = await shop.sell_code()
    first = await take_seat(shop.rt, code, "device")
    await give_back(shop.rt, first.activation_id)

    assert (await take_seat(shop.rt, code, "device")).activation_id != first.activation_id


async def test_giving_back_what_nobody_took_is_refused(rt):
    with pytest.raises(ActivationNotFound):
        await give_back(rt, "act_unknown")


async def test_the_amount_of_the_order_sells_the_seats(rt):
    shop = await open_shop(rt)
    code = await shop.sell_code(amount=3)

    counted = await outcomes(take_seat(rt, code, f"device {number}") for number in range(5))

    assert counted == {"ok": 3, "NoFreeSeat": 2}


async def test_the_first_seat_starts_the_service_and_the_compatible_door_takes_none(shop):
    by_seat, by_call = await shop.sell_code("CS1"), await shop.sell_code("CS2")

    await take_seat(shop.rt, by_seat, "device")
    await activated(shop, by_call)

    taken = await shop.rt.db.read(
        lambda tx: tx.all("SELECT state, seats_taken FROM license_states ORDER BY license_id")
    )
    assert [tuple(row) for row in taken] == [("ACTIVE", 1), ("ACTIVE", 0)]
    with pytest.raises(IllegalLicenseState):
        await activated(shop, by_seat)


async def test_both_doors_at_once_put_a_license_into_service_once(shop):
    code = await shop.sell_code()
    doors = (activated(shop, code) if number % 2 else take_seat(shop.rt, code, f"d{number}") for number in range(12))

    counted = await outcomes(doors)

    assert counted["ok"] in {6, 7}
    assert (await one(shop.rt, "SELECT COUNT(*) AS n FROM audit_events WHERE kind = 'license.activated'"))["n"] == 1
    assert (await audit_database(shop.rt)).clean


async def test_one_command_that_violates_a_check_fails_alone(shop):
    codes = [await shop.sell_code(f"CS{number}") for number in range(64)]

    async def planted(tx, commands):
        results = await activate(tx, commands)
        if any(command.code_index == code_index(shop.rt, codes[31]) for command in commands):
            await tx.run("UPDATE license_states SET seats_taken = seats + 1 WHERE seats_taken = 0")
        return results

    counted = await outcomes(shop.rt.db.submit(planted, activation(shop, code)) for code in codes)

    assert counted == {"ok": 63, ConstraintViolated.__name__: 1}
    active = await one(shop.rt, "SELECT COUNT(*) AS n FROM license_states WHERE state = 'ACTIVE'")
    assert active["n"] == 63
    assert (await audit_database(shop.rt)).clean


async def test_a_license_of_another_connection_or_product_is_unknown(shop):
    code = await shop.sell_code()
    other = await open_shop(shop.rt, name="intl")

    with pytest.raises(LicenseNotFound):
        await activated(other, code)
    with pytest.raises(LicenseNotFound):
        await activated(shop, code, product_id=other.product.id)
    with pytest.raises(LicenseNotFound):
        await beat(shop, code, connection_id=other.connection.id)


async def test_heartbeats_tell_the_status_and_are_remembered_never_backwards(shop, clock):
    code = await shop.sell_code()
    with pytest.raises(LicenseNotActivated):
        await beat(shop, code)
    await activated(shop, code)

    answers = await asyncio.gather(*(beat(shop, code, at=clock.now + offset) for offset in (5_000, 9_000, 2_000)))

    assert {answer.status for answer in answers} == {"ALIVE"}
    assert (await one(shop.rt, "SELECT last_seen_at FROM license_states"))["last_seen_at"] == clock.now + 9_000
    assert (await beat(shop, code, at=clock.now + 366 * DAY)).status == "EXPIRED"


@pytest.mark.parametrize(
    ("column", "status"), [("frozen_at", "EXPIRED"), ("suspended_at", "EXPIRED"), ("state", "RELEASED")]
)
async def test_what_holds_a_license_up_is_told_in_the_marketplaces_words(shop, clock, column, status):
    code = await shop.sell_code()
    await activated(shop, code)
    if column == "state":
        await change(shop.rt, "UPDATE license_states SET state = 'REVOKED'")
    else:
        await change(shop.rt, f"UPDATE license_states SET {column} = $1", clock.now)  # noqa: S608

    assert (await beat(shop, code)).status == status
    with pytest.raises(IllegalLicenseState):
        await activated(shop, code)


async def test_a_query_finds_licenses_by_code_and_by_instance_in_one_batch(shop):
    by_code, other = await shop.sell_code("CS1"), await shop.sell_code("CS2", instance_id="biz-2")
    await activated(shop, by_code)
    await activated(shop, other)

    def asked(named, **more):
        told = Heartbeat(
            code_index=code_index(shop.rt, named),
            connection_id=shop.connection.id,
            product_id=None,
            now=shop.rt.clock(),
            named=named,
        )
        assert named not in repr(told)
        return shop.rt.db.submit(heartbeat, msgspec.structs.replace(told, **more))

    answers = await asyncio.gather(
        asked(by_code), asked("biz-2"), asked("biz-3"), asked("biz-2", connection_id=99), return_exceptions=True
    )

    assert [answer.license.order_id for answer in answers[:2]] == ["CS1", "CS2"]
    assert [type(answer) for answer in answers[2:]] == [LicenseNotFound, LicenseNotFound]
