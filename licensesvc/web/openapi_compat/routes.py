"""The URIs of the compatible API: one table of calls, each behind the same frame (spec §1)."""

from typing import Final

from litestar import asgi
from litestar.handlers import ASGIRouteHandler
from litestar.types import ASGIApp

from licensesvc.services.access.authenticate_software import SoftwareGate
from licensesvc.services.access.limit_attempts import Limiter
from licensesvc.services.relay.relay import RelayDesk
from licensesvc.services.runtime import Runtime
from licensesvc.web.asgi import FewLargeBodies
from licensesvc.web.openapi_compat.endpoint import MAX_BODY_BYTES, Call, CompatibleEndpoint, NoSuchCall
from licensesvc.web.openapi_compat.license_calls import license_calls
from licensesvc.web.openapi_compat.order_query import order_calls
from licensesvc.web.openapi_compat.relayed import relayed
from licensesvc.web.openapi_compat.usage import usage_calls

ROOT: Final = "/api/mkp-openapi-public/global"


def calls(rt: Runtime) -> list[Call]:
    """Every call, decided by ourselves."""
    return [*license_calls(rt), *usage_calls(rt), *order_calls(rt)]


def compatible_routes(rt: Runtime, gate: SoftwareGate, limiter: Limiter, desk: RelayDesk) -> list[ASGIRouteHandler]:
    """Every route of the compatible API; the desk relays for connections that want it."""

    def served(call: Call) -> ASGIApp:
        endpoint = CompatibleEndpoint(rt, gate, limiter, call)
        if call.body_limit <= MAX_BODY_BYTES:
            return endpoint.__call__
        return FewLargeBodies(endpoint, MAX_BODY_BYTES).__call__

    routes = [asgi(f"{ROOT}{call.path}", copy_scope=False)(served(call)) for call in relayed(rt, desk, calls(rt))]
    return [*routes, asgi(ROOT, is_mount=True, copy_scope=False)(NoSuchCall(rt).__call__)]
