"""order/query row by row through the real application, in both generations (spec §1.6)."""

import json

import msgspec
import pytest

from licensesvc.domain.connection import ErrorTable
from licensesvc.domain.instants import DAY, LAST_INSTANT, PeriodUnit
from licensesvc.domain.order import OrderFacts, OrderType
from licensesvc.domain.policy import Period, Term
from licensesvc.domain.product import DeliveryKind
from licensesvc.marketplace.huawei.orders import order_answer, parse_order_answer
from licensesvc.marketplace.huawei.orders_mock import MOCK_ORDERS
from licensesvc.services.orders.receive_order import receive_line
from licensesvc.services.upkeep.erase_buyer import EraseBuyer, erase_buyer
from licensesvc.storage.credentials import Scope
from licensesvc.storage.orders import Buyer
from tests.support_edges import ACTIVATE, ORDER_QUERY, ask, open_shop, rows, signed_headers
from tests.web.test_compat_rows import BAD_REQUEST, JSON, METHOD


@pytest.fixture
async def seller(edge):
    return await edge.shop.pair(Scope.SELLER)


def told(code, message):
    return b'{"resultCode":"%b","resultMsg":"%b"}' % (code.encode(), message.encode())


INVALID = (400, told("MKT.0101", "Invalid parameter"))
FAILURE = (500, told("MKT.0100", "Failure of input parameter"))
OTHER = (400, told("MKT.0199", "Request parameter error"))
FOREIGN = (401, told("MKT.0150", "Illegal operation"))
NO_SELLER = (401, told("MKT.0151", "No authority"))
TOO_OFTEN = (406, told("MKT.0250", "Access frequency overlimit"))
INTERNAL = (500, told("MKT.0999", "System internal error."))

ROWS = {
    "nothing asked": ("", INVALID),
    "no order": ("orderLineId=CS1-000001", INVALID),
    "an empty order": ("orderId=", INVALID),
    "a surplus parameter": ("orderId=CS1&x=1", INVALID),
    "two surplus parameters": ("orderId=CS1&orderLineId=CS1-000001&x=1", INVALID),
    "a parameter twice": ("orderId=CS1&orderId=CS1", INVALID),
    "another case": ("orderid=CS1", INVALID),
    "too long": (f"orderId={'C' * 65}", FAILURE),
    "a line too long": (f"orderId=CS1&orderLineId={'C' * 65}", FAILURE),
    "a blank": ("orderId=CS%201", FAILURE),
    "NUL": ("orderId=CS1%00", FAILURE),
    "invalid UTF-8": ("orderId=%FF", FAILURE),
    "half a surrogate pair": ("orderId=%ED%A0%80", FAILURE),
    "Chinese": ("orderId=%E4%B8%AD", FAILURE),
    "unknown": ("orderId=CS404", FOREIGN),
    "as long as allowed": (f"orderId={'C' * 64}", FOREIGN),
    "foreign": ("orderId=CSABROAD", FOREIGN),
    "a line of another order": ("orderId=CS1&orderLineId=CS2-000001", OTHER),
    "a line of another order, mock": ("orderId=MOCKONDEMAND&orderLineId=CS1-000001", OTHER),
}


async def test_every_refusal_is_the_row_of_the_table(edge, seller):
    await edge.shop.sell("CS1")
    await (await open_shop(edge.rt, name="abroad")).sell("CSABROAD")
    before = await edge.written()

    for name, (query, expected) in ROWS.items():
        answer = await edge.ask_order(query, pair=seller)
        assert (answer.status, answer.body) == expected, name
        assert answer.header("content-type") == JSON
    assert await edge.written() == before


async def test_a_device_credential_is_no_seller(edge):
    await edge.shop.sell("CS1")

    for order_id in ("CS1", "CS404", "MOCKONDEMAND"):
        answer = await edge.ask_order(f"orderId={order_id}", pair=edge.pair)
        assert (answer.status, answer.body) == NO_SELLER
    assert await rows(edge.rt, "buckets") == [0]


