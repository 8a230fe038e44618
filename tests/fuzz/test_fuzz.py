"""Promise 6: no input makes a 5xx. 200,000 broken requests go into the application; nothing in it is a double.

Most are signed as they should be, so that they reach what lies behind the signature. Besides the status, nothing may be logged as an
error: the compatible APIs answer an unexpected failure with a code of theirs and HTTP 200.
"""

import asyncio
import os
import random
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import structlog

from licensesvc.marketplace.huawei import signature_v1, signature_v2
from licensesvc.services.access.manage_tokens import CreateToken, create_token
from licensesvc.storage.credentials import Role, Scope
from tests import support_mutations as broken
from tests.support_edges import HOST, KEY, ROOT, Answer, Edge, Pair, ask, open_edge, signed_headers

INPUTS = int(os.environ.get("LICENSESVC_FUZZ_INPUTS", "200000"))
"""Of all doors together; 1,000,000 before a release."""
AT_ONCE = 64
SEED = int(os.environ.get("LICENSESVC_FUZZ_SEED", "20261125"))
MEMORY = Path("/dev/shm")

STAMP = "20271231235959"
CALLBACKS = (
    {"activity": "orderNotify", "orderId": "CS1", "orderLineId": "CS1-000001", "testFlag": "0"},
    {
        "activity": "refreshLicenseCode",
        "scene": "RENEWAL",
        "orderId": "CS2",
        "orderLineId": "CS2-000001",
        "license": "PL000000001",
        "productId": "OFFI100",
        "expireTime": STAMP,
        "testFlag": "0",
    },
    {"activity": "updateLicenseCodeStatus", "license": "PL000000001", "status": "FREEZE", "testFlag": "0"},
    {
        "activity": "releaseLicenseCode",
        "license": "PL000000001",
        "orderId": "CS3",
        "orderLineId": "CS3-000001",
        "testFlag": "1",
    },
)
QUERIES = (
    {
        "activity": "getLicense",
        "customerId": "c1",
        "customerName": "n",
        "businessId": "b1",
        "orderId": "CS1",
        "skuCode": "",
        "productId": "OFFI100",
        "expireTime": STAMP,
        "periodType": "year",
        "periodNumber": "1",
        "amount": "2",
        "saasExtendParams": "W3sibmFtZSI6ImlkZW50aWZpY2F0aW9uQ29kZSIsInZhbHVlIjoieCJ9XQ==",
    },
    {
        "activity": "refreshLicense",
        "orderId": "CS2",
        "instanceId": "b1",
        "productId": "OFFI100",
        "expireTime": STAMP,
        "periodType": "year",
        "periodNumber": "1",
    },
    {"activity": "expireLicense", "orderId": "CS1", "instanceId": "b1"},
    {"activity": "releaseLicense", "orderId": "CS1", "instanceId": "b1", "testFlag": "1"},
)
SOFTWARE = (
    ("/v1/license/activate", {"license": "PL000000001", "real_effect_time": STAMP}),
    (
        "/v1/license/heartbeat",
        {"license": "PL000000001", "heartbeatInfo": {"thirdPartyAccount": "a", "ip": "192.0.2.1"}},
    ),
    ("/v2/license/activate", {"license_list": ["PL000000001", "PL000000002"], "real_effect_time": STAMP}),
    ("/v2/license/heartbeat", {"license_list": ["PL000000001", "PL000000002"]}),
    (
        "/v2/license/software-usage-info",
        {"usage_info": [{"license": "PL000000001", "software_usage_Info": [{"id": "account1"}, {"active_num": 100}]}]},
    ),
)
NATIVE = (
    ("POST", "/v1/licenses/document", {"code": "LS-00000-00000-00000-00000-00000"}),
    ("POST", "/v1/licenses/validate", {"code": "LS-00000-00000-00000-00000-00000", "nonce": "n" * 16, "fingerprint": "f"}),
    ("POST", "/v1/activations", {"code": "LS-00000-00000-00000-00000-00000", "fingerprint": "f"}),
    ("DELETE", "/v1/activations/act_x", {}),
)  # fmt: skip
MALFORMED_ID = b'{"resultCode":"MKT.0100","resultMsg":"Failure of input parameter"}'
"""The one 5xx that the marketplace documents for what a caller did wrong (spec §1.6)."""
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW", "")


