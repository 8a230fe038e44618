"""Planted secrets: a real server at log level debug meets each of them everywhere a caller can put it, and none comes out again.

Searched are the log, every error answer, the metrics, the command lines of the processes, a backup, and for buyers' links the whole data
directory, also for encoded forms.
"""

import base64
import json
import re
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, urlencode

import httpx2
import msgspec
import pytest
import structlog

from licensesvc import logs
from licensesvc.marketplace.huawei import signature_v1, signature_v2
from tests.support_canaries import NAMES, PUBLIC_URL, House, Post, found, invented, running_post
from tests.support_edges import ACTIVATE, HEARTBEAT

NUMBER = 40
"""Fewer canaries than this prove too little."""


@pytest.fixture
def post() -> Iterator[tuple[Post, int]]:
    with running_post() as running:
        yield running


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def use(house: House, data: Path) -> None:
    """The everyday life of a shop, with every secret that it has."""
    canaries = house.canaries
    key, account = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    canaries |= {"callback key": key, "API secret": account}
    for name in ("signing-keys.json", "vault-keys.json"):
        content = json.loads((data / name).read_text())
        for number, entry in enumerate(content["keys"]):
            canaries[f"{name} {number}"] = entry.get("private") or entry.get("secret")
    canaries["index key"] = json.loads((data / "vault-keys.json").read_text())["index"]
    connection = house.admin(
        "POST",
        "/connections",
        {
            "name": "cn",
            "site": "cn",
            "base_url": "http://127.0.0.1:9",
            "callback_key": key,
            "api_access_key": canaries["access key"],
            "api_secret": account,
        },
    )
    policy = house.admin("POST", "/policies", {"name": "for good", "term": "PERPETUAL", "seats": 2})
    product = house.admin(
        "POST",
        "/products",
        {
            "connection": connection["id"],
            "policy": policy["id"],
            "name": "Widget",
            "marketplace_product_id": "OFFI1",
            "delivery_kind": "LICENSE_1_0",
        },
    )
    pair = house.admin(
        "POST",
        "/credentials",
        {"connection": connection["id"], "product": product["id"], "scope": "device", "name": "widget"},
    )
    canaries |= {"software's access key": pair["access_key"], "software's secret key": pair["secret_key"]}
    house.admin("POST", "/alert-channels", {"name": "ops", "kind": "mail", "address": canaries["mail address, tagged"]})
    house.admin(
        "PUT",
        f"/delisting-guard/{connection['id']}/failed-orders",
        {"month": time.strftime("%Y-%m", time.gmtime()), "failed_orders": 9},
    )
    gateway = house.admin(
        "POST",
        "/alert-channels",
        {
            "name": "text messages",
            "kind": "webhook",
            "address": "https://gateway.example/send",
            "recipient": canaries["mobile number"],
            "template": {"to": "$recipient"},
            "secret_header": "Authorization",
            "secret": canaries["AWS-like secret key"],
        },
    )
    house.admin("POST", f"/alert-channels/{gateway['id']}/test")
    endpoint = {"url": "https://hooks.example/", "events": ["keys.compromised"], "signatures": ["v1", "v1a"]}
    made = house.admin("POST", "/webhook-endpoints", endpoint)
    rotated = house.admin("POST", f"/webhook-endpoints/{made['id']}/rotate-secret", {})
    canaries |= {"endpoint's secret": made["secret"], "endpoint's next secret": rotated["secret"]}
    door = f"/callbacks/{connection['id']}"
    stamp = time.strftime("%Y%m%d%H%M%S", time.gmtime()) + "000"
    device = {"name": "identificationCode", "value": canaries["fingerprint, hex"]}
    call = {
        "activity": "getLicense",
        "businessId": "b1",
        "customerId": "c1",
        "customerName": canaries["mail address"],
        "orderId": "CS1",
        "productId": "OFFI1",
        "timeStamp": stamp,
        "email": canaries["mail address, tagged"],
        "mobilePhone": canaries["mobile number"],
        "saasExtendParams": base64.b64encode(quote(json.dumps([device])).encode()).decode(),
    }
    token = signature_v1.auth_token(call.items(), key)
    delivered = house.send("GET", f"{door}?{urlencode({**call, 'authToken': token})}")
    code = delivered.json()["license"]
    canaries |= {"real authToken": token, "real code": code}
    canaries["real Body-Sign"] = delivered.headers["body-sign"].partition('signature="')[2].rstrip('"')
    body = msgspec.json.encode({"activity": "orderNotify", "orderId": "CS1", "orderLineId": "CS1-000001"})
    now = time.time_ns() // 1_000_000
    nonce = secrets.token_hex(12)
    canaries["callback nonce"] = nonce
    signature = signature_v2.sign_url(body, key, nonce, now)
    house.send("POST", f"{door}?signature={signature}&timestamp={now}&nonce={nonce}", content=body)
    for path in (ACTIVATE, ACTIVATE, HEARTBEAT):
        house.software(path, pair["access_key"], pair["secret_key"], {"license": code})
    house.software(ACTIVATE, pair["access_key"], "not it", {"license": code})
    asked = {"code": code, "fingerprint": canaries["fingerprint, MAC"]}
    house.send("POST", "/v1/activations", json=asked)
    house.send("POST", "/v1/licenses/validate", json={**asked, "nonce": canaries["nonce"]})
    document = house.send("POST", "/v1/licenses/document", json={"code": code}).json()["document"]
    canaries["real document"] = document
    license_id = house.admin("GET", "/licenses", params={"order_id": "CS1"})["items"][0]["id"]
    house.admin("GET", f"/licenses/{license_id}/code")
    submitted = {
        "policy": policy["id"],
        "connection": connection["id"],
        "name": "Bound",
        "marketplace_product_id": "OFFI2",
    }
    bound = house.admin("POST", "/products", {**submitted, "delivery_kind": "LICENSE_1_0_HARDWARE_CODE"})
    order = {"connection": connection["id"], "order_id": "CS2", "lines": [{"product": bound["id"]}]}
    order["buyer"] = {"customer_id": "c2", "email": canaries["mail address"]}
    case = f"/supervision-cases/{house.admin('POST', '/orders', order)['lines'][0]['case']}"
    hardware = {"event": "code_submitted", "actor": "buyer", "buyer_code": canaries["fingerprint, hex"]}
    house.admin("POST", f"{case}/events", hardware)
    house.admin("GET", f"{case}/buyer-code")
    canaries["link, shown"] = house.admin("POST", f"{case}/buyer-links", {"days": 7})["url"]
    canaries["link, its token"] = token = canaries["link, shown"].rpartition("/")[2]
    for path in (f"/buyer/{token}", f"/buyer/{token}?ask=accept", f"/buyer/{token}/case"):
        house.send("GET", path)
    house.send("POST", f"/buyer/{token}", data={"action": token, "version": token})
    house.send("POST", f"/buyer/{token}/actions", json={"action": token, "version": 1})
    house.send("GET", f"/buyer/{token}/proofs/{token}")
    house.send("GET", "/admin/v1/supervision-cases", params={"node": token, "flow": code}, headers=house.bearer)
    house.send("POST", f"/admin/v1{case}/events", json={"event": code}, headers=house.bearer)


