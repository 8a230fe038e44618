"""Whatever a marketplace, or somebody in its place, answers to a call about codes: it becomes one of four errors, in time."""

import asyncio
import gzip
import ssl
import time

import msgspec
import pytest
import trustme

from licensesvc.domain.instants import MINUTE, parse_rfc3339
from licensesvc.marketplace.huawei import aksk, open_api_client
from licensesvc.marketplace.huawei.answers import CodeFacts, UnknownShape
from licensesvc.marketplace.huawei.breaker import OPEN_TIME, BreakerOpen
from licensesvc.marketplace.huawei.client import Account, MarketplaceClient, MarketplaceUnreachable
from licensesvc.marketplace.huawei.orders import MalformedAnswer, MarketplaceRefusal
from tests.support_raw import answering, raw_server, response

NOW = parse_rfc3339("2025-05-22T02:03:04Z")
SECRET = "SKEXAMPLE000000000000000000000000000001"
CODE = "PLXXXXXX"
ACTIVATED = (
    rb'{"error_code":"92020000","error_msg":"success","data":{"license_code_info":'
    rb'"{\"status\":\"ALIVE\",\"expire_time\":\"20230726121646\",\"product_id\":\"12345\",\"amount\":2,\"order_id\":\"CS123\"}"}}'
)
"""The documented sample (spec §1.3)."""
FACTS = CodeFacts(status="ALIVE", expire_time="20230726121646", product_id="12345", order_id="CS123", amount=2)
GATEWAY = b'{"error_msg":"Incorrect IAM authentication information: verify aksk signature fail","error_code":"APIG.0301","request_id":"1"}'
UNREACHABLE, REFUSAL, MALFORMED = MarketplaceUnreachable, MarketplaceRefusal, MalformedAnswer


TLS = ssl.create_default_context()


@pytest.fixture
async def client():
    async with MarketplaceClient(TLS) as client:
        yield client


def account(*hosts, secret=SECRET):
    return Account(hosts=hosts, access_key="AKEXAMPLE0000000001", secret_key=secret)


def refusal(code, message="no", **more):
    return msgspec.json.encode({"error_code": code, "error_msg": message, **more})


async def test_a_call_carries_the_documented_body_and_a_signature_that_matches(client):
    async with raw_server(answering(response(ACTIVATED))) as server:
        facts = await open_api_client.activate(client, account(server.url), CODE, "20260102153555", NOW)

    assert facts == FACTS
    [request] = server.requests
    assert (request.method, request.path) == ("POST", "/v1/license/activate")
    assert request.body == b'{"license":"PLXXXXXX","real_effect_time":"20260102153555"}'
    signed = aksk.parse_request(
        "POST",
        request.target.encode(),
        b"",
        [(name.encode(), value.encode()) for name, value in request.headers.items()],
    )
    assert aksk.matches(signed, SECRET.encode(), request.body)
    assert not aksk.matches(signed, SECRET.encode(), request.body + b" ")


@pytest.mark.parametrize(
    ("call", "path", "body"),
    [
        (lambda c, a: open_api_client.activate(c, a, "P", None, NOW), "/v1/license/activate", {"license": "P"}),
        (
            lambda c, a: open_api_client.activate_batch(c, a, ["P", "Q"], "20260102153555", NOW),
            "/v2/license/activate",
            {"license_list": ["P", "Q"], "real_effect_time": "20260102153555"},
        ),
        (lambda c, a: open_api_client.query(c, a, "P", NOW), "/v1/license/heartbeat", {"license": "P"}),
        (
            lambda c, a: open_api_client.query_batch(c, a, ["P"], NOW),
            "/v2/license/heartbeat",
            {"license_list": ["P"]},
        ),
        (
            lambda c, a: open_api_client.report_usage(c, a, {"P": ["a", "b"], "Q": [7]}, NOW),
            "/v2/license/software-usage-info",
            {
                "usage_info": [
                    {"license": "P", "software_usage_Info": [{"id": "a"}, {"id": "b"}]},
                    {"license": "Q", "software_usage_Info": [{"active_num": 7}]},
                ]
            },
        ),
    ],
)
async def test_every_call_has_its_documented_form(client, call, path, body):
    async with raw_server(answering(response(refusal("92020001")))) as server:
        with pytest.raises(MarketplaceRefusal):
            await call(client, account(server.url))

    assert [(request.path, request.json) for request in server.requests] == [(path, body)]


