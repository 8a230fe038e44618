"""OpenTelemetry spans, one for each request and each call to the marketplace. Imported only where traces are configured (extra `telemetry`).

In: spans with method, route and status. Out: the log line's trace id of a caller (`observed`), which needs no OpenTelemetry.
No span holds a URL, a header or the text of an exception.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from licensesvc import __version__
from licensesvc.metrics import METHODS, UNMATCHED
from licensesvc.web.observed import TRACEPARENT, Observed, tell_trace, trace_id

_SERVER_ERROR: Final = 500


class Tracing:
    """Begins spans and hands them to a processor; `close` sends what is left."""

    def __init__(self, processor: SpanProcessor, node: str) -> None:
        """`node` names this process among those of one installation."""
        resource = Resource.create(
            {"service.name": "licensesvc", "service.version": __version__, "service.instance.id": node}
        )
        self._provider = TracerProvider(resource=resource)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("licensesvc", __version__)
        self._propagator = TraceContextTextMapPropagator()

    @contextmanager
    def request(self, method: str, traceparent: str | None) -> Iterator[Span]:
        """A span of a request, below the caller's where there is one."""
        parent = self._propagator.extract({"traceparent": traceparent} if traceparent else {})
        with self._tracer.start_as_current_span(
            method, parent, SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            yield span

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        """A span of a call to the marketplace."""
        with self._tracer.start_as_current_span(
            name, kind=SpanKind.CLIENT, record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(Status(StatusCode.ERROR))
                raise

    def close(self) -> None:
        """Send what is left; waits for the collector at most as long as its exporter does."""
        self._provider.shutdown()


class Traced:
    """Wraps the observed application."""

    def __init__(self, app: Observed, tracing: Tracing) -> None:
        self._app: ASGIApp = app
        self._route = app.route
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Trace a request; other scopes pass."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        # A malformed header must not reach the propagator, which is more lenient than the standard.
        given = dict(scope["headers"]).get(TRACEPARENT, b"").decode("ascii") if trace_id(scope) else None
        method = scope["method"] if scope["method"] in METHODS else "HTTP"
        with self._tracing.request(method, given) as span:
            tell_trace(scope, format_trace_id(span.get_span_context().trace_id))

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= _SERVER_ERROR:
                        span.set_status(Status(StatusCode.ERROR))
                await send(message)

            try:
                await self._app(scope, receive, watched)
            finally:
                route = self._route(scope)
                span.set_attribute("http.request.method", method if method in METHODS else "_OTHER")
                if route != UNMATCHED:
                    span.set_attribute("http.route", route)
                    span.update_name(f"{method} {route}")


def open_tracing(endpoint: str, node: str) -> Tracing:
    """Send spans to an OTLP/HTTP endpoint in batches; ImportError without the exporter, which `OTEL_EXPORTER_OTLP_HEADERS` sets up."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - tests do without

    exporter: Any = OTLPSpanExporter(endpoint=endpoint)
    return Tracing(BatchSpanProcessor(exporter), node)
