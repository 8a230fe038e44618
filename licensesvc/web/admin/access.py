"""Who may call which route: a guard that runs before anything of the request is read."""

from collections.abc import Mapping
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from licensesvc.services.access.authenticate_admin import COMMAND_LINE, Administrator, authenticate_admin
from licensesvc.storage.credentials import Role
from licensesvc.web.asgi import client_address
from licensesvc.web.observed import tell_caller
from licensesvc.web.problems import Refusal

CONTROL: Final = "licensesvc.control"
"""ASGI scope key that the server sets to True for what arrives on its control socket."""

READER: Final[Mapping[str, Any]] = {"role": Role.READER}
OPERATOR: Final[Mapping[str, Any]] = {"role": Role.OPERATOR}
OWNER: Final[Mapping[str, Any]] = {"role": Role.OWNER}
"""`opt` of a route handler: the least role that may call it. A route that says nothing is the owner's."""

_SCHEME: Final = "bearer "
_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="admin"'}


async def authenticated(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Find out who calls and refuse whoever may not; `request.user` is the Administrator afterwards."""
    administrator = await _administrator(connection, handler)
    if administrator is None:
        raise Refusal(
            "UNAUTHENTICATED", "send the header Authorization: Bearer with a live admin token", headers=_CHALLENGE
        )
    tell_caller(connection.scope, administrator.name)
    needed = handler.opt.get("role", Role.OWNER)
    if not administrator.may(needed):
        raise Refusal("FORBIDDEN", f"this needs the role {needed}, the token has {administrator.role}")
    connection.scope["user"] = administrator


async def _administrator(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler
) -> Administrator | None:
    if connection.scope.get(CONTROL) is True:
        return COMMAND_LINE
    header = connection.headers.get("authorization", "")
    if header[: len(_SCHEME)].lower() != _SCHEME:
        return None
    # A guard is given no dependencies, so it asks for the ones it needs.
    provided = handler.resolve_dependencies()
    runtime, limiter = await provided["runtime"](), await provided["limiter"]()
    async with limiter.bad_tokens(client_address(connection.scope)) as attempt:
        administrator = await authenticate_admin(runtime, header[len(_SCHEME) :])
        if administrator is None:
            await attempt.failed()
    return administrator
