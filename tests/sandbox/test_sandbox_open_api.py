"""The sandbox's License open API: codes that it makes, from the first activation to their release, row by row of spec §1.8."""

import httpx2
import pytest

from licensesvc.domain.instants import DAY
from licensesvc.marketplace.huawei import aksk, openapi
from licensesvc.sandbox import open_api
from licensesvc.sandbox.clock import wall_clock
from licensesvc.sandbox.product import Product

GLOBAL = "/api/mkp-openapi-public/global"
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


@pytest.mark.parametrize(("kind", "done"), [("unavailable", False), ("silent", False), ("drop", False), ("lost", True)])
async def test_an_outage_is_felt_and_ends(sandbox, software, state, kind, done):
    order = await buy(sandbox)
    assert (await sandbox.http.put("/sandbox/outage", json={"kind": kind})).status_code == 204
    software._http.timeout = 0.3
    if kind == "unavailable":
        assert "error_code" not in await software.activate(order["license"])
    else:
        with pytest.raises(httpx2.ReadTimeout if kind == "silent" else httpx2.RemoteProtocolError):
            await software.activate(order["license"])
    assert (state.codes[order["license"]].activated_at is not None) is done

    software._http.timeout = 10
    await sandbox.http.put("/sandbox/outage", json={"kind": "none"})
    expected = "92020003" if done else "92020000"
    assert (await software.activate(order["license"]))["error_code"] == expected
    assert (await sandbox.http.get("/sandbox/healthz")).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{}", b'{"kind":"on"}', b'{"kind":null}', b'{"kind":"drop","surplus":1}'])
async def test_an_outage_that_is_none_is_400(local, body):
    assert (await local.http.put("/sandbox/outage", content=body)).status_code == 400


async def raw(sandbox, state, method, path, content, content_type="application/json", secret=None):
    """A signed request that no client of ours would send."""
    url = httpx2.URL(f"{sandbox.url}{GLOBAL}{path}")
    headers = [("Host", url.netloc.decode()), ("X-Sdk-Date", aksk.sdk_date(wall_clock()))]
    headers += [("Content-Type", content_type)] if content_type else []
    authorization = aksk.sign(
        method=method,
        path=url.path,
        query=url.query.decode(),
        headers=headers,
        body=content,
        access_key=state.api_access_key,
        secret_key=secret or state.api_secret,
    )
    headers.append(("Authorization", authorization))
    return await sandbox.http.request(method, url, content=content or None, headers=headers)


ACTIVATE, USAGE, ORDER = "/v1/license/activate", "/v2/license/software-usage-info", "/v1/order/query?orderId=CS1"
PLAIN = b'{"license":"PL1"}'


@pytest.mark.parametrize(
    ("method", "path", "content", "content_type", "answer"),
    [
        ("GET", ACTIVATE, b"", None, (405, b'{"error_code":"95000002","error_msg":"Request method not supported"}')),
        ("PUT", ACTIVATE, PLAIN, "application/json", (405, b'{"error_code":"95000002","error_msg":"Request method not supported"}')),
        ("POST", ORDER, b"", None, (405, b'{"error_code":"95000002","error_msg":"Request method not supported"}')),
        ("POST", ACTIVATE, PLAIN, "text/plain", (415, b'{"error_code":"95000003","error_msg":"Content type not supported"}')),
        ("POST", ACTIVATE, PLAIN, None, (415, b'{"error_code":"95000003","error_msg":"Content type not supported"}')),
        ("POST", ACTIVATE, PLAIN, "application/json;charset=UTF-8", (200, b'{"error_code":"92020005","error_msg":"license code notexist"}')),
        ("POST", ACTIVATE, b"{", "application/json", (400, b'{"error_code":"95000004","error_msg":"req message is not readable"}')),
        ("POST", ACTIVATE, b"\xff", "application/json", (400, b'{"error_code":"95000004","error_msg":"req message is not readable"}')),
        ("POST", ACTIVATE, b"[" * 9_000, "application/json", (400, b'{"error_code":"95000004","error_msg":"req message is not readable"}')),
        ("POST", ACTIVATE, b"[]", "application/json", (400, b'{"error_code":"95000001","error_msg":"req param is invalid"}')),
        ("POST", ACTIVATE, b'{"license":"P","license":"P"}', "application/json", (400, b'{"error_code":"95000001","error_msg":"req param is invalid"}')),
        ("POST", ACTIVATE, b'{"license":"\\u0000"}', "application/json", (400, b'{"error_code":"95000001","error_msg":"req param is invalid"}')),
        ("POST", ACTIVATE, b'{"license":7}', "application/json", (400, b'{"error_code":"95000001","error_msg":"req param is invalid"}')),
        ("POST", ACTIVATE, b" " * 65_537, "application/json", (400, b'{"error_code":"95000001","error_msg":"req param is invalid"}')),
        ("POST", USAGE, b" " * 65_537, "application/json", (400, b'{"error_code":"95000004","error_msg":"req message is not readable"}')),
        ("POST", USAGE, b'{"usage_info":[]}', "application/json", (400, b'{"error_code":"95000001","error_msg":"req param is invalid"}')),
    ],
)  # fmt: skip
async def test_what_no_program_should_send_is_answered_byte_for_byte(
    sandbox, state, method, path, content, content_type, answer
):
    response = await raw(sandbox, state, method, path, content, content_type)

    assert (response.status_code, response.content) == answer
    assert response.headers["content-type"] == "application/json;charset=UTF-8"


