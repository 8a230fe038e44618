"""The HTTP server of `serve` and `sandbox`: sockets, signals, the ready line. Imports uvicorn: load it only to serve.

In: one uvicorn server on sockets that we open ourselves. Out: the applications.
"""

import asyncio
import os
import resource
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
import uvicorn
import uvloop

from licensesvc import logs
from licensesvc.app import open_database, open_observed_app, open_runtime, require_data
from licensesvc.cli.control import ControlMark, listen_control
from licensesvc.cli.datalock import data_lock
from licensesvc.cli.draining import Drain
from licensesvc.cli.errors import Failure
from licensesvc.cli.patience import Patience, PatientProtocol
from licensesvc.cli.sdnotify import READY, STOPPING, keep_alive, notify
from licensesvc.cli.tls import Certificate, certificate_of
from licensesvc.metrics import Metrics
from licensesvc.settings import Settings

if TYPE_CHECKING:
    from litestar.types import ASGIApp

BACKLOG: Final = 2048
"""Connections that wait to be accepted."""
_STDIN: Final = 0
KEEP_ALIVE_S: Final = 15
GRACE_S: Final = 10
"""How long requests in flight may take to finish once the server is told to stop."""
TLS_CLOSE_S: Final = 5
"""How long a client may take to say goodbye in TLS."""
SPARE_DESCRIPTORS: Final = 256
"""Open files beside the connections: database, calls out. Wanted is four times the connections: some are being refused, or in a handshake."""

_log = structlog.get_logger(__name__)


def serve_data(settings: Settings) -> None:
    """Serve a data directory until SIGINT or SIGTERM."""
    logs.configure(settings.log_level)
    require_data(settings)
    certificate = certificate_of(settings)
    _allow_descriptors(settings.max_connections)
    with ExitStack() as opened:
        lock = opened.enter_context(data_lock(settings.lock_file))
        tcp = opened.enter_context(listen_tcp(settings.host, settings.port))
        metrics = None
        if settings.metrics_port is not None:
            metrics = opened.enter_context(listen_tcp(settings.metrics_host, settings.metrics_port))
        lock.tell(f"licensesvc serve (process {os.getpid()}) on {url_of(tcp, tls=certificate is not None)}")
        uvloop.run(_serve_data(settings, tcp, metrics, certificate))


async def _serve_data(
    settings: Settings, tcp: socket.socket, metrics_tcp: socket.socket | None, certificate: Certificate | None
) -> None:
    url = url_of(tcp, tls=certificate is not None)
    if certificate is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload, certificate)
    metrics = Metrics()
    opening = partial(open_database, on_batch=metrics.batch)
    async with (
        open_runtime(settings, opening, on_sign=metrics.signed) as rt,
        open_observed_app(rt, settings, metrics) as observed,
    ):
        with listen_control(settings.control_socket) as control:
            await run_server(
                ControlMark(observed, control.getsockname()),
                [tcp],
                f"licensesvc ready on {url} - API page {url}/schema",
                inside=[control] if metrics_tcp is None else [control, metrics_tcp],
                tls=certificate.context if certificate is not None else None,
                patience=Patience(connections=settings.max_connections),
                drain_s=settings.drain_seconds,
            )


def _reload(certificate: Certificate) -> None:
    try:
        certificate.reload()
    except Exception as error:  # noqa: BLE001 - a bad file must not end a server that has a good one
        _log.error("certificate_not_reloaded", error=str(error))
    else:
        _log.info("certificate_reloaded")


def _allow_descriptors(connections: int) -> None:
    """Raise the limit of open files, which is often 1,024, as far as needed and allowed."""
    needed, wanted = (times * connections + SPARE_DESCRIPTORS for times in (1, 4))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most < needed:
        _log.warning("few_descriptors", needed=needed, allowed=most)


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


def url_of(listening: socket.socket, *, tls: bool = False) -> str:
    """The base URL of a listening TCP socket."""
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{shown}:{port}"


async def run_server(
    app: "ASGIApp",
    sockets: Sequence[socket.socket],
    ready_line: str,
    *,
    inside: Sequence[socket.socket] = (),
    tls: ssl.SSLContext | None = None,
    patience: Patience = Patience(),  # noqa: B008 - a frozen value
    drain_s: float = 0.0,
) -> None:
    """Serve until SIGINT or SIGTERM, and `drain_s` longer; `ready_line` goes to stdout once requests are answered.

    With `tls` the `sockets` speak it; those `inside` the installation stay plain.
    """
    drain = Drain(app)
    config = uvicorn.Config(
        drain,
        loop="none",
        http=cast("type[asyncio.Protocol]", partial(PatientProtocol, patience=patience)),
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
    server = _Server(
        config,
        lambda: print(ready_line, flush=True),  # noqa: T201 - what a starter waits for
        secure=sockets if tls is not None else (),
        tls=tls,
        handshake_s=patience.head_s,
        drain=drain,
        drain_s=drain_s,
    )
    # uvicorn raises the signal that stopped it again afterwards; with its own handler underneath, that ends nothing.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, server.handle_exit)
    try:
        await server.serve(sockets=[*sockets, *inside])
    except SystemExit:
        raise Failure("the application could not start; the log above says why") from None


class _Server(uvicorn.Server):
    """Speaks TLS on some of its sockets, tells a starter and systemd when it has started and stops, and drains before."""

    def __init__(
        self,
        config: uvicorn.Config,
        ready: Callable[[], None],
        *,
        secure: Sequence[socket.socket],
        tls: ssl.SSLContext | None,
        handshake_s: float,
        drain: Drain,
        drain_s: float,
    ) -> None:
        super().__init__(config)
        self._ready = ready
        self._secure = secure
        self._tls = tls
        self._handshake_s = handshake_s
        self._drain = drain
        self._drain_s = drain_s
        self._stop_at: float | None = None
        self._alive: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=[s for s in sockets or () if s not in self._secure])
        loop = asyncio.get_running_loop()
        for listening in self._secure:
            self.servers.append(
                await loop.create_server(
                    self._connection,
                    sock=listening,
                    ssl=self._tls,
                    backlog=BACKLOG,
                    ssl_handshake_timeout=self._handshake_s,
                    ssl_shutdown_timeout=TLS_CLOSE_S,
                )
            )
        self._ready()
        notify(READY)
        self._alive = asyncio.create_task(keep_alive(), name="watchdog")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        notify(STOPPING)
        await super().shutdown(sockets=sockets)
        if self._alive:
            self._alive.cancel()

    async def on_tick(self, counter: int) -> bool:
        if not await super().on_tick(counter):
            return False
        now = asyncio.get_running_loop().time()
        if self._stop_at is None:
            self._drain.draining = True
            self._stop_at = now + self._drain_s
        return self.force_exit or now >= self._stop_at

    def _connection(self) -> asyncio.Protocol:
        protocol: Any = self.config.http_protocol_class
        made: asyncio.Protocol = protocol(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


def stop_with_parent() -> None:
    """Stop this process when standard input ends: a parent that holds the other end cannot leave it behind."""

    def watch() -> None:
        # Not through sys.stdin, whose lock a blocked thread would still hold while the interpreter ends.
        while os.read(_STDIN, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