def mail(house: House, post: Post) -> None:
    """A link that goes out by mail, at the second attempt."""
    (case,) = house.admin("GET", "/supervision-cases", params={"order_id": "CS2"})["items"]
    house.admin("POST", f"/supervision-cases/{case['id']}/buyer-links/mail", {"days": 7})
    item = worked_off(house, "given_up")
    assert "550" in item["last_error"]
    house.admin("POST", f"/outbox/{item['id']}/retry", {"reason": "asked"})
    worked_off(house, "done")
    (house.canaries["link, mailed"],) = post.links
    house.canaries["link, mailed, its token"] = token = post.links[0].rpartition("/")[2]
    assert house.send("GET", f"/buyer/{token}").status_code == 200


def worked_off(house: House, state: str) -> dict:
    for _ in range(400):
        found = house.admin("GET", "/outbox", params={"kind": "mail_buyer_link", "state": state})["items"]
        if found:
            return found[0]
        time.sleep(0.05)  # the server works off its outbox in its own time
    raise AssertionError(house.admin("GET", "/outbox"))


def plant(house: House, canary: str) -> None:
    """One secret in every place of a request where a confused program could put it."""
    place = quote(canary, safe="")
    header = canary.encode("ascii")
    for path in (
        "",
        "/v1/activations",
        "/admin/v1/licenses",
        "/callbacks",
        "/buyer",
        "/verify",
        "/admin/v1/buyer-links",
    ):
        house.send("GET", f"{path}/{place}")
    for path in ("/admin/v1/licenses", "/callbacks/con_x", "/healthz", "/nowhere", ACTIVATE):
        for name in ("code", "authToken", "signature", "q"):
            house.send("GET", f"{path}?{name}={place}")
    for name in ("Authorization", "Cookie", "User-Agent", "Referer", "traceparent", "X-Sdk-Date", "Idempotency-Key"):
        house.send("GET", "/admin/v1/tokens", headers={name: header})
    house.send("GET", "/admin/v1/tokens", headers={"Authorization": b"Bearer " + header})
    house.send(
        "POST", ACTIVATE, json={"license": canary}, headers={"Authorization": b"SDK-HMAC-SHA256 Access=" + header}
    )
    wrong = [
        {"code": canary},
        {"code": canary, "fingerprint": canary},
        {"code": [canary]},
        {"code": 1, "nonce": canary},
    ]
    for body in wrong:
        for path in ("/v1/licenses/document", "/v1/activations", "/v1/licenses/validate"):
            house.send("POST", path, json=body)
    for body in (f'{{"code":"{canary}"', f'"{canary}"', canary):
        house.send("POST", "/v1/activations", content=body.encode(), headers={"Content-Type": "application/json"})
    house.send("POST", "/v1/activations", content=canary.encode(), headers={"Content-Type": "text/plain"})