async def test_the_signature_is_looked_at_before_the_content(sandbox, state):
    response = await raw(sandbox, state, "POST", ACTIVATE, b"{", "text/plain", secret="wrong")

    assert (response.status_code, response.json()["error_code"]) == (401, "APIG.0301")


async def test_an_error_of_ours_has_the_documented_words(sandbox, software, monkeypatch):
    monkeypatch.setattr(openapi, "parse_activate", lambda body: 1 / 0)

    assert await software.activate(PL) == {"error_code": "92020001", "error_msg": "internal error"}


async def test_the_documented_answers_byte_for_byte(sandbox, state, run_sandbox):
    now = [1_763_900_000_007]
    async with run_sandbox(state, clock=lambda: now[0]) as still:
        order = await buy(still, amount=2, period_type="year")
        code = order["license"].encode()
        ids = b'\\"product_id\\":\\"OFFI1\\",\\"amount\\":2,\\"order_id\\":\\"%b\\"' % order["order_id"].encode()
        async with Product(still.url, state.api_access_key, state.api_secret, clock=lambda: now[0]) as software:
            answers = []
            software._http.event_hooks = {"response": [lambda response: keep(response, answers)]}
            await software.activate(code.decode())
            await software.heartbeat(code.decode())
    assert answers[0] == (
        b'{"error_code":"92020000","error_msg":"success","data":{"license_code_info":"{'
        b'\\"status\\":\\"ALIVE\\",\\"expire_time\\":\\"20261123155959\\",' + ids + b'}"}}'
    )
    assert answers[1].startswith(
        b'{"error_code":"92020000","error_msg":"success","data":{"license_code":"%b","status":"ALIVE",'
        b'"activate_time":"20251123121320","expire_time":"20261123155959"' % code
    )


async def keep(response, answers):
    answers.append(await response.aread())


async def test_codes_survive_a_restart_of_the_sandbox(run_sandbox, state):
    async with run_sandbox(state) as first:
        code = (await buy(first))["license"]
    async with run_sandbox(type(state).open(state._path)) as second, Product(second.url, state.api_access_key, state.api_secret) as software:  # fmt: skip
        assert (await software.activate(code))["error_code"] == "92020000"


async def test_a_file_from_before_codes_is_read(state):
    path = state._path
    path.write_bytes(path.read_bytes().replace(b',"codes":[]', b"").replace(b'"version":2,', b""))
    assert not type(state).open(path).codes


async def test_expiry_is_derived_from_the_clock(run_sandbox, state):
    now = [1_800_000_000_000]
    async with run_sandbox(state, clock=lambda: now[0]) as sandbox, Product(sandbox.url, state.api_access_key, state.api_secret, clock=lambda: now[0]) as software:  # fmt: skip
        code = (await buy(sandbox, period_type="day", period_number=1))["license"]
        await software.activate(code)
        assert (await software.heartbeat(code))["data"]["status"] == "ALIVE"
        now[0] += 3 * DAY
        assert (await software.heartbeat(code))["data"]["status"] == "EXPIRED"


