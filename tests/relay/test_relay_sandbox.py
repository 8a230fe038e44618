"""The outage story against the sandbox marketplace, which knows nothing of our tests: its own gateway, codes and count of clients."""

import asyncio
from contextlib import AsyncExitStack

import httpx2
import pytest

from licensesvc.domain.connection import Relay
from licensesvc.domain.instants import DAY, MINUTE
from licensesvc.domain.product import DeliveryKind
from licensesvc.sandbox import codes
from licensesvc.sandbox.app import create_sandbox
from licensesvc.sandbox.state import State, sandbox_file
from licensesvc.services.catalog.manage_connections import ChangeConnection, change_connection
from licensesvc.signing.privatefiles import private_directory
from licensesvc.storage import relay as rows
from tests.support_edges import call, listening, open_shop
from tests.support_relay import ACTIVATE, ACTIVATE_ALL, QUERY, QUERY_ALL, ROOT, begin
from tests.support_web import make_runtime, started

OK, ILLEGAL = "92020000", "92020003"
CLIENTS = ("ann", "bob", "设备-7")


class Shop:
    """A relaying shop before a sandbox with four codes; `process` is replaced by a restart."""

    def __init__(self, rt, clock, state, control, shop, pair, names):
        self.rt, self.clock, self.state, self.control = rt, clock, state, control
        self.shop, self.pair, self.names = shop, pair, names
        self.app = self.reporting = self.life = None

    async def restart(self):
        if self.life is not None:
            await self.life.aclose()
        self.app, self.reporting, self.life = await begin(self.rt)

    async def call(self, path, **fields):
        answer = await call(self.app, self.pair, ROOT + path, fields, self.clock.now)
        return answer.json

    async def outage(self, kind):
        response = await self.control.put("/sandbox/outage", json={"kind": kind})
        assert response.status_code == 204

    async def counted(self):
        """Distinct clients by code and day, as the sandbox has counted them."""
        usage = (await self.control.get("/sandbox/codes")).json()["usage"]
        return {(day["license"], day["day"]): day["clients"] for day in usage}


@pytest.fixture(params=["single", "batch"])
def mode(request):
    return request.param


@pytest.fixture
async def shop(database, tmp_path, clock, mode):
    rt = await make_runtime(database, private_directory(tmp_path / "data"), clock)
    state = State.open(sandbox_file(tmp_path / "market"))
    made = [codes.make(f"CS{number}", "OFFI100", 2, clock.now + 90 * DAY) for number in range(4)]
    state.put(codes=made)
    market = create_sandbox(state, clock=clock)
    opened = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0, sold="OFFI100")
    async with AsyncExitStack() as life:
        await life.enter_async_context(started(market))
        port = await life.enter_async_context(listening(market))
        url = f"http://127.0.0.1:{port}"
        control = await life.enter_async_context(httpx2.AsyncClient(base_url=url, trust_env=False))
        known = ChangeConnection(
            base_url=url, relay=Relay(mode), api_access_key=state.api_access_key, api_secret=state.api_secret
        )
        name = opened.connection.public_id
        await rt.db.write(lambda tx: change_connection(tx, rt, name, 1, known, by="test"))
        shop = Shop(rt, clock, state, control, opened, await opened.pair(), [code.code for code in made])
        await shop.restart()
        yield shop
        await shop.life.aclose()


async def everybody(shop, step):
    """Every client uses every code once; the answers."""
    return await asyncio.gather(
        *(
            shop.call(QUERY, license=code, heartbeatInfo={"thirdPartyAccount": f"{client}-{step // 3}"})
            for code in shop.names
            for client in CLIENTS
        )
    )


async def story(shop):
    """Ten steps of six minutes, eight of them without the marketplace; our process is replaced in the middle."""
    told = []
    assert {(await shop.call(ACTIVATE, license=code))["error_code"] for code in shop.names[:3]} == {OK}
    shop.clock.now += MINUTE
    assert (await shop.call(ACTIVATE_ALL, license_list=shop.names[3:]))["error_code"] == OK
    for step in range(10):
        if step == 1:
            await shop.outage("unavailable")
        if step == 5:
            await shop.restart()
        if step == 9:
            await shop.outage("none")
        told += await everybody(shop, step)
        shop.clock.now += 6 * MINUTE
        await shop.reporting.work_once()
    for _ in range(4):
        shop.clock.now += 15 * MINUTE
        await shop.reporting.work_once()
    return told


async def figures(shop):
    """What both sides have counted."""
    ours = await shop.rt.db.read(lambda tx: tx.one("SELECT COUNT(*) AS n, COUNT(reported_at) AS told FROM relay_usage"))
    return await shop.counted(), (ours["n"], ours["told"])


def expected(shop):
    distinct = len(CLIENTS) * 4
    return dict.fromkeys([(code, "2026-11-18") for code in shop.names], distinct), (4 * distinct, 4 * distinct)


async def test_an_hour_without_the_marketplace_counts_every_client_once(shop):
    told = await story(shop)

    assert {answer["error_code"] for answer in told} == {OK}
    assert {answer["data"]["status"] for answer in told} == {"ALIVE"}
    assert await figures(shop) == expected(shop)
    states = await shop.rt.db.read(lambda tx: tx.all("SELECT state FROM license_states"))
    assert [row["state"] for row in states] == ["ACTIVE"] * 4
    told = await shop.call(QUERY_ALL, license_list=shop.names)
    assert [info["license_code"] for info in told["data"]] == shop.names
    assert (await shop.call(ACTIVATE, license=shop.names[0]))["error_code"] == ILLEGAL


@pytest.mark.parametrize("mode", ["single"], indirect=True)
async def test_the_control_a_reporter_that_forgets_to_mark_is_caught(shop, monkeypatch):
    async def forgotten(tx, told, now):
        pass

    monkeypatch.setattr(rows, "mark_reported", forgotten)
    await story(shop)

    assert await figures(shop) != expected(shop)


@pytest.mark.parametrize("mode", ["single"], indirect=True)
async def test_a_wrong_secret_never_locks_the_key(shop):
    name = shop.shop.connection.public_id
    wrong = ChangeConnection(api_secret="wrong")
    await shop.rt.db.write(lambda tx: change_connection(tx, shop.rt, name, 2, wrong, by="test"))
    for code in 2 * shop.names:
        assert (await shop.call(ACTIVATE, license=code))["error_code"] != OK
    shop.clock.now += MINUTE
    right = ChangeConnection(api_secret=shop.state.api_secret)
    await shop.rt.db.write(lambda tx: change_connection(tx, shop.rt, name, 3, right, by="test"))

    assert (await shop.call(ACTIVATE, license=shop.names[0]))["error_code"] == OK, (
        "eight wrong ones would have locked it"
    )
