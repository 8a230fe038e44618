"""Codes learned from the marketplace's own calls, and what happens when their orders are told later; on both engines (spec §§2.1, 2.5)."""

import asyncio
import json
from dataclasses import replace

import pytest
from msgspec import structs

from licensesvc.domain.connection import UnknownCodes
from licensesvc.domain.errors import LicenseNotFound, NotIssuable, OrderConflict
from licensesvc.domain.instants import DAY, PeriodUnit, rfc3339
from licensesvc.domain.license import LicenseState
from licensesvc.domain.marketplace_calls import Scene
from licensesvc.domain.order import OrderType
from licensesvc.domain.policy import Period, Term
from licensesvc.domain.product import DeliveryKind
from licensesvc.domain.supervision import Node
from licensesvc.marketplace.huawei.callbacks import Status
from licensesvc.services.calls.receive_call import receive_call
from licensesvc.services.licenses.seats import take_seat
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.storage import licenses
from tests.services.test_service_activation import activated, beat
from tests.services.test_service_import import HEAD, brought, facts
from tests.services.test_service_orders import Marketplace, query
from tests.support_edges import change, open_shop, rows
from tests.support_events import CODE, release, renewal, status

ENDS = "2028-11-18T11:06:40.000Z"


async def learning(rt, **options):
    """A shop of License 2.0 that learns."""
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0, **options)
    await change(rt, "UPDATE connections SET unknown_codes = 'learn' WHERE id = $1", shop.connection.id)
    return replace(shop, connection=structs.replace(shop.connection, unknown_codes=UnknownCodes.LEARN))


@pytest.fixture
async def shop(rt):
    return await learning(rt)


def call(shop, what):
    return receive_call(shop.rt, shop.connection, what, nonce=None, by=shop.connection.public_id, source="callback")


async def only(rt):
    everything = await rt.db.read(lambda tx: licenses.page(tx, after=0, limit=9))
    assert len(everything) == 1
    return everything[0]


async def sources_of(rt):
    return [
        tuple(row) for row in await rt.db.read(lambda tx: tx.all("SELECT order_id, source FROM orders ORDER BY id"))
    ]


REFRESH = renewal("CS2701010000AAAAA", 2028)
EVERY_CALL = [REFRESH, status(Status.FREEZE), status(Status.UNFREEZE), release(), release("CS9")]


@pytest.mark.parametrize("what", EVERY_CALL, ids=repr)
async def test_a_call_of_the_marketplace_makes_the_license_of_an_unknown_code(shop, what):
    await call(shop, what)

    loaded = await only(shop.rt)
    assert (loaded.view.connection_id, loaded.view.product_id) == (shop.connection.id, shop.product.id)
    assert loaded.order_id.startswith("LEARNED-")
    assert CODE not in loaded.order_id
    assert await rows(shop.rt, "orders", "order_lines", "licenses", "license_codes") == [1, 1, 1, 1]
    assert await rows(shop.rt, "supervision_cases", "buyers", "outbox") == [0, 0, 0]
    kinds = await shop.rt.db.read(lambda tx: tx.one("SELECT kind FROM license_codes"))
    assert kinds["kind"] == "marketplace"
    await call(shop, what)
    assert await rows(shop.rt, "orders", "licenses") == [1, 1]
    assert (await audit_database(shop.rt)).clean


async def test_without_the_setting_it_is_refused(rt):
    refusing = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0)

    for what in EVERY_CALL:
        with pytest.raises(LicenseNotFound):
            await call(refusing, what)
    assert await rows(rt, "orders", "licenses", "license_calls") == [0, 0, 0]


@pytest.mark.parametrize("term", [Term.PERIOD, Term.ORDER, Term.PERPETUAL])
async def test_it_is_learned_whatever_the_terms_of_its_product(rt, term):
    shop = await learning(rt, term=term)

    for number, what in enumerate(EVERY_CALL):
        await call(shop, structs.replace(what, license=f"PL{number}"))

    frozen = await rt.db.read(lambda tx: tx.all("SELECT frozen_at FROM license_states ORDER BY license_id"))
    assert [row["frozen_at"] for row in frozen] == [None, rt.clock(), None, None, None]


