"""Receivers of webhooks on raw sockets, that behave as badly as they are told, and a dispatcher that is driven by a clock."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

import msgspec

from licensesvc.domain.audit import AuditEvent
from licensesvc.outbound.addresses import Policy
from licensesvc.outbound.client import Bounds, OutboundClient
from licensesvc.services.runtime import Runtime
from licensesvc.services.webhooks.manage_webhooks import CreateEndpoint, create_endpoint
from licensesvc.services.webhooks.webhook_dispatcher import WebhookDispatcher
from licensesvc.storage import audit, webhook_deliveries, webhook_endpoints
from licensesvc.storage.port import Tx
from licensesvc.storage.webhook_endpoints import StoredEndpoint

LOOPBACK = Policy(allowed=(ip_network("127.0.0.0/8"),))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PATIENCE_S = 20
"""Until a test that waits for a condition has failed; nothing takes so long."""

Behavior = Callable[["Receiver", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Call:
    """One request as it arrived; `accepted` once it was answered well."""

    headers: dict[str, str]
    body: bytes
    accepted: bool = False

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def content(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def number(self) -> int:
        return self.content["data"]["to"]

    @property
    def subject(self) -> str:
        return self.content["data"]["license"]


def says(answer: bytes) -> Behavior:
    async def behave(_receiver: "Receiver", writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    return behave


def status(code: int, *headers: str) -> Behavior:
    lines = "".join(f"{header}\r\n" for header in headers)
    return says(f"HTTP/1.1 {code} X\r\n{lines}Content-Length: 0\r\n\r\n".encode())


async def hang(receiver: "Receiver", _writer: asyncio.StreamWriter) -> None:
    await receiver.healed.wait()


async def drip(receiver: "Receiver", writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not receiver.healed.is_set():
        writer.write(b".")
        await writer.drain()
        await asyncio.sleep(0.02)


async def reset(_receiver: "Receiver", writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


well = says(OK)
BAD: dict[str, Behavior] = {
    "301": status(301, "Location: http://127.0.0.1:1/"),
    "302 to itself": status(302, "Location: /"),
    "429": status(429, "Retry-After: 30"),
    "500": status(500),
    "503 for an age": status(503, "Retry-After: 99999999"),
    "hang": hang,
    "reset": reset,
    "silent close": says(b""),
    "cut in the body": says(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"),
    "slow drip": drip,
    "no HTTP": says(b"220 mail.example ESMTP\r\n"),
    "endless header": says(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000),
}
"""Receivers that accept nothing until they are healed."""


@dataclass
class Receiver:
    """An HTTP server that knows what it was sent."""

    behave: Behavior = well
    port: int = 0
    calls: list[Call] = field(default_factory=list)
    healed: asyncio.Event = field(default_factory=asyncio.Event)
    endpoint: StoredEndpoint | None = None
    secret: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def accepted(self) -> list[Call]:
        return [call for call in self.calls if call.accepted]

    def heal(self) -> None:
        self.behave = well
        self.healed.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = head.decode("latin-1").split("\r\n")[1:-2]
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                call = Call(headers, await reader.readexactly(int(headers["content-length"])))
                self.calls.append(call)
                behave = self.behave
                call.accepted = behave in {well, huge}
                await behave(self, writer)
                if behave is not well:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def assert_in_order(self) -> None:
        """A message was sent only after every earlier one of its subject had been accepted."""
        done: dict[str, int] = {}
        for call in self.calls:
            assert call.number <= done.get(call.subject, 0) + 1, f"{call.subject}: {call.number} after {done}"
            if call.accepted:
                done[call.subject] = max(done.get(call.subject, 0), call.number)


async def huge(_receiver: Receiver, writer: asyncio.StreamWriter) -> None:
    """A good answer with a body that nobody wants."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while True:
        writer.write(b"x" * 65_536)
        await writer.drain()


@asynccontextmanager
async def receiving(behave: Behavior = well, **options: Any) -> AsyncIterator[Receiver]:
    receiver = Receiver(behave)
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        connections.add(task)
        try:
            await receiver.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            connections.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def subscribe(rt: Runtime, receiver: Receiver, url: str | None = None, **options: Any) -> StoredEndpoint:
    """An endpoint for a receiver."""
    command = msgspec.convert({"url": url or receiver.url, **options}, CreateEndpoint)
    receiver.endpoint, secret = await rt.db.write(lambda tx: create_endpoint(tx, rt, LOOPBACK, command, by="test"))
    receiver.secret = secret.shown or ""
    return receiver.endpoint


async def happen(rt: Runtime, subjects: Sequence[str], numbers: Sequence[int]) -> None:
    """Events about licenses, numbered within each."""
    for number in numbers:
        events = [
            AuditEvent(
                at=rt.clock(),
                actor="test",
                kind="license.quantity_changed",
                subject=subject,
                detail={"from": number - 1, "to": number, "reason": "secret reason"},
            )
            for subject in subjects
        ]
        await rt.db.write(lambda tx, told=events: audit.append(tx, told))


def dispatcher(rt: Runtime, *, total_s: float = 10.0, policy: Policy = LOOPBACK, **options: Any) -> WebhookDispatcher:
    bounds = Bounds(total_seconds=total_s, step_seconds=total_s)
    tls = options.pop("tls", None)
    client = OutboundClient(policy, bounds=bounds, tls=tls)
    return WebhookDispatcher(rt, client, **{"failing_days": 5, **options})


@asynccontextmanager
async def dispatching(rt: Runtime, **options: Any) -> AsyncIterator[WebhookDispatcher]:
    """A dispatcher at work."""
    working = dispatcher(rt, **options)
    task = asyncio.create_task(working.run())
    try:
        yield working
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(working: WebhookDispatcher, condition: Callable[[], Any]) -> None:
    """Wake the dispatcher until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not (found := condition()) or (asyncio.iscoroutine(found) and not await found):
            working.wake()
            await asyncio.sleep(0.01)


async def deliveries(rt: Runtime, endpoint: StoredEndpoint | None) -> list[webhook_deliveries.StoredDelivery]:
    assert endpoint
    return await rt.db.read(lambda tx: webhook_deliveries.page(tx, endpoint.id, after=0, limit=1_000))


async def settled(rt: Runtime, working: WebhookDispatcher, *receivers: Receiver) -> None:
    """Until every event was looked at, and no delivery of these is open."""
    keys = [receiver.endpoint.id for receiver in receivers if receiver.endpoint]

    async def look(tx: Tx) -> bool:
        heads = await audit.heads(tx)
        cursors = await webhook_endpoints.cursors(tx, keys)
        return all(cursors[key] == heads for key in keys) and not await webhook_deliveries.open_work(tx, keys)

    await until(working, lambda: rt.db.read(look))


async def tried(rt: Runtime, working: WebhookDispatcher, *receivers: Receiver) -> None:
    """Until each of these was called, and what came of every call is written down: the clock may move on."""

    async def look() -> bool:
        found = [await deliveries(rt, receiver.endpoint) for receiver in receivers]
        return all(each and each[0].attempts and all(d.claims == d.attempts for d in each) for each in found)

    await until(working, look)


def raw_key(text: str) -> bytes:
    return base64.b64decode(text.partition("_")[2])
