"""A load generator: keep-alive connections that send prepared requests and keep every answer.

In: sockets, the order of requests, signing a body. Out: what an answer means. It reads only what our own servers write:
HTTP/1.1 with a lower-case `content-length`, one answer for one request.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.marketplace.huawei import aksk
from licensesvc.web.openapi_compat.routes import ROOT

ACTIVATE: Final = f"{ROOT}/v1/license/activate"
HEARTBEAT: Final = f"{ROOT}/v1/license/heartbeat"
SUCCESS: Final = "92020000"
ILLEGAL_STATE: Final = "92020003"
LIMIT_S: Final = 60.0
"""A load that takes longer is stuck."""

_HOST: Final = "127.0.0.1"
_LENGTH: Final = b"content-length: "


class Answer(NamedTuple):
    """One answer, and how long it took."""

    status: int
    body: bytes
    seconds: float

    @property
    def error_code(self) -> str:
        """The result code of the compatible API."""
        return str(msgspec.json.decode(self.body)["error_code"])


@dataclass(frozen=True)
class Load:
    """Answers by request, None where none came; the first `sent` requests were sent, within `seconds`.

    `cpu_share` is the part of one core that this process used meanwhile.
    """

    answers: Sequence[Answer | None]
    sent: int
    seconds: float
    cpu_share: float


def post(path: str, document: Any, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    """A request with a JSON body."""
    return _request(path, msgspec.json.encode(document), [*_headers(), *headers])


def signed_post(path: str, document: Any, *, access_key: str, secret_key: str, now: Instant) -> bytes:
    """A request with a JSON body, signed with AK/SK."""
    body = msgspec.json.encode(document)
    headers = [*_headers(), ("X-Sdk-Date", aksk.sdk_date(now))]
    signature = aksk.sign(
        method="POST", path=path, query="", headers=headers, body=body, access_key=access_key, secret_key=secret_key
    )
    return _request(path, body, [*headers, ("Authorization", signature)])


async def send(
    port: int, requests: Sequence[bytes], *, connections: int, on_answer: Callable[[int], None] = lambda _count: None
) -> Load:
    """Send every request once, over connections that are all open before the first; `on_answer` hears how many came.

    A connection that dies leaves its request without answer and sends no further one.
    """
    loop = asyncio.get_running_loop()
    run = _Run(requests, on_answer)
    clients = [_Client(run, loop.create_future()) for _ in range(connections)]
    try:
        async with asyncio.timeout(LIMIT_S):
            for client in clients:
                await loop.create_connection(lambda client=client: client, _HOST, port)  # type: ignore[misc]
            began, cpu_began = time.perf_counter(), time.process_time()
            for client in clients:
                client.send_next()
            await asyncio.gather(*(client.finished for client in clients))
            seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
    finally:
        for client in clients:
            client.close()
    return Load(run.answers, run.sent, seconds, cpu_seconds / seconds)


class _Run:
    """What all connections of one load share."""

    def __init__(self, requests: Sequence[bytes], on_answer: Callable[[int], None]) -> None:
        self.answers: list[Answer | None] = [None] * len(requests)
        self.sent = 0
        self._waiting: Iterator[tuple[int, bytes]] = iter(enumerate(requests))
        self._answered = 0
        self._on_answer = on_answer

    def take(self) -> tuple[int, bytes] | None:
        taken = next(self._waiting, None)
        self.sent += taken is not None
        return taken

    def keep(self, index: int, answer: Answer) -> None:
        self.answers[index] = answer
        self._answered += 1
        self._on_answer(self._answered)


class _Client(asyncio.Protocol):
    """One connection: the next request goes out when the answer to the last one is complete."""

    def __init__(self, run: _Run, finished: asyncio.Future[None]) -> None:
        self.finished = finished
        self._run = run
        self._transport: asyncio.WriteTransport | None = None
        self._index = 0
        self._sent_at = 0.0
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, _error: Exception | None) -> None:
        self._finish()

    def data_received(self, data: bytes) -> None:
        received = self._received + data
        head = received.find(b"\r\n\r\n")
        if head >= 0:
            body = head + 4
            length = received.index(_LENGTH, 0, head) + len(_LENGTH)
            if len(received) >= body + int(received[length : received.index(b"\r", length)]):
                seconds = time.perf_counter() - self._sent_at
                self._received = b""
                self._run.keep(self._index, Answer(int(received[9:12]), received[body:], seconds))
                self.send_next()
                return
        self._received = received

    def send_next(self) -> None:
        taken = self._run.take()
        if taken is None:
            self._finish()
            return
        assert self._transport is not None
        self._index, request = taken
        self._sent_at = time.perf_counter()
        self._transport.write(request)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)


def _headers() -> list[tuple[str, str]]:
    return [("Host", _HOST), ("Content-Type", "application/json")]


def _request(path: str, body: bytes, headers: Sequence[tuple[str, str]]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body
