"""The control socket of a running server: 0600, so whoever can open it is the server's own user."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Receive, Scope, Send

SCOPE_KEY: Final = "licensesvc.control"

_MAX_PATH_BYTES: Final = 100
"""The kernel's limit is 108 with the final NUL, other systems' 104."""


@contextmanager
def listen_control(path: Path) -> Iterator[socket.socket]:
    """Listen on `path` until the end of the context. Only for the holder of the data lock: a dead server's file goes."""
    path.unlink(missing_ok=True)
    with short_path(path) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        others = os.umask(0o177)
        try:
            listening.bind(address)
        finally:
            os.umask(others)
        try:
            listening.listen()
            yield listening
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """An address of the socket at `path` that fits into the kernel's structure, valid within the context."""
    if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


class ControlMark:
    """Marks in every scope whether the request came through the control socket; nothing that a client sends can."""

    def __init__(self, app: "ASGIApp", address: str | None) -> None:
        """`address` is the name of the control socket; None takes every request for one of our own process."""
        self._app = app
        self._address = address

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Pass the scope on with its mark."""
        marked: dict[str, Any] = scope  # type: ignore[assignment]  # ASGI leaves room for more keys
        marked[SCOPE_KEY] = self._address is None or marked.get("server") == (self._address, None)
        await self._app(scope, receive, send)
