"""One line in the log and one observation in the metrics for every request, whatever became of it.

In: what the line holds, how a route is named, the W3C `traceparent` of a caller. Out: the form of records (`logs`), spans (`traced`).

The line names the route template, never the path; never a query string, header or body: `GET /admin/v1/licenses?code=` holds a code.
"""

import re
import time
from collections.abc import Mapping
from typing import Any, Final, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from licensesvc import logs
from licensesvc.logs import AccessLog
from licensesvc.metrics import UNMATCHED, Metrics
from licensesvc.web.asgi import client_address
from licensesvc.web.request_ids import request_id

TRACEPARENT: Final = b"traceparent"

_CALLER: Final = "licensesvc.caller"
_CONNECTION: Final = "licensesvc.connection"
_TRACE: Final = "licensesvc.trace_id"
_FORM: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?", re.DOTALL)
_TYPE_OF_PARAMETER: Final = re.compile(r":\w+(?=\})")


class Observed:
    """Wraps an application of the framework; request ids go around it."""

    def __init__(self, app: ASGIApp, metrics: Metrics, access: AccessLog) -> None:
        self._app = app
        self._metrics = metrics
        self._info = access.info
        self._names: dict[str, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Observe a request; other scopes pass."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        sending = _Watched(send)
        facts = {"request_id": request_id(scope) or ""}
        if trace := scope.get(_TRACE) or trace_id(scope):
            facts["trace_id"] = cast("str", trace)
        under_way = logs.request_facts.set(facts)
        self._metrics.in_flight += 1
        try:
            await self._app(scope, receive, sending)
        except Exception:
            sending.status = sending.status or 500  # what the server answers then
            raise
        finally:
            seconds = time.perf_counter() - began
            logs.request_facts.reset(under_way)
            route = self.route(scope)
            self._metrics.in_flight -= 1
            self._metrics.request(scope["method"], route, sending.status, seconds)
            self._info(
                "request",
                method=scope["method"][:16],
                route=route,
                status=sending.status,
                ms=round(seconds * 1000, 3),
                **facts,
                caller=scope.get(_CALLER),
                connection=scope.get(_CONNECTION),
                address=client_address(scope),
            )

    def route(self, scope: Mapping[str, Any]) -> str:
        """The template that the framework matched, `/v1/activations/{activation_id}`."""
        handler = scope.get("route_handler")
        if handler is None:
            return UNMATCHED
        template = scope.get("path_template") or next(iter(handler.paths))  # a mount has no template
        name = self._names.get(template)
        if name is None:  # bounded: there are as many templates as routes
            name = self._names[template] = _TYPE_OF_PARAMETER.sub("", template)
        return name


class _Watched:
    """Sends, and remembers the status; None as long as nothing was answered."""

    __slots__ = ("_send", "status")

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def tell_caller(scope: Scope, caller: str | None, connection: str | None = None) -> None:
    """Called by an edge once it knows who calls: public ids for the line."""
    facts = cast("dict[str, Any]", scope)
    facts[_CALLER] = caller
    facts[_CONNECTION] = connection


def tell_trace(scope: Scope, trace: str) -> None:
    """Called by a tracer that has begun a trace of its own: 32 hexadecimal digits."""
    cast("dict[str, Any]", scope)[_TRACE] = trace


def trace_id(scope: HTTPScope) -> str | None:
    """The trace that the caller goes on with (W3C Trace Context, level 1); None when there is none, or a malformed one."""
    given = [value for name, value in scope["headers"] if name == TRACEPARENT]
    if len(given) != 1 or (parts := _FORM.fullmatch(given[0])) is None:
        return None
    version, trace, parent, more = parts.groups()
    if version == b"ff" or (version == b"00" and more) or not trace.strip(b"0") or not parent.strip(b"0"):
        return None
    return trace.decode()