@pytest.mark.parametrize(
    ("products", "named", "learned"),
    [
        ([("OFFI100", DeliveryKind.LICENSE_2_0)], None, "OFFI100"),
        ([("OFFI100", DeliveryKind.LICENSE_2_0)], "OFFI100", "OFFI100"),
        ([("OFFI100", DeliveryKind.LICENSE_2_0)], "OFFI999", None),
        ([("OFFI100", DeliveryKind.LICENSE_2_0), ("OFFI200", DeliveryKind.LICENSE_2_0)], None, None),
        ([("OFFI100", DeliveryKind.LICENSE_2_0), ("OFFI200", DeliveryKind.LICENSE_2_0)], "OFFI200", "OFFI200"),
        ([("OFFI100", DeliveryKind.LICENSE_1_0), ("OFFI200", DeliveryKind.LICENSE_2_0)], None, "OFFI200"),
        ([("OFFI100", DeliveryKind.LICENSE_1_0), ("OFFI200", DeliveryKind.LICENSE_2_0)], "OFFI100", None),
        ([("OFFI100", DeliveryKind.GENERAL)], None, None),
    ],
)
async def test_the_product_is_the_one_named_or_the_only_one(rt, products, named, learned):
    (sold, kind), *more = products
    shop = await open_shop(rt, sold=sold, kind=kind)
    for other, other_kind in more:
        await open_shop(rt, name=other, sold=other, kind=other_kind, connection=shop.connection)
    shop = replace(shop, connection=structs.replace(shop.connection, unknown_codes=UnknownCodes.LEARN))
    what = structs.replace(REFRESH, product_id=named)

    if learned is None:
        with pytest.raises(LicenseNotFound):
            await call(shop, what)
        assert await rows(rt, "orders", "licenses") == [0, 0]
    else:
        await call(shop, what)
        assert (await only(rt)).marketplace_product_id == learned


async def test_codes_of_our_form_or_of_no_form_are_not_learned(shop):
    for code in ("LS-" + "-".join(["0000A"] * 5), "PL 1", "PL中", "PL\x7f"):
        with pytest.raises(LicenseNotFound):
            await call(shop, structs.replace(REFRESH, license=code))
    assert await rows(shop.rt, "orders", "licenses") == [0, 0]


async def test_software_never_teaches_a_code(shop):
    for attempt in (activated(shop, CODE), beat(shop, CODE), take_seat(shop.rt, CODE, "device 1")):
        with pytest.raises(LicenseNotFound):
            await attempt
    assert await rows(shop.rt, "orders", "licenses", "license_codes") == [0, 0, 0]


async def test_the_same_code_at_once_is_one_license(shop):
    calls = [REFRESH, release("CS9"), status(Status.UNFREEZE)] * 7

    await asyncio.gather(*(call(shop, what) for what in calls))

    assert (await only(shop.rt)).view.state is LicenseState.RELEASED
    assert await rows(shop.rt, "orders", "license_calls") == [1, 2]


async def test_the_order_that_comes_later_takes_the_license_over(shop, clock):
    await call(shop, REFRESH)
    learned = await only(shop.rt)
    ordered = clock.now - 30 * DAY

    received = await shop.sell(code=CODE, order_time=ordered, amount=5)

    loaded = await only(shop.rt)
    assert loaded.view.public_id == learned.view.public_id == received.license.view.public_id
    assert (loaded.order_id, loaded.amount, loaded.view.seats, loaded.view.order_time) == ("CS1", 5, 5, ordered)
    assert rfc3339(loaded.view.expires_at) == ENDS
    assert (received.case.node, loaded.line_ref) == (Node.DELIVERING, received.line.id)
    assert await sources_of(shop.rt) == [("CS1", "test")]
    assert await rows(shop.rt, "order_lines", "supervision_cases") == [1, 1]
    told = await shop.rt.db.read(lambda tx: tx.one("SELECT * FROM audit_events WHERE kind = 'license.order_known'"))
    assert (told["subject"], json.loads(told["detail"])["order"]) == (loaded.view.public_id, "CS1")
    version = loaded.view.version
    await shop.sell(code=CODE, order_time=ordered, amount=5)
    assert (await only(shop.rt)).view.version == version
    await activated(shop, CODE)
    assert rfc3339((await beat(shop, CODE)).license.view.expires_at) == ENDS
    assert (await audit_database(shop.rt)).clean


async def test_the_order_first_then_the_call_then_the_code(shop):
    """order/query names no code: the order stands without a license until somebody tells both together."""
    await query(shop, Marketplace())
    await call(shop, status(Status.FREEZE))
    assert await rows(shop.rt, "orders", "supervision_cases", "licenses") == [2, 1, 1]
    await query(shop, Marketplace())
    assert (await only(shop.rt)).order_id.startswith("LEARNED-")

    received = await shop.sell(code=CODE)

    loaded = await only(shop.rt)
    assert (loaded.order_id, loaded.amount, loaded.view.frozen_at) == ("CS1", 7, shop.rt.clock())
    assert await rows(shop.rt, "orders", "supervision_cases", "licenses") == [1, 1, 1]
    assert received.case.id == 1
    await query(shop, Marketplace())
    assert await rows(shop.rt, "orders", "licenses") == [1, 1]


async def test_what_software_did_meanwhile_stays_and_moves_the_case(shop, clock):
    await call(shop, status(Status.UNFREEZE))
    await activated(shop, CODE)
    started = clock.now
    await take_seat(shop.rt, CODE, "device 1")
    clock.now += 10 * DAY

    received = await shop.sell(code=CODE, order_time=started - DAY)

    loaded = await only(shop.rt)
    assert (loaded.view.state, loaded.view.service_start, loaded.view.seats_taken) == ("ACTIVE", started, 1)
    assert received.case.node == Node.PROVING
    assert (await audit_database(shop.rt)).clean


