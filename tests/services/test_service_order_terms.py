"""What an order bought, told in pieces and in any order: facts beat guesses, and lines do not wait for one another (spec §§1.6, 2.2)."""

import pytest

from licensesvc.domain.errors import NotIssuable, OrderConflict
from licensesvc.domain.instants import PeriodUnit, add_period
from licensesvc.domain.license import ExpirySource
from licensesvc.domain.policy import Term
from licensesvc.domain.product import DeliveryKind
from licensesvc.services.catalog.manage_catalog import CreateProduct, create_product
from licensesvc.services.outbox_worker import OutboxWorker
from tests.services.test_service_activation import activated
from tests.services.test_service_orders import Marketplace, ask_for, query
from tests.services.test_service_outbox import item, notify
from tests.support_edges import open_shop, rows

ORDERED = 1_794_999_600_000
"""What `Marketplace` tells as createTime."""
ON_DEMAND = {"chargingMode": "ON_DEMAND", "periodType": None, "periodNumber": None}


async def tell(shop, sources, marketplace):
    """The license code; getLicense tells neither period nor end."""
    for source in sources:
        if source == "getLicense":
            code = (await ask_for(shop)).license
        else:
            await query(shop, marketplace)
    return code


async def end_of(rt):
    row = await rt.db.read(lambda tx: tx.one("SELECT expires_at, expiry_source FROM license_states"))
    return row["expires_at"], row["expiry_source"]


BOTH_WAYS = pytest.mark.parametrize(
    "sources", [("getLicense", "order/query"), ("order/query", "getLicense")], ids=" then ".join
)


@BOTH_WAYS
async def test_a_period_that_order_query_tells_beats_the_guess_of_a_purchase_for_good(rt, clock, sources):
    shop = await open_shop(rt, term=Term.ORDER)

    code = await tell(shop, sources, Marketplace())

    def after_two_years(start):
        return add_period(start, PeriodUnit.YEAR, 2, shop.connection.calendar)

    assert await end_of(rt) == (after_two_years(ORDERED), ExpirySource.SERVICE_PERIOD)
    await activated(shop, code)
    assert await end_of(rt) == (after_two_years(clock.now), ExpirySource.SERVICE_PERIOD)


@BOTH_WAYS
async def test_a_purchase_on_demand_ends_when_order_query_says(rt, sources):
    shop = await open_shop(rt, term=Term.ORDER)

    await tell(shop, sources, Marketplace(**ON_DEMAND, expireTime="20281231235959"))

    assert await end_of(rt) == (1_861_919_999_000, ExpirySource.ORDER_QUERY)


async def test_a_purchase_on_demand_without_an_end_leaves_what_was_delivered_and_says_why(rt):
    shop = await open_shop(rt, term=Term.ORDER)
    delivered = await ask_for(shop)

    with pytest.raises(NotIssuable, match="PERPETUAL"):
        await query(shop, Marketplace(**ON_DEMAND))

    assert await end_of(rt) == (None, ExpirySource.PERPETUAL)
    assert await ask_for(shop) == delivered


@BOTH_WAYS
async def test_a_purchase_for_good_has_no_end(rt, sources):
    shop = await open_shop(rt, term=Term.ORDER)

    await tell(shop, sources, Marketplace(chargingMode="ONE_TIME", periodType=None, periodNumber=None))

    assert await end_of(rt) == (None, ExpirySource.PERPETUAL)


@BOTH_WAYS
@pytest.mark.parametrize("line", [{}, ON_DEMAND], ids=["period", "on demand"])
async def test_the_period_of_a_policy_stays_whatever_the_order_bought(shop, sources, line):
    await tell(shop, sources, Marketplace(**line))

    after_a_year = add_period(ORDERED, PeriodUnit.YEAR, 1, shop.connection.calendar)
    assert await end_of(shop.rt) == (after_a_year, ExpirySource.SERVICE_PERIOD)


@pytest.mark.parametrize("unmapped", [0, 1])
async def test_a_line_that_is_not_mapped_yet_keeps_no_other_back(shop, clock, unmapped):
    marketplace = Marketplace()
    [line] = marketplace.order["orderLine"]
    foreign = {**line, "orderLineId": "CS1-000002", "productInfo": [{"productId": "OFFI200"}]}
    marketplace.order["orderLine"].insert(unmapped, foreign)
    worker = OutboxWorker(shop.rt, marketplace)
    received = ("orders", "order_lines", "supervision_cases", "licenses", "buyers")
    await notify(shop)

    await worker.work_once()

    waiting = await item(shop.rt)
    assert await rows(shop.rt, *received) == [1, 1, 1, 1, 1]
    assert (waiting["done_at"], waiting["given_up_at"]) == (None, None)
    assert "OFFI200" in waiting["last_error"]

    await open_shop(shop.rt, name="cn2", sold="OFFI200", connection=shop.connection)
    clock.now = waiting["due_at"]
    await worker.work_once()

    assert await rows(shop.rt, *received) == [1, 2, 2, 2, 1]
    assert (await item(shop.rt))["done_at"] == clock.now
    await query(shop, marketplace)
    assert await rows(shop.rt, *received) == [1, 2, 2, 2, 1]


async def test_a_sku_told_later_that_maps_to_another_product_is_a_conflict(shop):
    policy = await shop.rt.db.read(lambda tx: tx.one("SELECT public_id FROM policies"))
    wanted = CreateProduct(
        connection=shop.connection.public_id,
        policy=policy["public_id"],
        name="Widget XL",
        marketplace_product_id=shop.product.marketplace_product_id,
        sku_code="XL",
        delivery_kind=DeliveryKind.LICENSE_1_0,
    )
    delivered = await ask_for(shop)
    await shop.rt.db.write(lambda tx: create_product(tx, shop.rt, wanted, by="test"))

    with pytest.raises(OrderConflict, match="sku"):
        await ask_for(shop, sku_code="XL")

    assert await ask_for(shop) == delivered
    assert await rows(shop.rt, "orders", "order_lines", "licenses") == [1, 1, 1]


async def test_a_sku_told_later_that_maps_to_the_same_product_is_learned(shop):
    delivered = await ask_for(shop)

    assert await ask_for(shop, sku_code="XL") == delivered
    line = await shop.rt.db.read(lambda tx: tx.one("SELECT terms FROM order_lines"))
    assert '"sku_code":"XL"' in line["terms"]