async def test_an_order_is_answered_in_the_observed_form(edge, seller):
    facts = OrderFacts(
        order_id="CS1",
        order_type=OrderType.NEW,
        line_id="CS1-000001",
        order_time=edge.clock.now - DAY,
        marketplace_product_id="OFFI100",
        sku_code="sku-1",
        charging_mode="PERIOD",
        period=Period(unit=PeriodUnit.YEAR, count=1),
        amount=50,
        expiry_order_query=edge.clock.now + 364 * DAY,
    )
    buyer = Buyer(customer_id="cust-1", name="mock_user_01", real_name="测试用户1", mobile="18688888888")
    await edge.rt.db.write(
        lambda tx: receive_line(tx, edge.rt, edge.shop.connection, facts, buyer=buyer, source="test", by="test")
    )

    answer = await edge.ask_order("orderId=CS1&orderLineId=", pair=seller)

    assert (answer.status, answer.header("content-type")) == (200, JSON)
    assert (
        answer.body
        == (
            '{"resultCode":"MKT.0000","resultMsg":"Success","orderInfo":{"orderId":"CS1","orderType":"NEW",'
            '"createTime":"20261117110640","orderLine":[{"orderLineId":"CS1-000001","chargingMode":"PERIOD",'
            '"periodType":"year","periodNumber":1,"expireTime":"20271117110640","productInfo":[{"productId":"OFFI100",'
            '"skuCode":"sku-1","linearValue":50,"productName":"Widget"}],"extendParams":[],"currency":null,'
            '"currencyAfterDiscount":null}],"buyerInfo":{"mobilePhone":"18688888888","email":null,"customerId":"cust-1",'
            '"customerName":"mock_user_01","customerRealName":"测试用户1","customerType":null,"userId":null,'
            '"userName":null},"extendParams":[]}}'
        ).encode()
    )
    assert parse_order_answer(answer.body).order_id == "CS1"


async def test_an_erased_buyer_is_not_told_any_more(edge, seller):
    facts = OrderFacts(order_id="CS1", order_type=OrderType.NEW, marketplace_product_id="OFFI100")
    buyer = Buyer(customer_id="cust-canary", email="canary@example.com")
    await edge.rt.db.write(
        lambda tx: receive_line(tx, edge.rt, edge.shop.connection, facts, buyer=buyer, source="test", by="test")
    )
    public_id = (await edge.rt.db.read(lambda tx: tx.one("SELECT public_id FROM buyers")))["public_id"]
    assert b"canary" in (await edge.ask_order("orderId=CS1", pair=seller)).body

    await edge.rt.db.write(lambda tx: erase_buyer(tx, edge.rt, public_id, EraseBuyer(reason="asked"), by="test"))

    assert (await edge.ask_order("orderId=CS1", pair=seller)).json["orderInfo"]["buyerInfo"] is None


BOUGHT = {
    "told": (Term.PERIOD, {"charging_mode": "ON_DEMAND"}, ("ON_DEMAND", None, None)),
    "our own period": (Term.PERIOD, {}, ("PERIOD", "year", 1)),
    "the order's period": (
        Term.ORDER,
        {"period": Period(unit=PeriodUnit.MONTH, count=3)},
        ("PERIOD", "month", 3),
    ),
    "an end only": (Term.ORDER, {"expiry_order_query": LAST_INSTANT}, ("PERIOD", None, None)),
    "for good": (Term.ORDER, {"presumed_one_time": True}, ("ONE_TIME", None, None)),
    "nothing told": (Term.ORDER, {}, ("ONE_TIME", None, None)),
    "perpetual terms": (Term.PERPETUAL, {"period": Period(unit=PeriodUnit.DAY, count=7)}, ("ONE_TIME", None, None)),
}


async def test_the_mandatory_charging_mode_follows_from_what_was_bought(edge):
    for name, (term, facts, expected) in BOUGHT.items():
        # The marketplace makes the code and we were not told it: no license adds what the order does not say.
        shop = await open_shop(edge.rt, name=name, term=term, kind=DeliveryKind.LICENSE_2_0)
        await shop.sell("CS7", **facts)

        answer = await edge.ask_order("orderId=CS7", pair=await shop.pair(Scope.SELLER))

        line = answer.json["orderInfo"]["orderLine"][0]
        assert (line["chargingMode"], line["periodType"], line["periodNumber"]) == expected, name
        assert (line["expireTime"] is None) == ("expiry_order_query" not in facts)


async def test_lines_are_told_all_or_the_one_that_is_asked_for(edge, seller):
    for line in ("A", "B"):
        await edge.shop.sell("CS1", line_id=line)

    def lines(answer):
        return [line["orderLineId"] for line in answer.json["orderInfo"]["orderLine"]]

    assert lines(await edge.ask_order("orderId=CS1", pair=seller)) == ["A", "B"]
    assert lines(await edge.ask_order("orderLineId=B&orderId=CS1", pair=seller)) == ["B"]