def test_no_planted_secret_comes_out(
    data: Path, start, free_port: int, post: tuple[Post, int], licensesvc, tmp_path: Path
):
    owner = json.loads(
        licensesvc("admin", "create-token", "--name", "o", "--json", "--data-dir", data, PYTHONUTF8="1").stdout
    )["token"]
    server = start(
        "serve",
        "--data-dir",
        data,
        "--port",
        0,
        LICENSESVC_LOG_LEVEL="debug",
        LICENSESVC_METRICS_PORT=str(free_port),
        LICENSESVC_PUBLIC_URL=PUBLIC_URL,
        LICENSESVC_SMTP_URL=f"smtp+plain://localhost:{post[1]}",
        LICENSESVC_MAIL_FROM="licenses@seller.example",
    )
    house = House(server.url, owner)
    house.canaries |= {"owner's token": owner, **invented()}
    with house.http:
        use(house, data)
        mail(house, post[0])
        for canary in list(house.canaries.values()):
            plant(house, canary)
    page = httpx2.get(f"http://127.0.0.1:{free_port}/metrics", trust_env=False).text
    command_line = Path(f"/proc/{server.process.pid}/cmdline").read_bytes().decode()
    server.stop()
    log = (tmp_path / "stderr.log").read_text()

    at_rest = b"".join(path.read_bytes() for path in data.rglob("*") if path.is_file()).decode("latin-1")

    licensesvc("backup-key", tmp_path / "identity")
    recipient = re.search(r"age1[a-z0-9]+", (tmp_path / "identity").read_text())[0]
    licensesvc("backup", tmp_path / "backup.age", "--data-dir", data, "--recipient", recipient)
    saved = (tmp_path / "backup.age").read_bytes().decode("latin-1")

    assert len(house.canaries) >= NUMBER
    assert len(saved) > 10_000
    assert log.count('"event":"request"') > 30 * NUMBER
    assert len(house.refused) > 20 * NUMBER
    assert "licensesvc_licenses" in page
    assert "serve" in command_line
    for place, text in {"log": log, "metrics": page, "/proc": command_line, "backup": saved}.items():
        assert found(text, house.canaries) == [], place
    links = {name: canary for name, canary in house.canaries.items() if name.startswith("link")}
    assert len(links) == 4
    assert found(at_rest, links) == []
    for answer in house.refused:
        assert found(answer, house.canaries) == [], answer