async def test_the_period_begins_with_the_service_and_not_with_the_order(run_sandbox, state):
    now = [1_763_900_000_007]
    async with run_sandbox(state, clock=lambda: now[0]) as sandbox, Product(sandbox.url, state.api_access_key, state.api_secret, clock=lambda: now[0]) as software:  # fmt: skip
        late, backdated, trial = [(await buy(sandbox, period_type="month"))["license"] for _ in range(3)]
        now[0] += 60 * DAY
        await software.activate(late)
        await software.activate(backdated, "20251201000000")
        assert (await software.activate(trial, "20251123121319"))["error_code"] == "92020002"  # before the order
        ends = {code: (await software.heartbeat(code))["data"] for code in (late, backdated)}
    assert (ends[late]["status"], ends[late]["expire_time"]) == ("ALIVE", "20260222155959")
    assert (ends[backdated]["status"], ends[backdated]["expire_time"]) == ("EXPIRED", "20260101155959")


async def test_a_renewal_before_the_first_use_is_not_lost(paired, state):
    async with Product(paired.url, state.api_access_key, state.api_secret) as software:
        order = await buy(paired, period_type="year")
        renewal = (await change(paired, order, "renew"))["order"]
        await software.activate(order["license"])

    assert state.codes[order["license"]].expires_at == renewal["ends_at"]


async def test_a_test_code_that_is_over_or_a_frozen_code_is_not_activated(run_sandbox, state, seller):
    now = [1_763_900_000_007]
    async with run_sandbox(state, clock=lambda: now[0]) as sandbox, Product(sandbox.url, state.api_access_key, state.api_secret, clock=lambda: now[0]) as software:  # fmt: skip
        [code] = (await sandbox.http.post("/sandbox/test-codes", json={"product_id": "OFFI1", "days": 1})).json()
        assert code["expires_at"] == "2025-11-24T12:13:20.007Z"
        await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})
        frozen = await buy(sandbox)
        await change(sandbox, frozen, "freeze")
        now[0] += DAY
        assert (await software.activate(code["code"]))["error_code"] == "92020003"
        assert (await software.activate(frozen["license"]))["error_code"] == "92020003"
        assert (await sandbox.http.get("/sandbox/codes")).json()["publishable"] == []


async def test_released_codes_answer_so_and_count_no_more(paired, state):
    async with Product(paired.url, state.api_access_key, state.api_secret) as software:
        order = await buy(paired)
        await software.activate(order["license"])
        await change(paired, order, "release")
        assert (await software.heartbeat(order["license"]))["data"]["status"] == "RELEASED"
        assert (await software.activate(order["license"]))["error_code"] == "92020003"
        assert (await software.report_usage({order["license"]: ["a"]}))["data"]["check_fail_list"] == [order["license"]]


async def test_usage_is_bounded(sandbox, software, monkeypatch):
    monkeypatch.setattr(open_api, "MAX_CLIENTS_A_DAY", 3)
    monkeypatch.setattr(open_api, "MAX_USES", 2)
    codes = [(await buy(sandbox))["license"] for _ in range(3)]
    await software.activate_all(codes)
    for code in codes:
        await software.report_usage({code: ["a", "b"]})
        await software.report_usage({code: ["b", "c", "d", "e"]})

    counted = (await sandbox.http.get("/sandbox/codes")).json()["usage"]

    assert {one["license"]: one["clients"] for one in counted} == {codes[1]: 3, codes[2]: 3}


async def test_old_software_that_names_its_user_in_the_query_is_counted(sandbox, state, software):
    code = (await buy(sandbox))["license"]
    await software.activate(code)
    body = b'{"license":"%b","heartbeatInfo":{"thirdPartyAccount":"myaccount1","ip":"192.168.1.51"}}' % code.encode()

    for _ in range(2):
        assert (await raw(sandbox, state, "POST", "/v1/license/heartbeat", body)).status_code == 200

    [counted] = (await sandbox.http.get("/sandbox/codes")).json()["usage"]
    assert (counted["license"], counted["clients"], counted["active_num"]) == (code, 1, None)


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"product_id":""}', b'{"product_id":"O","count":101}', b'{"product_id":"O","days":0}', b'{"product_id":"O","days":367}'],
)  # fmt: skip
async def test_an_application_for_test_codes_that_is_none_is_400(local, body):
    assert (await local.http.post("/sandbox/test-codes", content=body)).status_code == 400
    assert not local.state.codes