async def test_an_activated_license_ends_when_it_ends(edge, seller):
    code = await edge.shop.sell_code("CS1")
    edge.clock.now += DAY
    activated = await edge.call(ACTIVATE, {"license": code})

    asked = await edge.ask_order("orderId=CS1", pair=seller)

    ends = json.loads(activated.json["data"]["license_code_info"])["expire_time"]
    assert asked.json["orderInfo"]["orderLine"][0]["expireTime"] == ends


async def test_the_nine_mock_orders_are_answered(edge, seller):
    assert len(MOCK_ORDERS) == 9
    for order_id, mock in MOCK_ORDERS.items():
        whole = await edge.ask_order(f"orderId={order_id}", pair=seller)
        line = await edge.ask_order(f"orderId={order_id}&orderLineId={order_id}-000001", pair=seller)
        assert whole.body == line.body == order_answer(mock)


async def test_an_own_order_with_the_name_of_a_mock_is_the_own_one(edge, seller):
    await edge.shop.sell("MOCKONDEMAND")

    answer = await edge.ask_order("orderId=MOCKONDEMAND", pair=seller)

    assert answer.json["orderInfo"]["orderLine"][0]["productInfo"][0]["productId"] == "OFFI100"


async def test_the_older_generation_has_its_own_names_and_prefix(edge):
    shop = await open_shop(edge.rt, name="older", error_table=ErrorTable.OLDER)
    pair = await shop.pair(Scope.SELLER)

    for name, (query, (status, body)) in ROWS.items():
        if "orderId=CS1&" in query and "another order" in name:
            continue
        current = msgspec.json.decode(body)
        expected = b'{"error_code":"%b","error_msg":"%b"}' % (
            current["resultCode"].replace("MKT.", "CBC.").encode(),
            current["resultMsg"].encode(),
        )
        answer = await edge.ask_order(query, pair=pair)
        assert (answer.status, answer.body) == (status, expected), name
    mock = await edge.ask_order("orderId=MOCKPERIODYEARNEW", pair=pair)
    assert mock.body.startswith(b'{"error_code":"CBC.0000","error_msg":"Success","orderInfo":{"orderId":"MOCK')
    assert parse_order_answer(mock.body) == MOCK_ORDERS["MOCKPERIODYEARNEW"]


async def test_too_many_unknown_orders_are_an_overlimit(edge, seller):
    for number in range(60):
        assert (await edge.ask_order(f"orderId=CS{number}", pair=seller)).status == 401

    refused = [await edge.ask_order("orderId=CS61", pair=seller) for _ in range(2)][-1]

    assert (refused.status, refused.body) == TOO_OFTEN
    assert refused.header("retry-after") == "1"


async def test_the_checks_come_in_the_agreed_order(edge, seller):
    """405, body size, signature, then parameters and the order itself; a GET needs no content type."""
    target = f"{ORDER_QUERY}?x=1"
    bad = {"Host": "licenses.example"}

    posted = await ask(edge.app, "POST", target, headers=bad.items(), body=b" " * 70_000)
    assert (posted.body, posted.header("allow")) == (METHOD, "GET")
    assert (await ask(edge.app, "GET", target, headers=bad.items(), body=b" " * 70_000)).body == BAD_REQUEST
    refused = await ask(edge.app, "GET", target, headers=bad.items())
    assert (refused.status, refused.json["error_code"]) == (401, "APIG.0301")
    assert (await edge.ask_order("x=1", pair=edge.pair)).body == INVALID[1]
    assert (await edge.ask_order("orderId=CS1", pair=edge.pair)).body == NO_SELLER[1]
    plain = signed_headers(seller, f"{ORDER_QUERY}?orderId=CS1", b"", edge.clock.now, method="GET")
    del plain["Content-Type"]  # signed, so that leaving it out breaks the signature
    assert (await ask(edge.app, "GET", f"{ORDER_QUERY}?orderId=CS1", headers=plain.items())).status == 401
    assert (await edge.ask_order("orderId=CS1", pair=seller)).body == FOREIGN[1]


async def test_a_database_that_is_away_is_an_internal_error(edge, seller):
    await edge.ask_order("orderId=CS1", pair=seller)  # from now on the credential is in memory
    await edge.rt.db.close()

    answer = await edge.ask_order("orderId=CS1", pair=seller)

    assert (answer.status, answer.body) == INTERNAL
