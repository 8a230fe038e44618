"""The HTTP server of `serve` and `sandbox`: sockets, signals, the ready line. Imports uvicorn: load it only to serve.

In: one uvicorn server on sockets that we open ourselves. Out: the applications.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import uvicorn
import uvloop

from licensesvc import logs
from licensesvc.app import create_app, open_runtime, require_data
from licensesvc.cli.control import ControlMark, listen_control
from licensesvc.cli.datalock import data_lock
from licensesvc.cli.errors import Failure
from licensesvc.settings import Settings

if TYPE_CHECKING:
    from litestar.types import ASGIApp

BACKLOG: Final = 2048
"""Connections that wait to be accepted."""
_STDIN: Final = 0
KEEP_ALIVE_S: Final = 15
GRACE_S: Final = 10
"""How long requests in flight may take to finish once the server is told to stop."""


def serve_data(settings: Settings) -> None:
    """Serve a data directory until SIGINT or SIGTERM."""
    logs.configure(settings.log_level)
    require_data(settings)
    with data_lock(settings.lock_file) as lock, listen_tcp(settings.host, settings.port) as tcp:
        lock.tell(f"licensesvc serve (process {os.getpid()}) on {url_of(tcp)}")
        uvloop.run(_serve_data(settings, tcp))


async def _serve_data(settings: Settings, tcp: socket.socket) -> None:
    async with open_runtime(settings) as rt:
        with listen_control(settings.control_socket) as control:
            app = ControlMark(create_app(rt, settings), control.getsockname())
            await run_server(app, [tcp, control], f"licensesvc ready on {url_of(tcp)} - API page {url_of(tcp)}/schema")


def listen_tcp(host: str, port: int) -> socket.socket:
    """Listen on an address; Failure with one line when that cannot be done."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise Failure(f"cannot listen on {host}: {error.strerror}; choose another --host") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise Failure(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another --host or --port"
        ) from None
    return listening


def url_of(listening: socket.socket) -> str:
    """The base URL of a listening TCP socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def run_server(app: "ASGIApp", sockets: Sequence[socket.socket], ready_line: str) -> None:
    """Serve until SIGINT or SIGTERM; `ready_line` goes to stdout once requests are answered."""
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="on",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config, lambda: print(ready_line, flush=True))  # noqa: T201 - what a starter waits for
    # uvicorn raises the signal that stopped it again afterwards; with its own handler underneath, that ends nothing.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.handle_exit)
    try:
        await server.serve(sockets=list(sockets))
    except SystemExit:
        raise Failure("the application could not start; the log above says why") from None


class _Server(uvicorn.Server):
    """Tells when it has started."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._ready()


def stop_with_parent() -> None:
    """Stop this process when standard input ends: a parent that holds the other end cannot leave it behind."""

    def watch() -> None:
        # Not through sys.stdin, whose lock a blocked thread would still hold while the interpreter ends.
        while os.read(_STDIN, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
