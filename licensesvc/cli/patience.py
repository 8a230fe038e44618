"""The HTTP protocol of the server, with an end to its patience: uvicorn never cuts a client that stops in mid-request.

In: time-outs while a request arrives or an answer is not taken, the size of a head, the number of connections. Out: what is
served; the size of bodies, which each route bounds.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from litestar.types import Receive, Scope, Send

_TIMED_OUT: Final = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_HEAD_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
)
_OVERLOADED: Final = b'{"type":"/problems/unavailable","title":"Not available now","status":503,"code":"UNAVAILABLE","detail":"too many connections"}'


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how much a server waits for; seconds and bytes."""

    head_s: float = 10.0
    """From the first byte of a request, or from the connection, to the end of its headers."""
    body_s: float = 25.0
    """From there to the end of the body; one second more for each `body_rate` bytes that came."""
    body_rate: int = 16 * 1024
    answer_s: float = 30.0
    """How long an answer may wait to be taken."""
    head_bytes: int = 64 * 1024
    connections: int = 4_096
    """Connections served at once, those to the control socket not counted in."""


class PatientProtocol(HttpToolsProtocol):
    """One connection. A request that arrives whole costs it no timer."""

    def __init__(self, *arguments: Any, patience: Patience, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._patience = patience
        self._since: float | None = None
        """When the request that is still incomplete began; None while there is none."""
        self._in_body = False
        self._received = 0
        """Bytes of the part, head or body, that is arriving."""
        self._reading: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve a new connection, or tell it that there are too many; who comes when too many are being told is told nothing."""
        transport = cast("asyncio.Transport", transport)
        super().connection_made(transport)
        if self.client is not None and len(self.connections) > self._patience.connections:
            self.app = cast("Any", overloaded)
            if len(self.connections) > 2 * self._patience.connections:
                transport.abort()
        self._begin()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the timers go."""
        for timer in (self._reading, self._writing):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; watch the clock if a request is incomplete afterwards."""
        if self._since is None:
            self._begin()
        super().data_received(data)
        if self._since is None:
            return
        if not self._in_body:
            self._received += len(data)
            if self._received > self._patience.head_bytes:
                self._cut(_HEAD_TOO_LARGE)
                return
        if self._reading is None or self._reading.when() > self._due():
            self._watch()

    def on_message_begin(self) -> None:
        """Note the begin of a request that follows another in the same bytes."""
        if self._since is None:
            self._begin()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """From here on the body is waited for."""
        self._since, self._in_body, self._received = self.loop.time(), True, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count what came."""
        self._received += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is here."""
        self._since = None
        super().on_message_complete()

    def pause_writing(self) -> None:
        """The client does not take its answer."""
        super().pause_writing()
        self._writing = self.loop.call_later(self._patience.answer_s, self.transport.abort)

    def resume_writing(self) -> None:
        """It takes it."""
        super().resume_writing()
        if self._writing is not None:
            self._writing.cancel()

    def _begin(self) -> None:
        self._since, self._in_body, self._received = self.loop.time(), False, 0

    def _watch(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
        self._reading = self.loop.call_at(self._due(), self._check)

    def _due(self) -> float:
        assert self._since is not None
        if not self._in_body:
            return self._since + self._patience.head_s
        if self.cycle.response_complete:  # nobody reads the rest
            return self._since + self._patience.body_s
        return self._since + self._patience.body_s + self._received / self._patience.body_rate

    def _check(self) -> None:
        self._reading = None
        if self._since is None:
            return
        if self.flow.read_paused or self._answering():  # it is we who keep the client waiting: its time begins anew
            self._since = self.loop.time()
        if self._due() > self.loop.time():
            self._watch()
        else:
            self._cut(_TIMED_OUT)

    def _answering(self) -> bool:
        """Whether the request before the one that is arriving is still being served."""
        cycle: RequestResponseCycle | None = self.cycle
        return not self._in_body and cycle is not None and not cycle.response_complete

    def _cut(self, answer: bytes) -> None:
        # Who said nothing is told nothing, and nothing may mix with another answer.
        silent = self._answering() or (self.cycle.response_started if self._in_body else not self._received)
        if not silent:
            self.transport.write(answer)
        self._since = None
        self.transport.close()


async def overloaded(_scope: "Scope", _receive: "Receive", send: "Send") -> None:
    """Answer 503 and close: the ASGI application of connections that are too many."""
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(_OVERLOADED)).encode()),
        (b"retry-after", b"1"),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": _OVERLOADED, "more_body": False})
