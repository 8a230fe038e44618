"""A raw server: it reads one whole request a connection, keeps it, and answers whatever bytes a script says, TLS or not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

Writer = asyncio.StreamWriter


@dataclass(frozen=True)
class Request:
    """What a client sent; `headers` by their names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return self.target.removeprefix("/api/mkp-openapi-public/global")

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


Talk = Callable[[Request, Writer], Awaitable[None]]


@dataclass
class RawServer:
    """Where it listens and what it was sent; `connections` counts those that sent a request or not."""

    url: str
    requests: list[Request] = field(default_factory=list)
    connections: int = 0


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def answering(data: bytes) -> Talk:
    async def talk(_request: Request, writer: Writer) -> None:
        writer.write(data)

    return talk


@asynccontextmanager
async def raw_server(talk: Talk, *, tls: Any = None, name: str = "127.0.0.1") -> AsyncIterator[RawServer]:
    """Serve until left; a connection is closed after its answer."""

    async def connected(reader: asyncio.StreamReader, writer: Writer) -> None:
        server.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            line, *lines = head.rstrip().split("\r\n")
            headers = {key.lower(): value for key, value in (text.split(": ", 1) for text in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            method, target, _ = line.split(" ")
            server.requests.append(Request(method, target, headers, body))
            await talk(server.requests[-1], writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    port = listener.sockets[0].getsockname()[1]
    server = RawServer(f"{'https' if tls else 'http'}://{name}:{port}")
    async with listener:
        yield server
