"""Spans of requests and calls, and that nothing of OpenTelemetry is loaded without them."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from licensesvc import app as composition
from licensesvc.app import NotReady, open_observed_app
from licensesvc.marketplace.huawei.client import Account, MarketplaceClient, MarketplaceUnreachable
from licensesvc.metrics import Metrics
from licensesvc.settings import Settings
from licensesvc.web.observed import Observed
from licensesvc.web.request_ids import RequestIds
from licensesvc.web.traced import Traced, Tracing
from tests.support_edges import Edge, ask, open_edge
from tests.support_observed import Lines

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
CODE = "LS-7ZK2M-9QW4T-X3HVC-8RNE5-0J6DB"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(spans: InMemorySpanExporter) -> Tracing:
    return Tracing(SimpleSpanProcessor(spans), "main")


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    async with open_edge(tmp_path) as opened:
        yield opened


async def test_a_request_is_a_span_below_the_callers(edge: Edge, tracing: Tracing, spans: InMemorySpanExporter):
    lines = Lines()
    app = RequestIds(Traced(Observed(edge.app, Metrics(), lines), tracing))
    header = f"00-{TRACE}-{PARENT}-01"
    await ask(app, "GET", f"/admin/v1/licenses?code={CODE}", headers=[("traceparent", header)])
    await ask(app, "GET", f"/{CODE}", headers=[("traceparent", "malformed")])

    known, unknown = spans.get_finished_spans()
    assert (known.name, known.kind) == ("GET /admin/v1/licenses", SpanKind.SERVER)
    assert f"{known.context.trace_id:032x}" == TRACE == lines.kept[0]["trace_id"]
    assert f"{known.parent.span_id:016x}" == PARENT
    assert dict(known.attributes) == {
        "http.request.method": "GET",
        "http.route": "/admin/v1/licenses",
        "http.response.status_code": 401,
    }
    assert unknown.name == "GET"
    assert unknown.parent is None
    assert f"{unknown.context.trace_id:032x}" == lines.kept[1]["trace_id"]
    assert CODE not in known.to_json() + unknown.to_json()


async def test_a_method_of_a_clients_invention_is_not_kept(edge: Edge, tracing: Tracing, spans: InMemorySpanExporter):
    await ask(RequestIds(Traced(Observed(edge.app, Metrics(), Lines()), tracing)), "BREW", "/healthz")

    (span,) = spans.get_finished_spans()
    assert (span.name, span.attributes["http.request.method"]) == ("HTTP", "_OTHER")


async def test_a_crash_is_an_error_without_its_text(tracing: Tracing, spans: InMemorySpanExporter):
    async def broken(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        raise RuntimeError(CODE)

    scope = {"type": "http", "method": "GET", "headers": [], "client": None}

    async def send(_message: Any) -> None:
        return

    with pytest.raises(RuntimeError):
        await Traced(Observed(broken, Metrics(), Lines()), tracing)(scope, None, send)

    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert CODE not in span.to_json()


async def test_a_call_to_the_marketplace_is_a_span(tracing: Tracing, spans: InMemorySpanExporter):
    account = Account(hosts=("http://127.0.0.1:9",), access_key="AK", secret_key="SK")
    async with MarketplaceClient(around=tracing.call) as client:
        with pytest.raises(MarketplaceUnreachable):
            await client.order_query(account, "CS1", None, 0)

    (span,) = spans.get_finished_spans()
    assert (span.name, span.kind, span.status.status_code) == ("order/query", SpanKind.CLIENT, StatusCode.ERROR)


async def test_an_endpoint_without_the_extra_refuses_to_start(
    edge: Edge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    settings = Settings(data_dir=str(tmp_path / "data"), otlp_endpoint="http://127.0.0.1:9/v1/traces")

    with pytest.raises(NotReady, match="install licensesvc"):
        async with open_observed_app(edge.rt, settings, Metrics()):
            pass


async def test_configured_traces_are_closed_with_the_server(
    edge: Edge, tmp_path: Path, tracing: Tracing, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(composition, "_open_tracing", lambda _settings: tracing)
    async with open_observed_app(edge.rt, Settings(data_dir=str(tmp_path / "data")), Metrics()) as app:
        await ask(app, "GET", "/healthz")
    await ask(app, "GET", "/healthz")

    assert len(spans.get_finished_spans()) == 1


def test_nothing_of_it_is_imported_when_it_is_off():
    program = "import sys, licensesvc.cli.serving; sys.exit('opentelemetry' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
