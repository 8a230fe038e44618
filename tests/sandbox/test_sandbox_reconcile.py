"""The whole server against the sandbox, both behind sockets: a failed order is restarted, orders are compared and put right."""

import asyncio
from types import SimpleNamespace

import msgspec
import pytest

from licensesvc.app import create_app
from licensesvc.domain.connection import Site
from licensesvc.domain.instants import DAY
from licensesvc.domain.messages import MessageState
from licensesvc.domain.order import OrderType
from licensesvc.domain.reconciliation import FindingKind
from licensesvc.marketplace.huawei.client import MarketplaceClient
from licensesvc.services.catalog.manage_connections import CreateConnection, create_connection
from licensesvc.services.reconciliation.reconcile import Plan, Reconciler
from licensesvc.services.reconciliation.repair_finding import repair_finding
from licensesvc.services.restarts.restart_message import Restarter, RestartWish
from licensesvc.settings import Settings
from licensesvc.storage import messages, reconciliation
from tests.sandbox.conftest import now
from tests.services.test_service_messages import found
from tests.support_edges import change, open_shop, rows
from tests.support_web import open_test_runtime

WISH = RestartWish(reason="product mapped")
ORDER = {"product_id": "OFFI100", "dialect": "LICENSE_1_0", "amount": 3}


@pytest.fixture
async def house(tmp_path, sandbox, serve_app):
    """A server that sells OFFI200 to the sandbox's buyers, who want OFFI100."""
    moment = SimpleNamespace(later=0)
    async with open_test_runtime(tmp_path, lambda: now() + moment.later) as rt, MarketplaceClient() as client:
        account = CreateConnection(
            name="sandbox",
            site=Site.CN,
            base_url=sandbox.url,
            callback_key=sandbox.state.callback_key,
            api_access_key=sandbox.state.api_access_key,
            api_secret=sandbox.state.api_secret,
        )
        stored = await rt.db.write(lambda tx: create_connection(tx, rt, account, by="test"))
        shop = await open_shop(rt, sold="OFFI200", connection=stored.connection)
        app = create_app(rt, Settings(data_dir=str(tmp_path / "data")))
        async with serve_app(app) as url:
            told = await sandbox.http.put("/sandbox/seller", json={"callback_url": f"{url}{shop.url}"})
            assert told.status_code == 204
            yield SimpleNamespace(rt=rt, shop=shop, client=client, moment=moment, sandbox=sandbox)


async def place(house, **fields):
    response = await house.sandbox.http.post("/sandbox/orders", json={**ORDER, **fields})
    assert response.status_code == 201, response.text
    return response.json()


async def eventually(condition):
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110 - what is waited for happens in another task
            await asyncio.sleep(0.01)


async def map_product(house):
    await change(house.rt, "UPDATE products SET marketplace_product_id = 'OFFI100'")


async def night(house):
    house.moment.later += DAY
    plan = Plan(begins_at=0, per_minute=6_000, expiring_days=14)

    async def at_once(_seconds):
        await asyncio.sleep(0)

    # Asking is signed with the time, which the sandbox knows better: only the night is on another day.
    class Punctual:
        async def order_query(self, account, order_id, line_id, _now):
            return await house.client.order_query(account, order_id, line_id, now())

    reconciler = Reconciler(house.rt, Punctual(), plan, sleep=at_once)
    await reconciler.begin_now(house.shop.connection)
    run = await reconciler.work(house.shop.connection, 60)
    house.moment.later = 0
    assert run.finished_at is not None
    return [
        one
        for one in await house.rt.db.read(lambda tx: reconciliation.page(tx, after=0, limit=100))
        if one.resolved_at is None
    ]


async def test_an_order_that_failed_until_its_retries_were_over_is_restarted(house):
    order = await place(house, notify=False)
    await eventually(lambda: _tries(house, 3))
    failed = await found(house.rt, activity="getLicense")
    assert {message.state for message in failed} == {MessageState.FAILED}
    await map_product(house)

    done = await Restarter(house.rt, house.client, lambda: None).restart(failed[0].public_id, WISH, by="li")

    assert (done.result, done.outcome) == ("succeeded", "000000")
    [asked] = await found(house.rt, direction="out")
    assert (asked.activity, asked.outcome, asked.order_id) == ("order/query", "ok", order["order_id"])
    assert await rows(house.rt, "licenses") == [1]
    # The sandbox's own state is what it was: it has to be restarted there too, and gets the same license.
    shown = (await house.sandbox.http.get(f"/sandbox/orders/{order['order_id']}")).json()
    assert shown["license"] is None
    again = (await house.sandbox.http.post(f"/sandbox/orders/{order['order_id']}/redeliver")).json()
    assert again["license"]
    assert await rows(house.rt, "licenses") == [1]
    states = [message.state for message in await found(house.rt, activity="getLicense", order_id=order["order_id"])]
    assert set(states) == {MessageState.RESTARTED, MessageState.RETRIED, MessageState.SUCCEEDED}


async def _tries(house, count):
    return len(await found(house.rt, activity="getLicense")) >= count


async def test_an_order_that_was_cancelled_meanwhile_is_not_delivered(house):
    order = await place(house, notify=False)
    await map_product(house)
    [failed, *_] = await found(house.rt, activity="getLicense", states=(MessageState.FAILED,))
    placed = house.sandbox.state.orders[order["order_id"]]
    house.sandbox.state.put(msgspec.structs.replace(placed, order_type=OrderType.UNSUBSCRIBE))

    with pytest.raises(Exception, match="UNSUBSCRIBE"):
        await Restarter(house.rt, house.client, lambda: None).restart(failed.public_id, WISH, by="li")

    kept = await house.rt.db.read(lambda tx: messages.by_public_id(tx, failed.public_id))
    assert kept.restarted_at is None


async def test_orders_are_compared_and_put_right(house):
    await house.shop.sell("CSFOREIGN")
    await map_product(house)
    kept, cancelled, changed = [(await place(house, period_type="year"))["order_id"] for _ in range(3)]
    await eventually(lambda: _known(house, 3))
    assert [one.kind for one in await night(house)] == [FindingKind.UNKNOWN_THERE]
    for order_id, change_ in ((cancelled, {"order_type": OrderType.UNSUBSCRIBE}), (changed, {"amount": 9})):
        house.sandbox.state.put(msgspec.structs.replace(house.sandbox.state.orders[order_id], **change_))

    findings = await night(house)

    assert {(one.order_id, one.kind) for one in findings} == {
        (cancelled, FindingKind.CANCELLED),
        (changed, FindingKind.AMOUNT),
        ("CSFOREIGN", FindingKind.UNKNOWN_THERE),
    }
    for finding in findings:
        if finding.kind is not FindingKind.UNKNOWN_THERE:
            done = await repair_finding(house.rt, house.client, finding.public_id, "ticket", by="li")
            assert done.how == "repaired"
    states = await house.rt.db.read(
        lambda tx: tx.all(
            "SELECT l.order_id, l.amount, s.state FROM licenses l JOIN license_states s ON s.license_id = l.id"
        )
    )
    now_so = {row["order_id"]: (row["state"], row["amount"]) for row in states}
    assert now_so[kept] == ("ISSUED", 3)
    assert now_so[cancelled] == ("RELEASED", 3)
    assert now_so[changed] == ("ISSUED", 9)
    assert {one.order_id for one in await night(house)} == {"CSFOREIGN"}


async def _known(house, count):
    row = await house.rt.db.read(lambda tx: tx.one("SELECT COUNT(*) AS n FROM outbox WHERE done_at IS NOT NULL"))
    return row["n"] >= count