class Fuzzed:
    """The application, and everything that a well-informed stranger may hold."""

    def __init__(self, edge: Edge, seller: Pair, token: str, admin: list[tuple[str, str]]) -> None:
        self.edge = edge
        self.seller = seller
        self.token = token
        self.admin = admin


Door = Callable[[Fuzzed, random.Random], Awaitable[Answer]]


async def callback(held: Fuzzed, dice: random.Random) -> Answer:
    """A POST to the production URL, signed by the marketplace's key five times of six."""
    body = broken.document(dice, dice.choice(CALLBACKS))
    now, nonce = held.edge.clock.now, f"{dice.getrandbits(128):032x}"
    key = KEY if dice.random() < 0.83 else broken.text(dice) or "x"
    pairs = {"signature": signature_v2.sign_url(body, key, nonce, now), "timestamp": str(now), "nonce": nonce}
    wrong = [*pairs.items()] if dice.random() < 0.83 else broken.parameters(dice, pairs)
    return await ask(held.edge.app, "POST", f"{held.edge.shop.url}?{broken.query(dice, wrong)}", body=body)


async def callback_v1(held: Fuzzed, dice: random.Random) -> Answer:
    """A GET to the production URL, signed in most cases."""
    pairs = broken.parameters(dice, {**dice.choice(QUERIES), "timeStamp": "20261118110640000"})
    if dice.random() < 0.83:
        pairs.append(("authToken", _token(pairs)))
    return await ask(held.edge.app, "GET", f"{held.edge.shop.url}?{broken.query(dice, pairs)}")


def _token(pairs: list[tuple[str, str]]) -> str:
    try:
        return signature_v1.auth_token(dict(pairs).items(), KEY)
    except KeyError:  # nothing can be signed without its timeStamp
        return "x"


async def software(held: Fuzzed, dice: random.Random) -> Answer:
    """A call of the compatible API, signed."""
    path, right = dice.choice(SOFTWARE)
    return await _signed(held, dice, "POST", ROOT + path, broken.document(dice, right), held.edge.pair)


async def order_query(held: Fuzzed, dice: random.Random) -> Answer:
    """A query for an order, signed by a seller's credential."""
    pairs = broken.parameters(dice, {"orderId": "MOCKPERIODYEARNEW", "orderLineId": "CS1-000001"})
    return await _signed(held, dice, "GET", f"{ROOT}/v1/order/query?{broken.query(dice, pairs)}", b"", held.seller)


async def _signed(held: Fuzzed, dice: random.Random, method: str, target: str, body: bytes, pair: Pair) -> Answer:
    headers = signed_headers(pair, target, body, held.edge.clock.now, method=method)
    if dice.random() < 0.1:
        name = dice.choice([*headers, "X-Sdk-Content-Sha256", "Content-Length"])
        headers[name] = broken.text(dice).encode("utf-8").decode("latin-1")[:300]
    return await ask(held.edge.app, method, target, headers=headers.items(), body=body)


async def native(held: Fuzzed, dice: random.Random) -> Answer:
    """A call of the native API, whose only secret is the code."""
    method, target, right = dice.choice(NATIVE)
    return await ask(held.edge.app, method, target, headers=_json(dice), body=broken.document(dice, right))


async def administrator(held: Fuzzed, dice: random.Random) -> Answer:
    """An owner's call of any admin route, with a body made up from names that bodies have."""
    method, target = dice.choice(held.admin)
    right = {name: broken.value(dice) for name in dice.sample(FIELDS, 3)}
    headers = [
        *_json(dice),
        ("Authorization", f"Bearer {held.token}"),
        ("If-Match", dice.choice(['"1"', "*", "x", '"0"'])),
    ]
    query = broken.query(dice, broken.parameters(dice, {dice.choice(FIELDS): "1", "limit": "10"}))
    return await ask(held.edge.app, method, f"{target}?{query}", headers=headers, body=broken.document(dice, right))


