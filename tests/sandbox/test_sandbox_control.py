"""The control routes: what they answer, whom they refuse, what bad input does."""

import httpx2
import pytest

from licensesvc.sandbox.app import create_sandbox

GOOD = b'{"product_id":"OFFI1","dialect":"LICENSE_1_0","notify":false,"deliver":false}'


@pytest.fixture
def sandbox(local):
    """These tables are long, and none of them calls a seller."""
    return local


def with_member(member):
    return GOOD[:-1] + b"," + member + b"}"


async def test_a_placed_order_is_shown_and_listed(sandbox):
    response = await sandbox.http.post("/sandbox/orders", content=GOOD)
    placed = response.json()

    assert response.status_code == 201
    assert {"order_id", "order_line_id", "license", "deliveries"} <= placed.keys()
    assert placed["deliveries"] == []
    assert (await sandbox.http.get(f"/sandbox/orders/{placed['order_id']}")).json() == placed
    del placed["deliveries"]
    assert (await sandbox.http.get("/sandbox/orders")).json() == {"orders": [placed], "total": 1}


async def test_the_list_is_newest_first_and_bounded(sandbox, monkeypatch):
    monkeypatch.setattr("licensesvc.sandbox.control.LISTED_ORDERS", 2)
    ids = [(await sandbox.http.post("/sandbox/orders", content=GOOD)).json()["order_id"] for _ in range(3)]

    listed = (await sandbox.http.get("/sandbox/orders")).json()

    assert [order["order_id"] for order in listed["orders"]] == ids[:0:-1]
    assert listed["total"] == 3


async def test_a_call_that_nobody_could_receive_is_refused_before_the_order_exists(sandbox):
    response = await sandbox.http.post("/sandbox/orders", content=b'{"product_id":"OFFI1","dialect":"GENERAL"}')

    assert response.status_code == 409
    assert "callback URL" in response.json()["detail"]
    assert not sandbox.state.orders


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 10_000,
        b'{"a":' * 2_000,
        b"{}",
        b'{"product_id":"OFFI1"}',
        b'{"dialect":"LICENSE_1_0"}',
        with_member(b'"surplus":1'),
        with_member(b'"product_id":"OFFI2"'),
        with_member(b'"amount":0'),
        with_member(b'"amount":-1'),
        with_member(b'"amount":10000000'),
        with_member(b'"amount":"5"'),
        with_member(b'"amount":1.5'),
        with_member(b'"amount":1e400'),
        with_member(b'"amount":NaN'),
        with_member(b'"amount":' + b"9" * 5_000),
        with_member(b'"period_type":"week"'),
        with_member(b'"period_type":"YEAR"'),
        with_member(b'"period_number":1'),
        with_member(b'"period_type":"year","period_number":0'),
        with_member(b'"period_type":"year","period_number":100'),
        with_member(b'"order_type":"new"'),
        with_member(b'"order_type":"GIFT"'),
        with_member(b'"sku_code":""'),
        with_member(b'"sku_code":"' + b"s" * 65 + b'"'),
        with_member(b'"sku_code":"\\u0000"'),
        with_member(b'"sku_code":"\\ud800"'),
        GOOD.replace(b"false", b"0"),
        GOOD.replace(b"OFFI1", b""),
        GOOD.replace(b"OFFI1", b"O" * 65),
        GOOD.replace(b"LICENSE_1_0", b"AI_ASSET"),
        GOOD.replace(b"LICENSE_1_0", b"license_1_0"),
    ],
)
async def test_bad_orders_are_400_and_leave_nothing(sandbox, body):
    response = await sandbox.http.post("/sandbox/orders", content=body, headers={"Content-Type": "application/json"})

    assert response.status_code == 400, response.text
    assert not sandbox.state.orders


async def test_a_large_body_is_413(sandbox):
    response = await sandbox.http.post("/sandbox/orders", content=b" " * 1_048_576)

    assert response.status_code == 413
    assert not sandbox.state.orders


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/callbacks/c",
        "127.0.0.1:8080/c",
        "ftp://127.0.0.1/c",
        "file:///etc/passwd",
        "http://",
        "http:///c",
        "http://user:secret@127.0.0.1/c",
        "http://127.0.0.1/c?a=1",
        "http://127.0.0.1/c?",
        "http://127.0.0.1/c#f",
        "http://127.0.0.1:99999/c",
        "http://127.0.0.1:0/c",
        "http://[::1/c",
        "http://127.0.0.1/c\r\nX: y",
        "http://127.0.0.1/" + "c" * 600,
        None,
        7,
    ],
)
async def test_an_address_that_cannot_be_called_is_refused(sandbox, url):
    response = await sandbox.http.put("/sandbox/seller", json={"callback_url": url})

    assert response.status_code == 400, response.text
    assert sandbox.state.seller_callback_url is None


@pytest.mark.parametrize("url", ["http://localhost:8080/callbacks/c", "https://seller.example/a/b", "http://[::1]:1/c"])
async def test_an_address_is_remembered(sandbox, url):
    assert (await sandbox.http.put("/sandbox/seller", json={"callback_url": url})).status_code == 204
    assert sandbox.state.seller_callback_url == url


@pytest.mark.parametrize("order_id", ["CS0000000000000", "%00", "x" * 1_000, "..%2F", "%FF"])
async def test_an_unknown_order_is_404(sandbox, order_id):
    assert (await sandbox.http.get(f"/sandbox/orders/{order_id}")).status_code == 404
    assert (await sandbox.http.post(f"/sandbox/orders/{order_id}/redeliver")).status_code == 404


ROUTES = [
    ("GET", "/sandbox/healthz"),
    ("GET", "/sandbox/orders"),
    ("POST", "/sandbox/orders"),
    ("GET", "/sandbox/orders/CS1"),
    ("POST", "/sandbox/orders/CS1/redeliver"),
    ("PUT", "/sandbox/seller"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:8081"},
        {"Origin": "null"},
        {"Host": "sandbox.example"},
        {"Host": "localhost.evil.example"},
        {"Host": "127.0.0.1.evil.example:8081"},
        {"Host": "localhost@evil.example"},
        {"Host": "10.0.0.1"},
        {"X-Forwarded-For": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
    ],
)
async def test_browsers_strange_names_and_proxied_callers_are_refused(sandbox, method, path, headers):
    response = await sandbox.http.request(method, path, headers=headers, content=GOOD)

    assert response.status_code == 403
    assert not sandbox.state.orders


@pytest.mark.parametrize("host", ["localhost", "LocalHost:8081", "127.0.0.1:1", "[::1]", "[::1]:8081"])
async def test_local_names_are_let_in(sandbox, host):
    assert (await sandbox.http.get("/sandbox/healthz", headers={"Host": host})).json() == {"status": "ok"}


@pytest.mark.parametrize(
    ("peer", "status"),
    [
        ("127.0.0.1", 200),
        ("127.8.9.1", 200),
        ("::1", 200),
        ("10.0.0.7", 403),
        ("203.0.113.7", 403),
        ("::ffff:1.2.3.4", 403),
    ],
)
async def test_only_peers_on_this_machine_are_let_in(state, peer, status):
    app = create_sandbox(state)
    transport = httpx2.ASGITransport(app, client=(peer, 5_000))
    async with app.lifespan(), httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        assert (await http.get("/sandbox/healthz")).status_code == status


async def test_the_open_api_does_not_ask_where_a_caller_comes_from(sandbox):
    path = "/api/mkp-openapi-public/global/v1/order/query"

    response = await sandbox.http.get(path, headers={"Host": "mkt.example", "Origin": "http://x"})

    assert response.json()["error_code"] == "APIG.0301"
