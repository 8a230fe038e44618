"""The end of a server's life, readiness first: `/readyz` says 503 and connections are not reused while requests are still served."""

from typing import TYPE_CHECKING, Final

from litestar.enums import ScopeType

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Receive, Scope, Send

READINESS: Final = "/readyz"
_TEXT: Final = b"draining\n"


class Drain:
    """Passes everything on until it is told to drain."""

    def __init__(self, app: "ASGIApp") -> None:
        self._app = app
        self.draining = False

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Serve; while draining every answer closes its connection."""
        if not self.draining or scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return

        async def last(message: "Message") -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        if scope["path"] != READINESS:
            await self._app(scope, receive, last)
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(_TEXT)).encode())]
        await last({"type": "http.response.start", "status": 503, "headers": headers})
        await last({"type": "http.response.body", "body": _TEXT, "more_body": False})
