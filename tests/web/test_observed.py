"""The access line and the metrics of requests: what they name, and what they never hold."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from benchmarks.observability import BUDGET_US, cost_us
from licensesvc import logs
from licensesvc.metrics import Metrics
from licensesvc.web.observed import Observed, trace_id
from tests.support_edges import ACTIVATE, ask, call, get_license_target
from tests.support_observed import Lines, Served, open_served

CODE = "LS-7ZK2M-9QW4T-X3HVC-8RNE5-0J6DB"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_served(tmp_path) as opened:
        yield opened


async def test_a_call_of_software_names_its_credential_and_connection(served: Served):
    code = await served.edge.shop.sell_code()
    answer = await call(served.app, served.edge.pair, ACTIVATE, {"license": code}, served.edge.clock.now)

    assert answer.status == 200
    assert served.line.pop("ms") > 0
    assert served.line == {
        "method": "POST",
        "route": ACTIVATE,
        "status": 200,
        "request_id": answer.header("x-request-id"),
        "caller": served.edge.pair.public_id,
        "connection": served.edge.shop.connection.public_id,
        "address": "198.51.100.7",
    }


async def test_a_refused_signature_names_nobody(served: Served):
    answer = await ask(served.app, "POST", ACTIVATE, body=b"{}")

    assert (answer.status, served.line["status"], served.line["caller"]) == (401, 401, None)


async def test_a_callback_names_its_connection_and_not_its_path(served: Served):
    await ask(served.app, "GET", get_license_target(served.edge.shop, served.edge.clock.now))

    assert served.line["route"] == "/callbacks"
    assert served.line["connection"] == served.edge.shop.connection.public_id


@pytest.mark.parametrize(
    ("target", "route", "status"),
    [
        (f"/admin/v1/licenses?code={CODE}", "/admin/v1/licenses", 401),
        (f"/admin/v1/licenses/{CODE}/code", "/admin/v1/licenses/{license_id}/code", 401),
        (f"/{CODE}", "(none)", 404),
        (f"/v1/{CODE}", "(none)", 404),
        (f"/problems/{CODE}", "/problems/{name}", 404),
        (f"/schema/static/{CODE}", "/schema/static/{name}", 404),
        (f"/healthz?{CODE}", "/healthz", 200),
    ],
)
async def test_neither_paths_nor_queries_reach_line_or_metrics(served: Served, target: str, route: str, status: int):
    answer = await ask(served.app, "GET", target)

    assert (answer.status, served.line["route"], served.line["status"]) == (status, route, status)
    assert answer.header("x-request-id") == served.line["request_id"]
    assert CODE not in str(served.lines) + served.metrics.text().decode()


@pytest.mark.parametrize(
    ("given", "taken"),
    [("abc-123", True), ("a" * 64, True), ("a" * 65, False), ("", False), ("a\nb", False), ("ä", False), (CODE, False)],
)
async def test_a_request_id_is_taken_unless_it_is_long_strange_or_looks_like_a_code(
    served: Served, given: str, taken: bool
):
    answer = await ask(served.app, "GET", "/nowhere", headers=[("X-Request-Id", given)])

    assert (served.line["request_id"] == given) is taken
    assert answer.json["request_id"] == served.line["request_id"] == answer.header("x-request-id")


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (f"00-{TRACE}-{PARENT}-01", True),
        (f"00-{TRACE}-{PARENT}-00", True),
        (f"01-{TRACE}-{PARENT}-01-what-a-later-version-adds", True),
        (f"00-{TRACE}-{PARENT}-01-more", False),
        (f"ff-{TRACE}-{PARENT}-01", False),
        (f"00-{TRACE.upper()}-{PARENT}-01", False),
        (f"00-{'0' * 32}-{PARENT}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE}-{PARENT}", False),
        (f"00-{TRACE}-{PARENT}-01\n", False),
        (f" 00-{TRACE}-{PARENT}-01", False),
        (CODE, False),
        ("", False),
    ],
)
async def test_a_trace_is_gone_on_with_when_its_header_is_well_formed(served: Served, header: str, known: bool):
    answer = await ask(served.app, "GET", "/healthz", headers=[("traceparent", header)])

    assert answer.status == 200
    assert served.line.get("trace_id") == (TRACE if known else None)


def test_two_traceparents_are_none():
    header = (b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())

    assert trace_id({"headers": [header]}) == TRACE
    assert trace_id({"headers": [header, header]}) is None


async def test_a_client_that_left_and_a_crash_are_lines_too():
    lines, metrics = Lines(), Metrics()
    scope = {"type": "http", "method": "GET", "headers": [], "client": None}

    async def silent(_scope, _receive, _send):
        return

    async def broken(_scope, _receive, _send):
        raise RuntimeError

    async def cancelled(_scope, _receive, _send):
        raise asyncio.CancelledError

    await Observed(silent, metrics, lines)(dict(scope), None, None)
    with pytest.raises(RuntimeError):
        await Observed(broken, metrics, lines)(dict(scope), None, None)
    with pytest.raises(asyncio.CancelledError):
        await Observed(cancelled, metrics, lines)(dict(scope), None, None)

    assert [line["status"] for line in lines.kept] == [None, 500, None]
    assert b'status="none"} 2.0' in metrics.text()
    assert b"in_flight 0.0" in metrics.text()


async def test_methods_of_a_clients_invention_share_one_series(served: Served):
    for number in range(50):
        await ask(served.app, f"BREW{number}", "/healthz")

    text = served.metrics.text().decode()
    assert "BREW" not in text
    assert served.value("licensesvc_http_request_duration_seconds_count", method="other") == 50


async def test_records_made_during_a_request_carry_its_names(capsys):
    seen = {}

    async def speaking(_scope, _receive, _send):
        seen.update(logs._of_request(None, "info", {"event": "x"}))

    scope = {"type": "http", "method": "GET", "headers": [], "client": None, "licensesvc.request_id": "r1"}
    await Observed(speaking, Metrics(), Lines())(scope, None, None)

    assert seen == {"event": "x", "request_id": "r1"}
    assert logs._of_request(None, "info", {"event": "x"}) == {"event": "x"}


@pytest.mark.parametrize(("level", "lines"), [("debug", 1), ("info", 1), ("warning", 0)])
def test_the_access_log_writes_one_json_line_if_the_level_lets_it(capfdbinary, level: str, lines: int):
    logs.AccessLog(level).info("request", route="/x", status=200)

    written = capfdbinary.readouterr().err.splitlines()
    assert len(written) == lines
    if lines:
        assert b'"route":"/x"' in written[0]


def test_a_line_that_costs_more_would_be_noticed(monkeypatch: pytest.MonkeyPatch):
    class Slow:
        def info(self, _event: str, **_facts: object) -> None:
            done = time.process_time() + 3 * BUDGET_US / 1e6
            while time.process_time() < done:
                pass

    monkeypatch.setattr(logs, "AccessLog", lambda _level: Slow())

    assert cost_us() > BUDGET_US
