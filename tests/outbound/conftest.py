"""Listeners on loopback that count who comes, over IPv4 and IPv6 where the host has it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest


@dataclass
class Listener:
    """Counts connections; whoever connects is hung up on, unless `answer` is what to say."""

    port: int = 0
    connections: int = 0
    answer: bytes = b""
    heard: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if self.answer:
            self.heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            await writer.drain()
        writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    """One on every loopback address, at one port."""
    listening = Listener()
    hosts = ["0.0.0.0", "::"] if socket.has_ipv6 else ["0.0.0.0"]
    with socket.create_server(("0.0.0.0", 0)) as four:
        listening.port = four.getsockname()[1]
        servers = [await asyncio.start_server(listening.serve, sock=four)]
        if len(hosts) > 1:
            six = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
            six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            six.bind(("::", listening.port))
            servers.append(await asyncio.start_server(listening.serve, sock=six))
        yield listening
        for server in servers:
            server.close()
            await server.wait_closed()
