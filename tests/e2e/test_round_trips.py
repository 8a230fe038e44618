"""Sandbox and server over real sockets: every activity of both dialects goes there and back, and the license shows what it did."""

import contextlib
from types import SimpleNamespace

import httpx2
import msgspec
import pytest

from licensesvc.domain.instants import DAY
from licensesvc.domain.license import status_at
from licensesvc.domain.product import DeliveryKind
from licensesvc.sandbox.app import create_sandbox
from licensesvc.sandbox.chaos import Wish
from licensesvc.sandbox.product import Product
from licensesvc.sandbox.state import State, sandbox_file
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.storage import licenses, supervision
from tests.sandbox.conftest import eventually
from tests.support_edges import KEY, listening, open_edge, open_shop

SOLD = "OFFI200"


@contextlib.asynccontextmanager
async def world(directory, kind, *, chaos=None):
    """A server with a product of this kind and a sandbox that knows it, on one clock that stands still."""
    path = sandbox_file(directory / "sandbox")
    State.open(path)
    fields = msgspec.json.decode(path.read_bytes())
    path.write_bytes(msgspec.json.encode({**fields, "callback_key": KEY}))
    state = State.open(path)
    async with open_edge(directory) as edge:
        shop = await open_shop(edge.rt, name="two", sold=SOLD, kind=kind)
        app = create_sandbox(state, time_factor=1e-6, clock=edge.clock, chaos=chaos)
        async with (
            listening(edge.app) as port,
            app.lifespan(),
            listening(app) as sandbox_port,
            httpx2.AsyncClient(base_url=f"http://127.0.0.1:{sandbox_port}", trust_env=False) as http,
        ):
            await http.put("/sandbox/seller", json={"callback_url": f"http://127.0.0.1:{port}{shop.url}"})
            yield SimpleNamespace(edge=edge, shop=shop, http=http, port=port, sandbox_port=sandbox_port, state=state)


async def buy(there, **order):
    wanted = {"product_id": SOLD, "dialect": there.shop.product.delivery_kind, "notify": False, **order}
    response = await there.http.post("/sandbox/orders", json={"period_type": "year", **wanted})
    assert response.status_code == 201, response.text
    return response.json()


async def change(there, order, kind):
    response = await there.http.post(f"/sandbox/orders/{order['order_id']}/changes/{kind}")
    assert response.status_code == 200, response.text
    changed = response.json()
    await eventually(lambda: undelivered(there), lambda left: not left)  # chaos holds some calls back
    assert [
        (delivery["activity"], delivery["verdict"]) for delivery in changed["deliveries"] if not delivery["ok"]
    ] == []
    return changed


async def undelivered(there):
    return [one for one in (await there.http.get("/sandbox/messages")).json() if one["state"] != "delivered"]


async def seen(there, code):
    """The license as the server has it."""
    return (await there.edge.rt.db.read(lambda tx: licenses.by_code(tx, code_index(there.edge.rt, code)))).view


async def test_license_2_0_from_purchase_to_refund(tmp_path):
    async with world(tmp_path, DeliveryKind.LICENSE_2_0) as there:
        clock = there.edge.clock
        order = await buy(there, amount=2)
        code = order["license"]
        await there.shop.sell(order["order_id"], code=code, amount=2)
        pair = await there.shop.pair()
        async with Product(f"http://127.0.0.1:{there.port}", pair.access_key, pair.secret, clock=clock) as software:
            assert (await software.activate(code))["error_code"] == "92020000"
            first_end = (await seen(there, code)).expires_at

            await change(there, order, "renew")
            renewed = (await seen(there, code)).expires_at
            assert renewed > first_end + 360 * DAY
            await change(there, order, "freeze")  # its end lies ahead: acknowledged, not applied
            assert (await software.heartbeat(code))["data"]["status"] == "ALIVE"
            await change(there, order, "refund-renewal")
            assert (await seen(there, code)).expires_at < renewed
            clock.now += 800 * DAY
            await change(there, order, "freeze")
            assert status_at(await seen(there, code), clock.now) == "FROZEN"
            assert (await software.heartbeat(code))["data"]["status"] == "EXPIRED"
            await change(there, order, "unfreeze")
            await change(there, order, "renew")
            await change(there, order, "refund")
            assert (await software.heartbeat(code))["data"]["status"] == "RELEASED"
            view = await there.edge.rt.db.read(lambda tx: licenses.by_code(tx, code_index(there.edge.rt, code)))
            case = (await there.edge.rt.db.write(lambda tx: supervision.of_lines(tx, [view.line_ref])))[view.line_ref]
            assert (case.node, case.state.refund, case.state.unconfirmed_since) == ("REFUNDED", "PAID_BACK", None)


async def test_license_1_0_from_purchase_to_release(tmp_path):
    async with world(tmp_path, DeliveryKind.LICENSE_1_0) as there:
        clock = there.edge.clock
        placed = await buy(there, amount=3)
        code = placed["license"]
        pair = await there.shop.pair()
        async with Product(f"http://127.0.0.1:{there.port}", pair.access_key, pair.secret, clock=clock) as software:
            await software.activate(code)
            before = (await seen(there, code)).expires_at
            await change(there, placed, "renew")
            assert (await seen(there, code)).expires_at > before + 300 * DAY
            clock.now += 800 * DAY
            await change(there, placed, "expire")
            assert (await software.heartbeat(code))["data"]["status"] == "EXPIRED"
            await change(there, placed, "release")
            assert (await software.heartbeat(code))["data"]["status"] == "RELEASED"


@pytest.mark.parametrize("seed", range(3))
async def test_a_life_under_chaos_ends_where_a_quiet_one_does(tmp_path, seed):
    """Duplicates, reused nonces, wrong signatures and dropped answers change nothing about what the license is afterwards."""

    async def live(directory, chaos):
        async with world(directory, DeliveryKind.LICENSE_2_0, chaos=chaos) as there:
            order = await buy(there)
            await there.shop.sell(order["order_id"], code=order["license"])
            ends = []
            for kind in ("renew", "renew", "refund-renewal", "freeze", "unfreeze", "renew"):
                await change(there, order, kind)
                view = await seen(there, order["license"])
                ends.append((view.state, view.expires_at, view.frozen_at))
            return ends

    quiet = await live(tmp_path / "quiet", None)
    assert await live(tmp_path / "chaos", Wish(seed=seed, rate=0.8)) == quiet


async def test_fourteen_days_of_every_debug_case_pass_and_touch_nothing_live(tmp_path):
    async with world(tmp_path, DeliveryKind.LICENSE_2_0) as there:
        saved = await there.http.post("/sandbox/probes/cases", json={"product_id": SOLD})
        assert saved.status_code == 201
        before = await there.edge.written()
        for _ in range(28):  # 14 days, morning and afternoon
            there.edge.clock.now += DAY // 2
            [replay] = (await there.http.post("/sandbox/probes/replay")).json()
            assert replay["failed"] == {}
        shown = (await there.http.get("/sandbox/probes")).json()
        assert shown["failing_days"] == {SOLD: 0}
        after = await there.edge.written()
        assert before[:10] == after[:10], "a debug case touched something live"
