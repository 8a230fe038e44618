"""A server with little patience behind a real socket, and raw connections to it."""

import asyncio
import contextlib
import functools
import socket

import pytest
import uvicorn

from licensesvc.cli.patience import Patience, PatientProtocol
from licensesvc.web.asgi import BodyTooLarge, ClientGone, read_body

LIMIT_S = 10.0
"""What takes longer is stuck."""
SHORT = Patience(head_s=0.2, body_s=0.2, body_rate=1_000_000, answer_s=0.2, head_bytes=4096, connections=8)


class Application:
    """Echoes bodies up to 1 KiB; `/huge` answers 64 MiB, `/slow` waits until it is released, `/early` reads nothing; keeps what it was told."""

    def __init__(self):
        self.gone = 0
        self.served = 0
        self.released = asyncio.Event()

    async def __call__(self, scope, receive, send):
        if scope["path"] == "/early":
            await self.answer(send, 200, b"")
            return
        try:
            body = await read_body(receive, 1024)
        except ClientGone:
            self.gone += 1
            return
        except BodyTooLarge:
            await self.answer(send, 413, b"")
            return
        if scope["path"] == "/slow":
            await self.released.wait()
        await self.answer(send, 200, bytes(64 << 20) if scope["path"] == "/huge" else body)
        self.served += 1

    async def answer(self, send, status, body):
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


class Wire:
    """One raw connection."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def send(self, data):
        self.writer.write(data)

    async def answer(self):
        """One answer: its status, its head in lower case, its body."""
        async with asyncio.timeout(LIMIT_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            return int(head[9:12]), head, await self.reader.readexactly(length)

    async def end(self):
        """Everything until the server closes."""
        async with asyncio.timeout(LIMIT_S):
            with contextlib.suppress(ConnectionError):
                return await self.reader.read()
            return b""


class Site:
    """The running server."""

    def __init__(self, app, server, port, opened):
        self.app = app
        self.server = server
        self.port = port
        self._opened = opened

    async def connect(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self._opened.push_async_callback(_closed, writer)
        return Wire(reader, writer)

    @property
    def connections(self):
        return len(self.server.server_state.connections)


async def _closed(writer):
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(patience, http=PatientProtocol):
    app = Application()
    protocol = functools.partial(http, patience=patience) if http is PatientProtocol else http
    config = uvicorn.Config(app, http=protocol, ws="none", log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with contextlib.AsyncExitStack() as opened:
                yield Site(app, server, listener.getsockname()[1], opened)
        finally:
            app.released.set()
            await until(lambda: server.started)
            server.should_exit = True
            await task


async def until(condition):
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - the server has no event to wait for
            await asyncio.sleep(0.005)


@pytest.fixture
async def site():
    async with serving(SHORT) as running:
        yield running


@pytest.fixture
async def impatient_site():
    """The server without the product's protocol: the control of every time-out."""
    async with serving(SHORT, http="httptools") as running:
        yield running


@pytest.fixture
def serve():
    """Start a server with another patience."""
    return serving


@pytest.fixture(name="until")
def until_fixture():
    return until
