"""An order becomes one line, one case and one license, whoever tells of it, however often (spec §§1.6, 2.2, 2.5)."""

import asyncio
import base64
import json
from typing import NamedTuple
from urllib.parse import quote

import pytest

from licensesvc.domain.errors import NotIssuable, OrderConflict, ProductNotMapped
from licensesvc.domain.license import ExpirySource
from licensesvc.domain.order import OrderType
from licensesvc.domain.policy import LicenseField, Term
from licensesvc.domain.product import DeliveryKind
from licensesvc.domain.supervision import FlowName, Node
from licensesvc.marketplace.huawei.callbacks import GetLicense
from licensesvc.marketplace.huawei.orders import OrderInfo, parse_order_answer
from licensesvc.services.calls.receive_call import receive_call
from licensesvc.services.catalog.marketplace_account import CannotAsk
from licensesvc.services.orders.notify_order import OrderQuery
from licensesvc.services.orders.query_order import query_order
from tests.support_edges import change, open_shop, rows

EVERYTHING = ("orders", "order_lines", "supervision_cases", "licenses", "license_codes", "buyers")


class Delivered(NamedTuple):
    license: str
    instance_id: str


async def ask_for(shop, **changes):
    fields = {
        "customer_id": "cust-1",
        "customer_name": None,
        "business_id": "biz-1",
        "order_id": "CS1",
        "sku_code": None,
        "product_id": shop.product.marketplace_product_id,
        "expire_time": None,
        "period_type": None,
        "period_number": None,
        "amount": None,
        "saas_extend_params": None,
        "test": False,
        **changes,
    }
    call = GetLicense(**fields)
    received = await receive_call(shop.rt, shop.connection, call, nonce=None, by="test", source="test")
    answer = json.loads(received.body)
    return Delivered(answer["license"], answer["instanceId"])


class Marketplace:
    """Answers order/query; counts the calls."""

    def __init__(self, order_id="CS1", order_type="NEW", product="OFFI100", **line):
        self.calls = 0
        details = {
            "orderLineId": f"{order_id}-000001",
            "chargingMode": "PERIOD",
            "periodType": "year",
            "periodNumber": 2,
            "productInfo": [{"productId": product, "linearValue": 7}],
            **line,
        }
        self.order = {
            "orderId": order_id,
            "orderType": order_type,
            "createTime": "20261118110000",
            "orderLine": [details],
            "buyerInfo": {"customerId": "cust-1", "customerName": "ACME"},
        }

    async def order_query(self, _account, _order_id, _line_id, _now) -> OrderInfo:
        self.calls += 1
        return parse_order_answer(json.dumps({"resultCode": "MKT.0000", "orderInfo": self.order}).encode())


def query(shop, marketplace):
    wanted = OrderQuery(connection=shop.connection.public_id, order_id=marketplace.order["orderId"], order_line_id=None)
    return query_order(shop.rt, marketplace, wanted)


@pytest.mark.parametrize(
    ("kind", "flow", "licenses"),
    [
        (DeliveryKind.LICENSE_1_0, FlowName.SELLER_CODE, 1),
        (DeliveryKind.ONLINE_LICENSE, FlowName.SELLER_CODE, 1),
        (DeliveryKind.GENERAL, FlowName.SELLER_DELIVERY, 1),
        (DeliveryKind.SOFTWARE_PACKAGE, FlowName.SOFTWARE_PACKAGE, 1),
        (DeliveryKind.SAAS_HUMAN, FlowName.SAAS_HUMAN, 0),
        (DeliveryKind.HARDWARE, FlowName.HARDWARE, 0),
        (DeliveryKind.LICENSE_2_0, FlowName.LICENSE_2_0_2025_04, 0),
    ],
)
async def test_a_new_order_gets_a_case_and_where_we_make_the_code_a_license(rt, kind, flow, licenses):
    shop = await open_shop(rt, kind=kind)

    received = await shop.sell()

    assert received.case is not None
    assert (received.case.flow, received.case.node) == (flow, Node.DELIVERING)
    assert received.line.line_id == "CS1-000001"
    assert await rows(rt, *EVERYTHING) == [1, 1, 1, licenses, licenses, 0]


async def test_a_code_of_the_marketplace_is_learned_with_its_order(rt):
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0)

    assert await shop.sell_code(code="PLabc123") == "PLabc123"
    assert (await rt.db.read(lambda tx: tx.one("SELECT kind FROM license_codes")))["kind"] == "marketplace"


@pytest.mark.parametrize("order_type", [OrderType.RENEW, OrderType.CHANGE, OrderType.TRIAL_TO_FORMAL])
async def test_changes_of_an_order_are_linked_without_case_or_license(shop, order_type):
    received = await shop.sell("CS2", order_type)

    assert (received.case, received.license) == (None, None)
    assert await rows(shop.rt, *EVERYTHING) == [1, 1, 0, 0, 0, 0]


async def test_an_unsubscription_is_never_issued_a_license(shop):
    await shop.sell("CS3", OrderType.UNSUBSCRIBE)

    with pytest.raises(NotIssuable):
        await ask_for(shop, order_id="CS3")
    assert await rows(shop.rt, "licenses", "supervision_cases") == [0, 0]


async def test_an_unmapped_product_leaves_nothing_and_works_once_it_is_mapped(shop):
    with pytest.raises(ProductNotMapped, match="OFFI200"):
        await ask_for(shop, product_id="OFFI200")
    assert await rows(shop.rt, *EVERYTHING) == [0] * 6

    await open_shop(shop.rt, name="cn2", sold="OFFI200", connection=shop.connection)
    assert (await ask_for(shop, product_id="OFFI200")).instance_id == "biz-1"