async def test_a_released_license_stays_released(shop):
    await call(shop, release("CS9"))

    await shop.sell(code=CODE)

    assert (await only(shop.rt)).view.state is LicenseState.RELEASED
    assert (await audit_database(shop.rt)).clean


async def test_a_second_line_of_a_known_order_takes_it(shop):
    await shop.sell(code="PLOTHER")
    await call(shop, REFRESH)

    await shop.sell(code=CODE, line_id="CS1-000002")

    codes = await shop.rt.db.read(lambda tx: tx.all("SELECT order_id FROM licenses ORDER BY id"))
    assert [row["order_id"] for row in codes] == ["CS1", "CS1"]
    assert await sources_of(shop.rt) == [("CS1", "test")]


async def test_it_belongs_to_one_order_for_good(shop):
    await call(shop, REFRESH)
    await shop.sell("CS1", code=CODE)

    for order_id in ("CS2", "CS1"):
        with pytest.raises(Exception, match=r"another code|unique") as refused:
            await shop.sell(order_id, code=CODE if order_id == "CS2" else "PLOTHER")
        assert order_id == "CS2" or refused.type is OrderConflict
    assert (await only(shop.rt)).order_id == "CS1"


async def test_a_line_that_has_a_license_does_not_take_another(shop):
    await shop.sell(code="PLOTHER")
    await call(shop, REFRESH)

    with pytest.raises(OrderConflict):
        await shop.sell(code=CODE)
    assert await rows(shop.rt, "orders", "licenses") == [2, 2]


@pytest.mark.parametrize("order_type", [OrderType.RENEW, OrderType.CHANGE, OrderType.UNSUBSCRIBE])
async def test_only_an_order_that_buys_takes_it(shop, order_type):
    await call(shop, REFRESH)

    received = await shop.sell("CS5", order_type, code=CODE)

    assert received.license is None
    assert (await only(shop.rt)).order_id.startswith("LEARNED-")


async def test_an_order_for_another_product_brings_its_product_and_terms(rt):
    shop = await learning(rt, seats=2)
    yearly = await open_shop(
        rt, name="two", sold="OFFI200", kind=DeliveryKind.LICENSE_2_0, connection=shop.connection, seats=9
    )
    yearly = replace(yearly, connection=shop.connection)
    await call(shop, structs.replace(REFRESH, product_id="OFFI100"))

    await yearly.sell(code=CODE)

    loaded = await only(rt)
    assert (loaded.view.product_id, loaded.view.seats) == (yearly.product.id, 9)
    assert loaded.marketplace_product_id == "OFFI100"  # the renewal is the later word
    assert (await rt.db.read(lambda tx: licenses.policy_of(tx, loaded.view.id))).seats == 9


async def test_an_order_without_an_end_waits_until_somebody_tells_one(rt):
    shop = await learning(rt, term=Term.ORDER)
    await call(shop, status(Status.UNFREEZE))

    with pytest.raises(NotIssuable):
        await shop.sell(code=CODE)
    assert (await only(rt)).order_id.startswith("LEARNED-")
    await shop.sell(code=CODE, period=Period(unit=PeriodUnit.YEAR, count=1))
    assert (await only(rt)).order_id == "CS1"


async def test_the_stand_in_of_another_connection_is_not_touched(shop):
    await call(shop, REFRESH)
    other = await open_shop(shop.rt, name="other", kind=DeliveryKind.LICENSE_2_0)

    with pytest.raises(Exception, match="unique"):
        await other.sell(code=CODE)
    assert (await only(shop.rt)).view.connection_id == shop.connection.id


async def test_a_refund_of_a_learned_renewal_needs_no_order(shop):
    await call(shop, REFRESH)
    await call(shop, renewal("CS2702010000CCCCC", 2027, Scene.UNSUBSCRIBE_RENEWAL_PERIOD))

    assert rfc3339((await only(shop.rt)).view.expires_at) == "2027-11-18T11:06:40.000Z"


@pytest.mark.parametrize("known", [False, True], ids=["new order", "order/query told it"])
async def test_a_csv_file_brings_the_orders_of_learned_codes(shop, known):
    await call(shop, REFRESH)
    if known:
        await query(shop, Marketplace())
    text = (
        f"{HEAD},license_code,service_start,order_time\nCS1,OFFI100,{CODE},2026-11-18T11:03:00Z,2026-11-18T11:00:00Z\n"
    )

    tried = await brought(shop, text, dry_run=True)
    assert (await only(shop.rt)).order_id.startswith("LEARNED-")
    done, again = await brought(shop, text), await brought(shop, text)

    assert (tried.bad, done.bad, facts(again)) == (0, 0, (0, 1, 0, True))
    loaded = await only(shop.rt)
    assert (loaded.order_id, loaded.view.state) == ("CS1", LicenseState.ACTIVE)
    assert rfc3339(loaded.view.expires_at) == ENDS
    assert await rows(shop.rt, "orders", "supervision_cases") == [1, 1]
    assert (await audit_database(shop.rt)).clean