async def noise(held: Fuzzed, dice: random.Random) -> Answer:
    """Whatever a scanner sends."""
    known = [
        "/",
        "/schema",
        "/healthz",
        "/readyz",
        "/.well-known/jwks.json",
        "/admin/v1/orders",
        "/callbacks/x",
        "/problems/x",
        "/v1/activations",
    ]
    target = dice.choice(known) + dice.choice(["", "/", "//", "/..%2f", "%00", "?", "?x=%ff", "/" + "a" * 5000])
    headers = [(dice.choice(["Content-Type", "Accept", "Cookie", "Range", "X-Forwarded-For", "Authorization", "traceparent"]), broken.text(dice).encode().decode("latin-1")[:300]) for _ in range(3)]  # fmt: skip
    body = dice.randbytes(dice.choice((0, 1, 100, 2000)))
    return await ask(held.edge.app, dice.choice(METHODS), target, headers=headers, body=body)


def _json(dice: random.Random) -> list[tuple[str, str]]:
    right = dice.random() < 0.9
    return [("Content-Type", "application/json" if right else broken.text(dice).encode().decode("latin-1")[:300])]


FIELDS = ["name", "reason", "connection", "policy", "product", "order_id", "lines", "site", "event", "actor", "kind", "code", "quantity", "expires_at", "period", "note", "url", "terms", "seats", "scope", "role", "limit", "cursor", "node", "month", "amount", "from", "to", "messages", "activity"]  # fmt: skip
DOORS: dict[str, tuple[Door, float]] = {
    "callback": (callback, 0.15),
    "callback_v1": (callback_v1, 0.10),
    "software": (software, 0.40),
    "order_query": (order_query, 0.10),
    "native": (native, 0.10),
    "administrator": (administrator, 0.10),
    "noise": (noise, 0.05),
}
"""Each door with its share of all inputs."""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=MEMORY) as made:
        yield Path(made)


async def hold(edge: Edge) -> Fuzzed:
    command = CreateToken(name="owner", role=Role.OWNER)
    _, token = await edge.rt.db.write(lambda tx: create_token(tx, edge.rt, command, by="cli"))
    document = await ask(edge.app, "GET", "/schema/openapi.json")
    admin = [
        (method.upper(), path.replace("{", "").replace("}", ""))
        for path, operations in document.json["paths"].items()
        for method in operations
        if path.startswith("/admin/v1")
    ]
    return Fuzzed(edge, await edge.shop.pair(Scope.SELLER), token, admin)


async def fuzz(held: Fuzzed, door: Door, count: int, seed: int) -> None:
    """Send so many inputs and let none come to a 5xx or to a logged error."""
    with structlog.testing.capture_logs() as logged:
        for start in range(0, count, AT_ONCE):
            seeds = range(seed + start, seed + min(start + AT_ONCE, count))
            answers = await asyncio.gather(*(door(held, random.Random(one)) for one in seeds))  # noqa: S311
            bad = [(one, answer.status, answer.body[:300]) for one, answer in zip(seeds, answers, strict=True) if (answer.status >= 500 and answer.body != MALFORMED_ID) or not answer.status]  # fmt: skip
            errors = [entry for entry in logged if entry["log_level"] in {"error", "critical"}]
            assert not bad and not errors, (bad[:3], errors[:3], f"seeds {seeds}")  # noqa: PT018
            logged.clear()


@pytest.mark.parametrize("name", DOORS)
async def test_no_input_is_an_internal_error(name: str, directory: Path):
    door, share = DOORS[name]
    async with open_edge(directory) as edge:
        held = await hold(edge)
        await edge.shop.sell_code("CS9")
        await fuzz(held, door, int(INPUTS * share), SEED)
        alive = await ask(edge.app, "GET", "/healthz", headers=[("Host", HOST)])
        assert alive.status == 200


def test_the_shares_make_a_whole():
    assert sum(share for _, share in DOORS.values()) == pytest.approx(1)


async def test_control_an_input_that_breaks_the_server_is_found(directory: Path, monkeypatch: pytest.MonkeyPatch):
    """A planted bug: one activity in all the inputs meets a KeyError."""
    from licensesvc.web.callbacks import routes

    def planted(fields: Mapping[str, object], _said: object) -> str:
        return str(fields["activity"])

    monkeypatch.setattr(routes, "_told", planted)
    async with open_edge(directory) as edge:
        held = await hold(edge)
        with pytest.raises(AssertionError, match="callback_failed"):
            await fuzz(held, callback, 2_000, SEED)