@pytest.mark.parametrize("first", ["getLicense", "order/query"])
async def test_both_sources_meet_in_one_order(shop, first):
    marketplace = Marketplace()
    if first == "getLicense":
        answer = await ask_for(shop)
        await query(shop, marketplace)
    else:
        await query(shop, marketplace)
        answer = await ask_for(shop)

    assert await rows(shop.rt, *EVERYTHING) == [1, 1, 1, 1, 1, 1]
    assert await ask_for(shop, business_id="biz-2") == answer
    stored = await shop.rt.db.read(lambda tx: tx.one("SELECT amount, order_time FROM licenses"))
    assert (stored["amount"], stored["order_time"]) == (7, 1_794_999_600_000)
    events = await shop.rt.db.read(lambda tx: tx.all("SELECT kind FROM audit_events WHERE kind LIKE 'license.%'"))
    assert ("license.terms_learned" in [row["kind"] for row in events]) == (first == "getLicense")


async def test_sixty_calls_at_once_make_one_license_and_one_answer(shop):
    calls = (ask_for(shop, business_id=f"biz-{number}") for number in range(60))

    answers = {(delivered.license, delivered.instance_id) for delivered in await asyncio.gather(*calls)}

    assert len(answers) == 1
    assert await rows(shop.rt, *EVERYTHING) == [1, 1, 1, 1, 1, 1]


async def test_an_instance_id_that_another_order_bears_gives_one_that_stays(shop):
    await ask_for(shop, order_id="CS1", business_id="biz-1")
    first = await ask_for(shop, order_id="CS2", business_id="biz-1")

    again = await ask_for(shop, order_id="CS2", business_id="biz-2")

    assert first.instance_id != "biz-1"
    assert again == first


async def test_the_delivered_document_stays_when_facts_change(rt):
    shop = await open_shop(rt, license_field=LicenseField.DOCUMENT)
    answer = await ask_for(shop)
    await query(shop, Marketplace(expireTime="20281231235959"))

    assert await ask_for(shop) == answer
    assert answer.license.startswith("eyJ")


def device(code):
    return base64.b64encode(quote(f'[{{"name":"identificationCode","value":"{code}"}}]').encode()).decode()


def claims(document):
    part = document.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


@pytest.mark.parametrize("known", [False, True], ids=["getLicense first", "order/query first"])
async def test_the_delivered_document_names_the_device_of_the_order_and_stays(rt, known):
    shop = await open_shop(rt, license_field=LicenseField.DOCUMENT)
    if known:
        await query(shop, Marketplace())

    answer = await ask_for(shop, saas_extend_params=device("HW-1"))

    assert claims(answer.license)["identification_code"] == "HW-1"
    await query(shop, Marketplace(expireTime="20281231235959"))
    for told in (device("HW-1"), device("HW-2"), None):
        assert await ask_for(shop, saas_extend_params=told) == answer


async def test_a_device_that_a_repeat_tells_first_does_not_change_what_was_delivered(rt):
    shop = await open_shop(rt, license_field=LicenseField.DOCUMENT)
    answer = await ask_for(shop)

    assert await ask_for(shop, saas_extend_params=device("HW-1")) == answer
    assert "identification_code" not in claims(answer.license)


async def test_answering_getlicense_is_the_delivery(shop):
    await ask_for(shop)

    row = await shop.rt.db.read(lambda tx: tx.one("SELECT node FROM supervision_cases"))
    assert row["node"] == Node.ACTIVATING


async def test_an_order_line_never_changes_its_product(shop):
    await ask_for(shop)
    await open_shop(shop.rt, name="cn2", sold="OFFI200", connection=shop.connection)

    with pytest.raises(OrderConflict):
        await ask_for(shop, product_id="OFFI200")


async def test_a_license_whose_end_nobody_tells_is_not_issued(rt):
    shop = await open_shop(rt, term=Term.ORDER)

    with pytest.raises(NotIssuable):
        await shop.sell()
    assert await rows(rt, *EVERYTHING) == [0] * 6


@pytest.mark.parametrize(
    ("told", "source"),
    [
        ({}, ExpirySource.PERPETUAL),
        ({"expire_time": "20271118110640"}, ExpirySource.ESTIMATE),
        ({"period_type": "year", "period_number": 1}, ExpirySource.SERVICE_PERIOD),
        ({"period_type": "MONTH", "period_number": 3, "expire_time": "20270218110640"}, ExpirySource.SERVICE_PERIOD),
    ],
)
async def test_the_terms_of_an_order_decide_when_its_license_ends(rt, told, source):
    shop = await open_shop(rt, term=Term.ORDER)

    await ask_for(shop, **told)

    row = await rt.db.read(lambda tx: tx.one("SELECT expiry_source FROM license_states"))
    assert row["expiry_source"] == source


async def test_every_query_is_kept_as_a_message_also_when_it_cannot_be_made(shop):
    await query(shop, Marketplace())
    await change(shop.rt, "UPDATE connections SET api_secret = NULL")
    with pytest.raises(CannotAsk):
        await query(shop, Marketplace())

    kept = await shop.rt.db.read(lambda tx: tx.all("SELECT outcome, request, detail FROM messages ORDER BY id"))
    assert [row["outcome"] for row in kept] == ["ok", "CannotAsk"]
    assert all("ACME" not in str(tuple(row)) for row in kept)


async def test_the_order_type_that_order_query_tells_corrects_what_getlicense_left_open(shop):
    await ask_for(shop)
    await query(shop, Marketplace(order_type="TRIAL"))

    assert (await shop.rt.db.read(lambda tx: tx.one("SELECT order_type FROM orders")))["order_type"] == "TRIAL"
