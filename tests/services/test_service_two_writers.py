"""Two writing processes on one PostgreSQL: the rows decide, so neither oversells, no call wins twice and none stands in another's way."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from msgspec import structs

from licensesvc.domain.connection import UnknownCodes
from licensesvc.domain.instants import DAY, SECOND, PeriodUnit, add_period
from licensesvc.domain.license import ExpirySource
from licensesvc.domain.order import OrderFacts, OrderType
from licensesvc.domain.policy import Period, Term
from licensesvc.domain.product import DeliveryKind
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.services.calls.receive_call import receive_call
from licensesvc.services.licenses.activate import activate
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.licenses.seats import take_seat
from licensesvc.services.orders.receive_order import receive_line
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.storage import licenses, postgres
from licensesvc.storage.port import Deadlocked
from tests.services.test_service_activation import activated, activation
from tests.services.test_service_orders import ask_for
from tests.support_edges import open_shop, rows
from tests.support_events import CALLS, CODE, renewal
from tests.support_storage import execute_once, open_at


@pytest.fixture(params=["postgres"])
def engine(request):
    """A SQLite file has one writing process."""
    return request.param


@pytest.fixture
async def elsewhere(place):
    """A shop as another process sees it."""
    database = await open_at(place, chain="second")
    yield lambda shop: replace(shop, rt=replace(shop.rt, db=database))
    await database.close()


@pytest.fixture
async def shops(rt, elsewhere):
    """One shop as two processes see it."""
    shop = await open_shop(rt, seats=10)
    return [shop, elsewhere(shop)]


@pytest.fixture
def deadlocks(monkeypatch):
    """Every deadlock, also those that the writer repeats."""
    seen = []
    translate = postgres._translate

    def watched(error):
        translated = translate(error)
        if isinstance(translated, Deadlocked):
            seen.append(translated)
        return translated

    monkeypatch.setattr(postgres, "_translate", watched)
    return seen


async def outcomes(calls):
    answers = await asyncio.gather(*calls, return_exceptions=True)
    return Counter(type(answer).__name__ if isinstance(answer, Exception) else "ok" for answer in answers)


async def test_one_activation_wins(shops):
    code = await shops[0].sell_code()

    assert await outcomes(activated(shops[n % 2], code) for n in range(400)) == {"ok": 1, "IllegalLicenseState": 399}
    assert (await audit_database(shops[0].rt)).clean


async def test_ten_seats_are_ten(shops):
    code = await shops[0].sell_code()

    counted = await outcomes(take_seat(shops[n % 2].rt, code, f"device {n}") for n in range(200))

    assert counted == {"ok": 10, "NoFreeSeat": 190}
    assert (await audit_database(shops[1].rt)).clean


async def test_many_licenses_at_once_all_start(shops):
    codes = [await shops[0].sell_code(f"CS{n}") for n in range(30)]

    assert await outcomes(activated(shops[n % 2], code) for n, code in enumerate(codes)) == {"ok": 30}
    report = await audit_database(shops[0].rt)
    assert report.clean, report.findings


async def test_activations_and_news_of_the_same_orders_never_wait_in_a_circle(shops, clock, deadlocks):
    orders = [f"CS{n}" for n in range(64)]
    codes = [await shops[0].sell_code(order) for order in orders]
    placed = clock.now - DAY

    starting = [activated(shops[0], code) for code in codes]
    told = [shops[1].sell(order, order_time=placed + n * SECOND) for n, order in enumerate(reversed(orders))]

    assert await outcomes([*starting, *told]) == {"ok": 128}
    assert deadlocks == []
    report = await audit_database(shops[0].rt)
    assert report.clean, report.findings


async def someone_waits_for_a_row(place):
    asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(10):
        while not await execute_once(place, asked):
            pass


@pytest.mark.parametrize("first", ["the news", "the activation"])
async def test_an_activation_and_news_of_its_order_wait_for_each_other(rt, place, elsewhere, clock, deadlocks, first):
    shop = await open_shop(rt, term=Term.ORDER)
    code = await shop.sell_code(expiry_estimate=clock.now + DAY)
    other = elsewhere(shop)
    two_years = Period(unit=PeriodUnit.YEAR, count=2)
    news = OrderFacts(order_id="CS1", order_type=OrderType.NEW, period=two_years)
    holding = asyncio.Event()

    async def learn(tx):
        await receive_line(tx, rt, shop.connection, news, buyer=None, source="test", by="test")
        holding.set()
        await someone_waits_for_a_row(place)

    async def start(tx):
        await licenses.by_codes(tx, [code_index(rt, code)], lock=True)  # what it begins with: the case comes later
        holding.set()
        await someone_waits_for_a_row(place)
        await activate(tx, [activation(shop, code)])

    async with asyncio.timeout(20):
        lead = asyncio.create_task(rt.db.write(learn if first == "the news" else start))
        await holding.wait()
        await (activated(other, code) if first == "the news" else other.sell(period=two_years))
        await lead

    state = await rt.db.read(lambda tx: tx.one("SELECT state, expires_at, expiry_source FROM license_states"))
    ends = add_period(clock.now, PeriodUnit.YEAR, 2, shop.connection.calendar)
    assert tuple(state) == ("ACTIVE", ends, ExpirySource.SERVICE_PERIOD)
    assert deadlocks == []
    assert (await audit_database(rt)).clean


@pytest.mark.parametrize("with_buyer", [True, False])
async def test_a_new_order_that_both_hear_of_at_once_is_one_order(shops, with_buyer):
    def hear(shop, n):
        if with_buyer:
            return ask_for(shop, order_id=f"CS{n}", customer_id=f"cust-{n}", business_id=f"biz-{n}")
        return shop.sell(f"CS{n}")

    for n in range(40):
        assert await outcomes(hear(shop, n) for shop in shops) == {"ok": 2}

    assert await rows(shops[0].rt, "orders", "order_lines", "supervision_cases", "licenses") == [40] * 4
    assert await rows(shops[0].rt, "buyers") == [40 if with_buyer else 0]


@pytest.fixture
async def license_2_0(rt, elsewhere):
    """A license of License 2.0 as two processes see it."""
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0)
    await shop.sell(code=CODE)
    return [shop, elsewhere(shop)]


def called(shop, what, nonce=None):
    return receive_call(shop.rt, shop.connection, what, nonce=nonce, by=shop.connection.public_id, source="callback")


async def test_a_nonce_used_in_one_process_is_used_in_the_other(license_2_0):
    here, there = license_2_0
    what = CALLS["R1"][1]

    await called(here, what, "nonce1")
    with pytest.raises(SignatureRefused, match="used before"):
        await called(there, what, "nonce1")
    counted = await outcomes(called(license_2_0[n % 2], what, f"nonce{n // 8}") for n in range(16, 96))
    assert counted == {"ok": 10, "SignatureRefused": 70}
    assert await rows(here.rt, "license_calls", "nonces") == [1, 11]


@pytest.mark.parametrize("words", ["R1", "R1 R2", "R1 U1", "REFUND", "R1 R2 U1 U2 REFUND"])
async def test_repeats_in_both_processes_have_one_effect_each(license_2_0, deadlocks, words):
    calls = [CALLS[word][1] for word in words.split()]

    counted = await outcomes(
        called(license_2_0[n % 2], calls[n % len(calls)], f"nonce{n}") for n in range(12 * len(calls))
    )

    assert counted.keys() <= {"ok", "InProgress"}
    assert counted["ok"] >= len(calls)
    rt = license_2_0[0].rt
    assert await rows(rt, "license_calls") == [len(calls)]
    events = await rt.db.read(lambda tx: tx.all("SELECT kind FROM audit_events WHERE kind LIKE 'license.re%'"))
    assert len(events) == len(calls)
    assert deadlocks == []
    assert (await audit_database(rt)).clean


async def test_a_code_that_both_learn_at_once_is_one_license(rt, elsewhere):
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0)
    learns = replace(shop, connection=structs.replace(shop.connection, unknown_codes=UnknownCodes.LEARN))
    shops = [learns, elsewhere(learns)]

    for n in range(15):
        what = renewal("CS2701010000AAAAA", 2028, code=f"PL{n}")
        counted = await outcomes(called(shops[turn % 2], what) for turn in range(4))
        assert counted["ok"] >= 3
        assert counted.keys() <= {"ok", "InProgress"}

    assert await rows(rt, "orders", "licenses", "license_calls") == [15] * 3
    assert (await audit_database(rt)).clean