@pytest.mark.parametrize("command", ["serve", "check-config", "migrate", "audit"])
def test_a_dsn_stays_inside_however_the_start_fails(data: Path, licensesvc, command: str):
    canary = {"password": secrets.token_hex(8)}
    dsn = f"postgresql://seller:{canary['password']}@127.0.0.1:9/licenses"
    outcome = licensesvc(command, "--data-dir", data, LICENSESVC_DATABASE_URL=dsn, LICENSESVC_LOG_LEVEL="debug")

    assert outcome.returncode != 0
    assert found(outcome.stdout + outcome.stderr, canary) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_search_finds_what_leaks(name: str):
    """The control: a log that held the secret, in any form, would not pass."""
    canary = invented()[name]
    for leaked in (canary, quote(canary, safe=""), json.dumps({"x": canary}), canary.encode().hex()):
        assert found(f"… {leaked} …", {name: canary}) == [name]
    assert found(base64.b64encode(canary.encode()).decode(), {name: canary}) == [name]
    assert found("…", {name: canary}) == []


SHAPELESS = {"AWS-like secret key", "fingerprint, MAC", "fingerprint, hex", "nonce", "password"}
"""Random texts without a form of their own: only the names beside them tell."""
NAMED = {
    "authToken": "authToken={}",
    "Body-Sign": 'sign_type="HMAC-SHA256", signature="{}"',
    "signature": "Access=x, Signature={}",
    "URL signature": "GET /?signature={}&timestamp=1",
    "password": "password={}",
    "nonce": "/x?nonce={}",
}


@pytest.mark.parametrize("name", NAMES)
def test_the_last_net_masks_a_secret_that_reached_a_record(name: str):
    canary = invented()[name]
    if name not in SHAPELESS or name in NAMED:
        text = f"refused: {NAMED.get(name, '{}').format(canary)} (again)"
        record = {"event": text, "deep": [{"x": (text,)}], "exception": f"Traceback\nValueError: {text}"}
        assert found(str(logs.redact(None, "info", record)), {name: canary}) == []
    for field in (
        "fingerprint",
        "identification_code",
        "secret_key",
        "api_secret",
        "password",
        "nonce",
        "code",
        "license_code",
        "authorization",
    ):
        assert logs.redact(None, "info", {"event": "x", field: canary, "deep": {field: canary}}) == {
            "event": "x",
            field: logs.MASK,
            "deep": {field: logs.MASK},
        }


@pytest.mark.parametrize(
    "text",
    [
        "GET /v1/activations/{activation_id} 200",
        "lic_01J5Z6Q8W9X0Y1Z2A3B4C5D6E7 activated by crd_01J5Z6Q8W9X0Y1Z2A3B4C5D6E7",
        "error_code=92020003 status_code=200",
        "7a1dada91019468c897a1be6602d4914",
        "2026-11-23T17:16:18.747545Z took 1798000000000 ms",
        "PLAIN PLACE",
        "0af7651916cd43dd8448eb211c80319c",
        "kid Jf6B-EvouEco_jY3OkHuYeMhQS8RiJuwHSNn4kADUmI",
    ],
)
def test_the_last_net_leaves_the_rest_alone(text: str):
    assert logs.redact(None, "info", {"event": text}) == {"event": text}


def test_an_exception_in_a_record_is_masked_whole(capfd):
    canary = invented()["DSN"]
    logs.configure("info")
    try:
        structlog.get_logger("x").error("failed", detail=canary, exc_info=ValueError(canary))
    finally:
        structlog.reset_defaults()

    written = capfd.readouterr().err
    assert "ValueError" in written
    assert found(written, {"DSN": canary.partition("seller:")[2].partition("@")[0]}) == []
