"""Personal data: it lies in one table, `erase` empties it, and what proves a license stays and stays the same."""

from urllib.parse import urlencode

import httpx2
import pytest

from licensesvc.app import create_app, open_runtime
from licensesvc.domain.order import OrderFacts, OrderType
from licensesvc.marketplace.huawei.signature_v1 import auth_token
from licensesvc.services.catalog.manage_connections import ChangeConnection, change_connection
from licensesvc.services.orders.receive_order import receive_line
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.services.upkeep.erase_buyer import EraseBuyer, erase_buyer
from licensesvc.settings import Settings
from licensesvc.storage import buyers, connections
from licensesvc.storage.orders import Buyer
from licensesvc.storage.tables import pages, tables
from tests.support_stock import SOLD, make_stock
from tests.support_web import started

KEY = "callback-key"
PERSON = {
    name: f"canary-{name}"
    for name in ("customerId", "customerName", "customerRealName", "userId", "userName", "mobilePhone", "email")
}


def get_license(order_id: str = "CS900") -> str:
    parameters = {
        "activity": "getLicense", "orderId": order_id, "productId": SOLD, "businessId": "b-1", "amount": "1",
        "expireTime": "20301231235959999", "timeStamp": STAMP, **PERSON,
    }  # fmt: skip
    return urlencode({**parameters, "authToken": auth_token(parameters.items(), KEY)})


STAMP = "20261118110640000"
NOW = 1_795_000_000_000


async def everything(rt) -> dict[str, str]:
    async def dump(tx):
        return {table.name: repr([row async for page in pages(tx, table) for row in page]) for table in tables(99)}

    return await rt.db.read(dump)


def holding(dumped: dict[str, str]) -> set[str]:
    return {table for table, text in dumped.items() if "canary-" in text}


@pytest.fixture
async def shop(tmp_path, monkeypatch):
    """A runtime, a way to call its callback URL, and its connection."""
    monkeypatch.setattr("licensesvc.app.now", lambda: NOW)
    await make_stock(tmp_path / "data", licenses=1)
    settings = Settings(data_dir=str(tmp_path / "data"))
    async with open_runtime(settings) as rt:
        stored = (await rt.db.read(lambda tx: connections.page(tx, after=0, limit=1)))[0]
        public_id = stored.connection.public_id
        await rt.db.write(
            lambda tx: change_connection(
                tx, rt, public_id, stored.version, ChangeConnection(callback_key=KEY), by="test"
            )
        )
        app = create_app(rt, settings)
        transport = httpx2.ASGITransport(app=app)
        async with started(app), httpx2.AsyncClient(transport=transport, base_url="http://l.example") as http:

            async def call() -> dict:
                response = await http.get(f"/callbacks/{public_id}?{get_license()}")
                return response.json()

            yield rt, call, stored.connection


async def test_personal_data_of_a_callback_lies_in_one_table(shop):
    rt, call, _ = shop

    assert (await call())["resultCode"] == "000000"
    dumped = await everything(rt)
    assert holding(dumped) == {"buyers"}
    assert "getLicense" in dumped["messages"]


async def test_erasing_leaves_nothing_and_the_license_stays_provable(shop):
    rt, call, connection = shop
    first = await call()
    person = Buyer(
        customer_id=PERSON["customerId"], name="canary-n", real_name="canary-r", email="canary-e", mobile="canary-m"
    )
    facts = OrderFacts(order_id="CS900", order_type=OrderType.NEW, marketplace_product_id=SOLD)

    async def queried(tx):
        await receive_line(tx, rt, connection, facts, buyer=person, source="order/query", by="test")

    await rt.db.write(queried)
    buyer = (await rt.db.read(lambda tx: buyers.page(tx, customer_id=PERSON["customerId"], after=0, limit=9)))[0]
    assert buyer.person.real_name == "canary-r"

    erased = await rt.db.write(lambda tx: erase_buyer(tx, rt, buyer.public_id, EraseBuyer(reason="asked"), by="cli"))

    assert (erased.person, erased.erased_at) == (None, NOW)
    assert holding(await everything(rt)) == set()
    assert await call() == first  # the same license
    await rt.db.write(queried)
    assert holding(await everything(rt)) == set()  # and nothing came back
    assert (await audit_database(rt)).clean


async def test_a_new_order_of_the_same_customer_is_a_new_buyer(shop):
    rt, call, connection = shop
    await call()
    buyer = (await rt.db.read(lambda tx: buyers.page(tx, customer_id=None, after=0, limit=9)))[0]
    await rt.db.write(lambda tx: erase_buyer(tx, rt, buyer.public_id, EraseBuyer(reason="asked"), by="cli"))
    facts = OrderFacts(order_id="CS901", order_type=OrderType.NEW, marketplace_product_id=SOLD)
    person = Buyer(customer_id=PERSON["customerId"])
    await rt.db.write(lambda tx: receive_line(tx, rt, connection, facts, buyer=person, source="x", by="test"))

    known = await rt.db.read(lambda tx: buyers.page(tx, customer_id=None, after=0, limit=9))
    assert [one.person is None for one in known] == [True, False]


async def test_erasing_twice_is_one_event(site):
    from tests.support_web import created, make_catalog

    catalog = await make_catalog(site)
    line = {"product": catalog["product"]}
    await created(
        site, "orders",
        {"connection": catalog["connection"], "order_id": "CS1", "buyer": {"customer_id": "c", "name": "canary"}, "lines": [line]},
    )  # fmt: skip
    found = (await site.operator.get("/admin/v1/buyers", params={"customer_id": "c"})).json()["items"][0]

    path = f"/admin/v1/buyers/{found['id']}/erase"
    once, twice = [(await site.owner.post(path, json={"reason": "asked"})).json() for _ in range(2)]

    assert once == twice
    assert once["person"] is None
    assert found["person"]["name"] == "canary"
    assert (await site.audit_kinds()).count("buyer.erased") == 1


@pytest.mark.parametrize("body", [{}, {"reason": ""}, {"reason": "x" * 201}, {"reason": None}, {"reason": "a", "b": 1}])
async def test_erasing_needs_a_reason(site, body):
    response = await site.owner.post("/admin/v1/buyers/buy_" + "0" * 26 + "/erase", json=body)
    assert response.status_code == 422


async def test_an_unknown_buyer_is_not_found(site):
    response = await site.owner.post("/admin/v1/buyers/buy_" + "0" * 26 + "/erase", json={"reason": "asked"})
    assert response.status_code == 404


async def test_erasing_works_on_either_engine(database):
    async def work(tx):
        await tx.run(
            "INSERT INTO connections (public_id, name, site, wire_zone, calendar_zone, created_at)"
            " VALUES ('con_1', 'cn', 'cn', 'UTC', 'UTC', 1)"
        )
        await tx.run(
            "INSERT INTO buyers (public_id, connection_id, customer_id, name, created_at) VALUES ('buy_1', 1, 'c', 'n', 1)"
        )
        buyer = await buyers.by_public_id(tx, "buy_1")
        await buyers.erase(tx, buyer.id, mark="erased:buy_1", now=7)
        return await buyers.by_public_id(tx, "buy_1"), await buyers.person(tx, buyer.id)

    erased, person = await database.write(work)
    assert (erased.person, erased.erased_at, person) == (None, 7, None)
