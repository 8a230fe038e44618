"""Input that no honest client sends gets the documented error, is never a 5xx and writes nothing (spec §§1.8, 11.3)."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support_edges import (
    ACTIVATE,
    ACTIVATE_ALL,
    HEARTBEAT,
    HEARTBEAT_ALL,
    HOST,
    ORDER_QUERY,
    TABLES,
    USAGE,
    Edge,
    ask,
    notify_target,
    open_edge,
    signed_headers,
)
from tests.web.test_compat_rows import BAD_REQUEST, CONTENT_TYPE, INVALID_PARAM, JSON, UNKNOWN, UNREADABLE

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def edge(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """One application for the whole file: nothing here changes it."""
    async with open_edge(tmp_path_factory.mktemp("edge")) as opened:
        await opened.shop.sell_code()
        yield opened


ENDPOINTS = pytest.mark.parametrize("path", [ACTIVATE, HEARTBEAT])
FAULTS = {
    "unknown code": (b'{"license":"LS-00000"}', 200, UNKNOWN),
    "unknown code, as long as allowed": (b'{"license":"%b"}' % (b"x" * 64), 200, UNKNOWN),
    "unknown field beside": (b'{"license":"LS-1","more":[{}]}', 200, UNKNOWN),
    "code too long": (b'{"license":"%b"}' % (b"x" * 65), 400, BAD_REQUEST),
    "code empty": (b'{"license":""}', 400, BAD_REQUEST),
    "code null": (b'{"license":null}', 400, BAD_REQUEST),
    "code missing": (b"{}", 400, BAD_REQUEST),
    "code a number": (b'{"license":7}', 400, BAD_REQUEST),
    "code a list": (b'{"license":["PL1"]}', 400, BAD_REQUEST),
    "NUL": (b'{"license":"PL\\u00001"}', 400, BAD_REQUEST),
    "NUL in an unknown field": (b'{"license":"PL1","x":"\\u0000"}', 400, BAD_REQUEST),
    "lone high surrogate": (b'{"license":"PL\\ud800"}', 400, BAD_REQUEST),
    "lone low surrogate": (b'{"license":"PL\\udfff"}', 400, BAD_REQUEST),
    "the key twice": (b'{"license":"PL1","license":"PL2"}', 400, BAD_REQUEST),
    "no object": (b'["PL1"]', 400, BAD_REQUEST),
    "a bare text": (b'"PL1"', 400, BAD_REQUEST),
    "empty": (b"", 400, UNREADABLE),
    "no JSON": (b"license=PL1", 400, UNREADABLE),
    "half": (b'{"license":"PL1"', 400, UNREADABLE),
    "more after it": (b'{"license":"PL1"}{}', 400, UNREADABLE),
    "invalid UTF-8": (b'{"license":"PL\xff"}', 400, UNREADABLE),
    "UTF-16": ('{"license":"PL1"}'.encode("utf-16"), 400, UNREADABLE),
    "byte order mark": (b'\xef\xbb\xbf{"license":"PL1"}', 400, UNREADABLE),
    "raw NUL": (b'{"license":"PL\x00"}', 400, UNREADABLE),
    "10,000 nested arrays": (b'{"license":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400, UNREADABLE),
    "10,000 nested arrays, open": (b"[" * 10_000, 400, UNREADABLE),
    "NaN": (b'{"license":"PL1","x":NaN}', 400, UNREADABLE),
    "a number of 5,000 digits": (b'{"license":"PL1","x":%b}' % (b"9" * 5_000), 400, UNREADABLE),
    "64 KiB + 1": (b'{"license":"PL1","x":"%b"}' % (b"y" * (64 * 1024 + 1 - 24)), 400, BAD_REQUEST),
    "1 MiB": (b" " * 1024 * 1024, 400, BAD_REQUEST),
}


@ENDPOINTS
@pytest.mark.parametrize("name", FAULTS)
async def test_bad_bodies_get_the_documented_error_and_write_nothing(edge, path, name):
    body, status, expected = FAULTS[name]
    before = await edge.written()

    answer = await edge.call(path, body)

    assert (answer.status, answer.body) == (status, expected)
    assert answer.header("content-type") == JSON
    assert await edge.written() == before


UNREADABLE_ANYWHERE = [name for name, (_, _, expected) in FAULTS.items() if expected == UNREADABLE]


@pytest.mark.parametrize("path", [ACTIVATE_ALL, HEARTBEAT_ALL, USAGE])
async def test_what_is_no_acceptable_object_is_refused_by_every_call(edge, path):
    before = await edge.written()
    for name in UNREADABLE_ANYWHERE:
        answer = await edge.call(path, FAULTS[name][0])
        assert (answer.status, answer.body) == (400, UNREADABLE), name
    for body in (
        b"[]",
        b"{}",
        b'"PL1"',
        b'{"license":"PL1"}',
        b'{"license_list":["PL\\u0000"],"usage_info":[{"license":"PL\\u0000","software_usage_Info":[{"id":"a"}]}]}',
        b'{"license_list":["PL\\ud800"],"usage_info":[{"license":"P","software_usage_Info":[{"id":"\\udfff"}]}]}',
        b'{"license_list":["PL1"],"license_list":["PL2"],"usage_info":[],"usage_info":[]}',
        b'{"usage_info":[{"license":"P","software_usage_Info":[{"id":"a","id":"b"}]}]}',
    ):
        answer = await edge.call(path, body)
        assert (answer.status, answer.body) == (400, BAD_REQUEST), body
    assert await edge.written() == before


@pytest.mark.parametrize(
    ("stated", "status", "expected"),
    [
        ("20261118110640123", 400, BAD_REQUEST),
        ("2026111811064", 400, BAD_REQUEST),
        ("2026-11-18 11:0", 400, BAD_REQUEST),
        (" ", 400, BAD_REQUEST),
        (20261118110640, 400, BAD_REQUEST),
        ("٢٠٢٦١١١٨١١٠٦٤٠", 400, BAD_REQUEST),
        ("20261318110640", 200, INVALID_PARAM),
        ("20260230110640", 200, INVALID_PARAM),
        ("19691231235959", 200, INVALID_PARAM),
    ],
)
async def test_a_stated_start_has_14_digits_that_are_a_date(edge, stated, status, expected):
    code = await edge.shop.sell_code()
    before = await edge.written()

    answer = await edge.call(ACTIVATE, {"license": code, "real_effect_time": stated})

    assert (answer.status, answer.body) == (status, expected)
    assert await edge.written() == before


@pytest.mark.parametrize(
    ("content_type", "accepted"),
    [
        ("application/json", True),
        ("application/json;charset=UTF-8", True),
        ("Application/JSON ; charset=utf-8", True),
        ("text/plain", False),
        ("application/jsonp", False),
        ("application/x-www-form-urlencoded", False),
        ("", False),
    ],
)
async def test_only_json_is_taken(edge, content_type, accepted):
    body = b'{"license":"PL1"}'
    headers = signed_headers(edge.pair, ACTIVATE, body, edge.clock.now, more={"Content-Type": content_type})

    answer = await ask(edge.app, "POST", ACTIVATE, headers=headers.items(), body=body)

    assert (answer.status, answer.body) == ((200, UNKNOWN) if accepted else (415, CONTENT_TYPE))


async def test_a_websocket_is_closed(edge):
    sent = []

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message["type"])

    for path in (ACTIVATE, edge.shop.url):
        scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": []}
        await edge.app({**scope, "root_path": "", "state": {}, "client": ("198.51.100.7", 1)}, receive, send)

    assert sent == ["websocket.close"] * 2


async def test_a_client_that_hangs_up_in_its_body_is_left_alone(edge):
    waiting = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]
    sent = []

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": ACTIVATE, "raw_path": ACTIVATE.encode(), "query_string": b""}
    headers = [(b"host", HOST.encode())]
    await edge.app(
        {**scope, "headers": headers, "root_path": "", "state": {}, "client": ("198.51.100.7", 1)}, receive, send
    )

    assert sent == []
    assert waiting == []


PATHS = [
    ACTIVATE,
    HEARTBEAT,
    ACTIVATE_ALL,
    HEARTBEAT_ALL,
    USAGE,
    ORDER_QUERY,
    "/v1/licenses/document",
    "/v1/licenses/validate",
    "/v1/activations",
    "/v1/activations/x",
]
NAMES = ["license", "license_list", "usage_info", "software_usage_Info", "id", "active_num"]
texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=20)
header_names = st.sampled_from(
    ["Authorization", "X-Sdk-Date", "X-Sdk-Content-Sha256", "Content-Type", "Host", "Content-Length", "Cookie", "X-Y"]
)
mutations = st.tuples(st.sampled_from(["drop", "replace", "repeat", "append", "none"]), header_names, texts)
bodies = st.one_of(
    st.binary(max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*NAMES, "code", "nonce", "fingerprint", "real_effect_time", "x"]), inner)
        ),
        max_leaves=6,
    ).map(lambda value: json.dumps(value).encode()),
)
queries = st.sampled_from(
    ["", "?", "?a=%00", "?authToken=x&timeStamp=1", "?%ff=%fe", "?a&b&a", "?signature=" + "0" * 64]
)
requests = st.tuples(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "BREW"]),
    st.sampled_from([*PATHS, "callback", "/callbacks/%00", "/callbacks/" + "x" * 300, "/callbacks/%F0%9F%98%80"]),
    queries,
    st.lists(mutations, max_size=3),
    bodies,
    st.integers(1, 4),
)


def mutate(headers, mutations):
    for kind, name, text in mutations:
        match kind:
            case "drop":
                headers = [header for header in headers if header[0] != name]
            case "replace":
                headers = [(key, text if key == name else value) for key, value in headers]
            case "repeat":
                headers = [*headers, *(header for header in headers if header[0] == name)]
            case "append":
                headers = [*headers, (name, text)]
    return headers


async def test_no_request_makes_a_5xx_or_writes_a_record(edge):
    """Valid requests with random faults in method, target, headers and body."""
    before = await edge.written()
    loop = asyncio.get_running_loop()

    async def send(method, path, query, changes, body, pieces):
        now = edge.clock.now
        if path == "callback":
            target = notify_target(edge.shop, body, now) if method == "POST" else edge.shop.url + query
        else:
            target = path + query
        headers = signed_headers(edge.pair, target, body, now, method=method)
        return await ask(
            edge.app, method, target, headers=mutate(list(headers.items()), changes), body=body, pieces=pieces
        )

    answers = []

    @settings(max_examples=1_500, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(requests)
    def fuzz(request):
        answer = asyncio.run_coroutine_threadsafe(send(*request), loop).result(10)
        answers.append(answer.status)
        assert answer.status < 500 or b"MKT.0100" in answer.body, (request, answer)

    await asyncio.to_thread(fuzz)

    after = await edge.written()
    counters = [name == "signature_failures" for name in TABLES]
    assert [n for n, counter in zip(after, counters, strict=True) if not counter] == [
        n for n, counter in zip(before, counters, strict=True) if not counter
    ]
    assert len(set(answers)) >= 5
