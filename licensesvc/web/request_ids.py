"""A name for every request, given by the client or made here, that answers and log records carry.

In: the ASGI wrapper to put around the whole application: middleware of the framework would leave out what its routing refuses. Out: logging.
"""

import re
import secrets
from typing import Final, cast

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from licensesvc.logs import looks_secret

HEADER: Final = b"x-request-id"

_MADE_BYTES: Final = 16
_SCOPE_KEY: Final = "licensesvc.request_id"
_ACCEPTED: Final = re.compile(rb"[A-Za-z0-9-]{1,64}")


class RequestIds:
    """Echoes an `X-Request-Id` of 1 to 64 letters, digits and dashes; makes one where there is none, or another text.

    A text that looks like a license code is not taken either: names stand in logs.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name a request; other scopes pass."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        name = dict(scope["headers"]).get(HEADER, b"")
        if not _ACCEPTED.fullmatch(name) or looks_secret(name.decode()):
            name = secrets.token_hex(_MADE_BYTES).encode()
        scope[_SCOPE_KEY] = name.decode()  # type: ignore[typeddict-unknown-key]  # ASGI leaves room for more keys

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (HEADER, name)]
            await send(message)

        await self._app(scope, receive, named)


def request_id(scope: Scope) -> str | None:
    """The name of the request; None where the application runs without `RequestIds`."""
    return cast("str | None", scope.get(_SCOPE_KEY))
