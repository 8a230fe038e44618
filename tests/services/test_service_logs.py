"""Nothing secret reaches the log, whatever goes wrong; the last net catches what the rule forgot."""

import io
import json
import logging
import sys

import pytest
import structlog

from licensesvc import logs
from licensesvc.app import create_app
from licensesvc.settings import Settings
from tests.support_edges import KEY, ask, call, get_license_target, open_shop
from tests.support_web import started

TOKEN = "lsa_abcdefgh_" + "x" * 43
CODE = "LS-7ZK2M-9QW4T-X3HVC-8RNE5-0J6DB"
JWS = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJsaWMifQ.c2lnbmF0dXJl"


@pytest.fixture(params=["sqlite"])
def engine(request):
    """Errors look alike on both engines."""
    return request.param


@pytest.fixture
def log(monkeypatch):
    """What the configured pipeline writes."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    logs.configure("debug")
    monkeypatch.setattr(logging.getLogger("asyncio"), "level", logging.WARNING)
    structlog.configure(cache_logger_on_first_use=False)
    yield written
    root.handlers, _ = handlers, root.setLevel(level)
    structlog.reset_defaults()


CANARIES = {
    "an admin token": TOKEN,
    "a code of ours": CODE,
    "a code typed in lower case": CODE.lower(),
    "a code of the marketplace": "PLcanary0001",
    "a signed document": JWS,
    "a signature": "SDK-HMAC-SHA256 Access=AK1, SignedHeaders=host, Signature=" + "ab" * 32,
    "an authToken": "GET /callbacks/x?authToken=Zm9vYmFy&activity=getLicense",
    "a DSN": "postgresql://seller:canary@db.example/licenses",
}
SECRET_PART = {
    "a signature": "ab" * 32,
    "an authToken": "Zm9vYmFy",
    "a DSN": "seller:canary",
}


@pytest.mark.parametrize("name", CANARIES)
@pytest.mark.parametrize(
    "write",
    [
        lambda text: structlog.get_logger("x").warning(f"event {text}"),
        lambda text: structlog.get_logger("x").warning("event", note=text),
        lambda text: structlog.get_logger("x").warning("event", note={"deep": [text, {"er": (text,)}]}),
        lambda text: structlog.get_logger("x").warning("event", note=text.encode()),
        lambda text: structlog.get_logger("x").warning("event", note=ValueError(text)),
        lambda text: structlog.get_logger("x").warning("event", note={text}),
        lambda text: structlog.get_logger("x").warning("event", exc_info=ValueError(text)),
        lambda text: logging.getLogger("library").error("event %s", text),
        lambda text: logging.getLogger("library").error("event", exc_info=ValueError(text)),
    ],
    ids=["event", "value", "nested", "bytes", "exception", "set", "traceback", "foreign", "foreign traceback"],
)
def test_what_looks_like_a_secret_is_masked_wherever_it_stands(log, name, write):
    text = CANARIES[name]

    write(text)

    (line,) = log.getvalue().splitlines()
    json.loads(line)
    assert logs.MASK in line
    assert SECRET_PART.get(name, text) not in line


@pytest.mark.parametrize(
    "name", ["secret", "api_secret", "password", "Authorization", "authToken", "access_key", "fingerprint", "signature"]
)
def test_values_under_secret_names_are_masked(log, name):
    structlog.get_logger("x").info("event", **{name: "canary"}, nested={name: "canary"})

    assert "canary" not in log.getvalue()


def test_a_public_id_and_a_request_id_stay_readable(log):
    structlog.get_logger("x").info("event", subject="lic_01m7q5cqg06b2d02vvh0qp0jsk", request_id="0f" * 16)

    assert "lic_01m7q5cqg06b2d02vvh0qp0jsk" in log.getvalue()
    assert "0f" * 16 in log.getvalue()


async def test_no_error_of_the_edges_tells_a_secret(rt, log):
    shop = await open_shop(rt)
    pair = await shop.pair()
    code = await shop.sell_code()
    app = create_app(rt, Settings(log_level="debug"))
    fingerprint, name = "00:1A:2B|CANARY-DISK", "Canary Person"
    target = get_license_target(shop, rt.clock(), customerName=name)

    async def every_door():
        for path in ("activate", "heartbeat"):
            fields = {"license": code, "heartbeatInfo": {"thirdPartyAccount": fingerprint}}
            await call(app, pair, f"/api/mkp-openapi-public/global/v1/license/{path}", fields, rt.clock())
        for path in ("licenses/document", "licenses/validate", "activations"):
            body = json.dumps({"code": code, "fingerprint": fingerprint, "nonce": "n"}).encode()
            await ask(app, "POST", f"/v1/{path}", headers=[("Content-Type", "application/json")], body=body)
        await ask(app, "GET", target)
        await ask(app, "POST", target, body=json.dumps({"license": code, "email": name}).encode())

    async with started(app):
        await every_door()
        await rt.db.close()
        await every_door()

    assert "storage_failed" in log.getvalue()
    for secret in (code, pair.secret, KEY, fingerprint, name, target.rpartition("authToken=")[2]):
        assert secret not in log.getvalue()
