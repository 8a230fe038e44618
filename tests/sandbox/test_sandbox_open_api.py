"""The sandbox's License open API: codes that it makes, from the first activation to their release, row by row of spec §1.8."""

import pytest

from licensesvc.domain.instants import DAY
from licensesvc.sandbox.product import Product

PL = "PL" + "0" * 18


@pytest.fixture
async def software(sandbox, state):
    async with Product(sandbox.url, state.api_access_key, state.api_secret) as product:
        yield product


async def buy(sandbox, **order):
    wanted = {"product_id": "OFFI1", "dialect": "LICENSE_2_0", "notify": False, **order}
    response = await sandbox.http.post("/sandbox/orders", json=wanted)
    assert response.status_code == 201, response.text
    return response.json()


async def change(sandbox, order, kind):
    response = await sandbox.http.post(f"/sandbox/orders/{order['order_id']}/changes/{kind}")
    assert response.status_code == 200, response.text
    return response.json()


async def test_the_life_of_a_code(sandbox, software):
    order = await buy(sandbox, amount=2, period_type="year", period_number=1)
    code = order["license"]
    assert (await software.heartbeat(code))["error_code"] == "92020011"
    activated = await software.activate(code)
    assert activated["error_code"] == "92020000"
    assert f'"order_id":"{order["order_id"]}"' in activated["data"]["license_code_info"]
    assert (await software.activate(code))["error_code"] == "92020003"
    assert (await software.heartbeat(code))["data"]["status"] == "ALIVE"
    await change(sandbox, order, "expire")
    assert (await software.heartbeat(code))["data"]["status"] == "EXPIRED"


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda software: software.activate(PL), "92020005"),
        (lambda software: software.heartbeat(PL), "92020005"),
        (lambda software: software.activate_all([PL]), "92020020"),
        (lambda software: software.query_all([PL]), "92020020"),
        (lambda software: software.activate(""), "95000001"),
        (lambda software: software.activate("x" * 65), "95000001"),
        (lambda software: software.activate(PL, "20230230000000"), "92020002"),
    ],
)
async def test_refusals(software, call, code):
    assert (await call(software))["error_code"] == code


async def test_a_code_that_nobody_claimed_cannot_be_activated(sandbox, software):
    order = await buy(sandbox, claim=True)
    assert (await software.activate(order["license"]))["error_code"] == "92020004"
    await change(sandbox, order, "claim")
    assert (await software.activate(order["license"]))["error_code"] == "92020000"


async def test_a_list_is_activated_whole_or_not_at_all(sandbox, software):
    codes = [(await buy(sandbox))["license"] for _ in range(3)]
    assert (await software.activate_all([*codes, PL]))["error_code"] == "92020020"
    assert (await software.heartbeat(codes[0]))["error_code"] == "92020011"
    assert (await software.activate_all(codes))["error_code"] == "92020000"
    answered = await software.query_all(codes)
    assert [info["status"] for info in answered["data"]] == ["ALIVE"] * 3


async def test_usage_counts_distinct_clients_of_a_day(sandbox, software):
    order = await buy(sandbox)
    code = order["license"]
    assert (await software.report_usage({code: ["a"]}))["data"] == {"check_fail_list": [code]}
    await software.activate(code)
    for clients in (["a", "b"], ["b"], ["c"]):
        await software.report_usage({code: clients, PL: ["x"]})
    await software.report_usage({code: 7})
    [counted] = (await sandbox.http.get("/sandbox/codes")).json()["usage"]
    assert (counted["clients"], counted["active_num"]) == (3, 7)


async def test_a_wrong_signature_locks_after_five(sandbox, state):
    async with Product(sandbox.url, state.api_access_key, "wrong") as stranger:
        said = [(await stranger.activate(PL))["error_msg"] for _ in range(7)]
    assert said[-1] != said[0]
    assert all("error_msg" not in text for text in said)


async def test_test_codes_show_what_succeeded(sandbox, software):
    [code] = (await sandbox.http.post("/sandbox/test-codes", json={"product_id": "OFFI1", "days": 3})).json()
    assert (code["state"], code["marks"]) == ("NOT_ACTIVATED", [])
    await software.activate(code["code"])
    await software.heartbeat(code["code"])
    listed = (await sandbox.http.get("/sandbox/codes")).json()
    assert [one["marks"] for one in listed["codes"]] == [["已激活", "已检测"]]
    assert listed["publishable"] == ["OFFI1"]


@pytest.mark.parametrize("kind", ["unavailable"])
async def test_an_outage_is_told_and_ends(sandbox, software, kind):
    order = await buy(sandbox)
    assert (await sandbox.http.put("/sandbox/outage", json={"kind": kind})).status_code == 204
    assert "error_code" not in await software.activate(order["license"])
    await sandbox.http.put("/sandbox/outage", json={"kind": "none"})
    assert (await software.activate(order["license"]))["error_code"] == "92020000"


async def test_codes_survive_a_restart_of_the_sandbox(run_sandbox, state):
    async with run_sandbox(state) as first:
        code = (await buy(first))["license"]
    async with run_sandbox(type(state).open(state._path)) as second, Product(second.url, state.api_access_key, state.api_secret) as software:  # fmt: skip
        assert (await software.activate(code))["error_code"] == "92020000"


async def test_a_file_from_before_codes_is_read(state):
    path = state._path
    path.write_bytes(path.read_bytes().replace(b',"codes":[]', b""))
    assert not type(state).open(path).codes


async def test_expiry_is_derived_from_the_clock(run_sandbox, state):
    now = [1_800_000_000_000]
    async with run_sandbox(state, clock=lambda: now[0]) as sandbox, Product(sandbox.url, state.api_access_key, state.api_secret, clock=lambda: now[0]) as software:  # fmt: skip
        code = (await buy(sandbox, period_type="day", period_number=1))["license"]
        await software.activate(code)
        assert (await software.heartbeat(code))["data"]["status"] == "ALIVE"
        now[0] += 3 * DAY
        assert (await software.heartbeat(code))["data"]["status"] == "EXPIRED"