HOSTILE = {
    "html": (response(b"<html>bad gateway</html>", "502 Bad Gateway"), MALFORMED),
    "html with 200": (response(b"<html>login</html>"), MALFORMED),
    "empty": (response(b""), MALFORMED),
    "no object": (response(b"[]"), MALFORMED),
    "no code": (response(b'{"error_msg":"x"}'), MALFORMED),
    "code is null": (response(b'{"error_code":null}'), MALFORMED),
    "code is an object": (response(b'{"error_code":{}}'), MALFORMED),
    "code without end": (response(refusal("9" * 2000)), MALFORMED),
    "key twice": (response(b'{"error_code":"92020000","error_code":"92020001"}'), MALFORMED),
    "bad UTF-8": (response(b'{"error_code":"\xff"}'), MALFORMED),
    "NUL": (response(rb'{"error_code":"9202\u0000"}'), MALFORMED),
    "half a pair": (response(rb'{"error_code":"\ud800"}'), MALFORMED),
    "too deep": (response(b'{"error_code":' + b"[" * 5000 + b"]" * 5000 + b"}"), MALFORMED),
    "NaN": (response(b'{"error_code":NaN}'), MALFORMED),
    "success without data": (response(b'{"error_code":"92020000"}'), UnknownShape),
    "data is null": (response(b'{"error_code":"92020000","data":null}'), UnknownShape),
    "data is an array": (response(b'{"error_code":"92020000","data":[]}'), UnknownShape),
    "info is no JSON": (response(b'{"error_code":"92020000","data":{"license_code_info":"{"}}'), UnknownShape),
    "info is a number": (response(b'{"error_code":"92020000","data":{"license_code_info":7}}'), UnknownShape),
    "info without status": (response(b'{"error_code":"92020000","data":{"license_code_info":"{}"}}'), UnknownShape),
    "info with NUL": (response(rb'{"error_code":"92020000","data":{"license_code_info":"{\"status\":\"\\u0000\"}"}}'), UnknownShape),
    "200 with an error code": (response(refusal("92020003")), REFUSAL),
    "older generation 403": (response(refusal("92020001", "Unauthorized"), "403 Forbidden"), REFUSAL),
    "older generation 500": (response(refusal("92020001"), "500 Internal Server Error"), REFUSAL),
    "older generation 400": (response(refusal("92020002"), "400 Bad Request"), REFUSAL),
    "older generation 401": (response(refusal("92020003"), "401 Unauthorized"), REFUSAL),
    "code is a number": (response(b'{"error_code":92020003}'), REFUSAL),
    "gateway": (response(GATEWAY, "401 Unauthorized"), REFUSAL),
    "redirect": (response(b"", "302 Found", "Location: http://127.0.0.1:1/"), MALFORMED),
    "redirect into nowhere": (response(b"", "307 Temporary Redirect", "Location: http://[::1"), MALFORMED),
    "redirect by script": (response(b"", "301 Moved", "Location: javascript:alert(1)"), MALFORMED),
    "no bytes": (b"", UNREACHABLE),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", UNREACHABLE),
    "TLS alert to plain": (b"\x15\x03\x01\x00\x02\x02\x28", UNREACHABLE),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", UNREACHABLE),
    "truncated": (b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + ACTIVATED, UNREACHABLE),
    "cut short by its length": (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + ACTIVATED, MALFORMED),
    "two lengths": (response(ACTIVATED, "200 OK", "Content-Length: 1"), UNREACHABLE),
    "length is no number": (b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n" + ACTIVATED, UNREACHABLE),
    "broken chunks": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", UNREACHABLE),
    "endless head": (b"HTTP/1.1 200 OK\r\n" + b"X-Filler: y\r\n" * 20_000, UNREACHABLE),
    "compressed bomb": (response(gzip.compress(b" " * 50_000_000), "200 OK", "Content-Encoding: gzip"), MALFORMED),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", MALFORMED),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
async def test_a_hostile_answer_becomes_one_known_error(client, case):
    data, error = HOSTILE[case]
    async with raw_server(answering(data)) as server, raw_server(answering(response(ACTIVATED))) as second:
        with pytest.raises(error) as raised:
            await open_api_client.activate(client, account(server.url, second.url), CODE, None, NOW)

    assert len(server.requests) == 1, "never sent again"
    assert second.requests == [], "the second host is for when nothing was sent"
    assert CODE not in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("drip", ["head", "body", "endless", "silence"])
async def test_slow_and_endless_answers_end_in_time(drip):
    async def talk(_request, writer):
        if drip != "silence":
            writer.write(b"HTTP/1.1 200 OK\r\n" + (b"" if drip == "head" else b"\r\n"))
        while True:
            writer.write({"head": b"X", "body": b" ", "endless": b" " * 65_536, "silence": b""}[drip])
            await writer.drain()
            await asyncio.sleep(0 if drip == "endless" else 0.01)

    began = time.monotonic()
    async with MarketplaceClient(TLS, total_seconds=0.25) as client, raw_server(talk) as server:
        with pytest.raises((MarketplaceUnreachable, MalformedAnswer)) as raised:
            await open_api_client.query(client, account(server.url), CODE, NOW)
    assert time.monotonic() - began < 2
    assert getattr(raised.value, "sent", True), "the call may have had its effect"


@pytest.mark.parametrize(
    ("issued_to", "trusted", "spoken_to"),
    [("127.0.0.1", True, True), ("127.0.0.2", True, False), ("127.0.0.1", False, False)],
)
async def test_only_a_trusted_certificate_for_this_host_is_spoken_to(issued_to, trusted, spoken_to):
    authority = trustme.CA()
    there = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(issued_to).configure_cert(there)
    here = ssl.create_default_context()
    if trusted:
        authority.configure_trust(here)
    async with MarketplaceClient(here) as client, raw_server(answering(response(ACTIVATED)), tls=there) as server:
        if spoken_to:
            assert await open_api_client.activate(client, account(server.url), CODE, None, NOW) == FACTS
        else:
            with pytest.raises(MarketplaceUnreachable) as raised:
                await open_api_client.activate(client, account(server.url), CODE, None, NOW)
            assert not raised.value.sent
    assert len(server.requests) == spoken_to


async def test_the_second_host_is_asked_when_nothing_was_sent_and_only_then(client):
    async with raw_server(answering(response(ACTIVATED))) as gone:
        pass  # nobody listens there any more
    async with raw_server(answering(response(ACTIVATED))) as second:
        assert await open_api_client.activate(client, account(gone.url, second.url), CODE, None, NOW) == FACTS
        assert second.requests[0].headers["host"] == second.url.removeprefix("http://"), "signed for the second"
    with pytest.raises(MarketplaceUnreachable) as raised:
        await open_api_client.activate(client, account(gone.url, gone.url), CODE, None, NOW)
    assert not raised.value.sent


async def test_cookies_are_neither_kept_nor_sent(client):
    async with raw_server(answering(response(ACTIVATED, "200 OK", "Set-Cookie: HWWAFSESID=1; Path=/"))) as server:
        for _ in range(2):
            await open_api_client.activate(client, account(server.url), CODE, None, NOW)
    assert all("cookie" not in request.headers for request in server.requests)


# --- the breaker ---


def switching(*data):
    """Answers one after the other; the last one stays."""
    waiting = list(data)

    async def talk(_request, writer):
        writer.write(waiting.pop(0) if len(waiting) > 1 else waiting[0])

    return talk


REFUSED = response(GATEWAY, "401 Unauthorized")


async def ask(client, to, now):
    """The name of the error, or of success."""
    try:
        await open_api_client.query(client, to, CODE, now)
    except Exception as error:  # noqa: BLE001
        return type(error).__name__
    return "ok"


async def test_three_refused_signatures_open_the_breaker_for_five_minutes(client):
    alive = response(b'{"error_code":"92020000","data":{"status":"ALIVE"}}')
    async with raw_server(switching(REFUSED, REFUSED, REFUSED, alive)) as server:
        to = account(server.url)
        assert [await ask(client, to, NOW + step) for step in range(3)] == ["MarketplaceRefusal"] * 3
        assert client.refusals() == {to.access_key: 3}
        opened = NOW + 2
        for later in (opened, opened + OPEN_TIME - 1, opened - 1000):
            assert await ask(client, to, later) == "BreakerOpen"
        assert len(server.requests) == 3, "nothing is sent while it is open"

        assert await ask(client, to, opened + OPEN_TIME) == "ok"
        assert client.refusals() == {}
        assert await ask(client, to, opened + OPEN_TIME) == "ok"


async def test_a_probe_that_is_refused_opens_it_again(client):
    async with raw_server(answering(REFUSED)) as server:
        to = account(server.url)
        for _ in range(4):
            await ask(client, to, NOW)
        assert await ask(client, to, NOW + OPEN_TIME) == "MarketplaceRefusal"
        assert await ask(client, to, NOW + OPEN_TIME + 4 * MINUTE) == "BreakerOpen"
        assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("data", "counts"),
    [
        (REFUSED, True),
        (response(b'{"error_code":"APIGW.0301"}', "401 Unauthorized"), True),
        (response(b'{"error_code":"APIG.0303"}'), True),
        (response(b"<html>401</html>", "401 Unauthorized"), True),
        (response(b'{"error_code":"APIG.0308"}', "429 Too Many Requests"), False),
        (response(b'{"error_code":"APIG.0101"}', "404 Not Found"), False),
        (response(b"<html>502</html>", "502 Bad Gateway"), False),
        (response(refusal("92020003"), "401 Unauthorized"), False),
        (b"", False),
    ],
)
async def test_only_refused_signatures_count(client, data, counts):
    async with raw_server(answering(data)) as server:
        for _ in range(3):
            await ask(client, account(server.url), NOW)
        assert (await ask(client, account(server.url), NOW) == "BreakerOpen") is counts
        assert len(server.requests) == (3 if counts else 4)


async def test_an_answer_from_behind_the_gateway_starts_the_count_anew(client):
    async with raw_server(switching(REFUSED, REFUSED, response(refusal("92020005")), REFUSED, REFUSED)) as server:
        to = account(server.url)
        for _ in range(5):
            await ask(client, to, NOW)
        assert client.refusals() == {to.access_key: 2}
        assert len(server.requests) == 5


async def test_a_crowd_cannot_lock_the_key_before_the_first_answer(client):
    """The gateway locks at more than 5: of forty calls at once with a wrong secret, three are sent."""
    async with raw_server(answering(REFUSED)) as server:
        outcomes = await asyncio.gather(*(ask(client, account(server.url), NOW) for _ in range(40)))
        assert len(server.requests) == 3
    assert sorted(set(outcomes)) == ["BreakerOpen", "MarketplaceRefusal"]


async def test_a_crowd_with_the_right_secret_waits_for_the_proof_and_passes(client):
    async with raw_server(answering(response(refusal("92020005")))) as server:
        outcomes = await asyncio.gather(*(ask(client, account(server.url), NOW) for _ in range(40)))
        assert len(server.requests) == 40
    assert set(outcomes) == {"MarketplaceRefusal"}


async def test_a_corrected_secret_is_tried_at_once_and_other_accounts_are_not_held_back(client):
    async with raw_server(answering(REFUSED)) as server, raw_server(answering(response(ACTIVATED))) as other:
        for _ in range(4):
            await ask(client, account(server.url), NOW)
        assert await ask(client, account(server.url, secret="corrected"), NOW) == "MarketplaceRefusal"
        await open_api_client.activate(client, Account(hosts=(other.url,), access_key="AK2", secret_key="s"), CODE, None, NOW)  # fmt: skip
        with pytest.raises(BreakerOpen):
            await open_api_client.query(client, account(server.url), CODE, NOW)


async def test_one_call_that_is_cancelled_leaves_room_for_the_next():
    begun = asyncio.Event()

    async def silent(_request, _writer):
        begun.set()
        await asyncio.sleep(60)

    async with MarketplaceClient(TLS) as client, raw_server(silent) as server:
        for _ in range(4):
            begun.clear()
            call = asyncio.create_task(ask(client, account(server.url), NOW))
            await begun.wait()
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        assert len(server.requests) == 4
