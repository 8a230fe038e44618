"""The URIs of the compatible API: one table of calls, each behind the same frame (spec §1)."""

from typing import Final

from litestar import asgi
from litestar.handlers import ASGIRouteHandler

from licensesvc.services.authenticate_software import SoftwareGate
from licensesvc.services.limit_attempts import Limiter
from licensesvc.services.runtime import Runtime
from licensesvc.web.openapi_compat.endpoint import Call, CompatibleEndpoint
from licensesvc.web.openapi_compat.license_calls import license_calls

ROOT: Final = "/api/mkp-openapi-public/global"


def calls(rt: Runtime) -> list[Call]:
    """Every call, decided by ourselves."""
    return [*license_calls(rt)]


def compatible_routes(rt: Runtime, gate: SoftwareGate, limiter: Limiter) -> list[ASGIRouteHandler]:
    """Every route of the compatible API."""
    return [
        asgi(f"{ROOT}{call.path}", copy_scope=False)(CompatibleEndpoint(rt, gate, limiter, call).__call__)
        for call in calls(rt)
    ]
