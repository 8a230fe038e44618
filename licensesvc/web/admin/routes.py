"""The router of `/admin/v1`: its guard, its limits and its routes."""

from litestar import Router

from licensesvc.web.admin import (
    audit,
    buyers,
    catalog,
    connections,
    credentials,
    files,
    keys,
    license_changes,
    licenses,
    maintenance,
    messages,
    orders,
    statistics,
    supervision,
    tokens,
    vault,
    webhook_deliveries,
    webhook_endpoints,
)
from licensesvc.web.admin.access import authenticated
from licensesvc.web.docs import ADMIN_SCHEME
from licensesvc.web.jsonbody import MAX_BODY, JSONRequest


def admin_router() -> Router:
    """The routes; the application provides `runtime` (without parameters), `settings` and `gate`."""
    return Router(
        "/admin/v1",
        route_handlers=[
            *connections.ROUTES,
            *catalog.ROUTES,
            *orders.ROUTES,
            *licenses.ROUTES,
            *license_changes.ROUTES,
            *credentials.ROUTES,
            *supervision.ROUTES,
            *messages.ROUTES,
            *tokens.ROUTES,
            *keys.ROUTES,
            *files.ROUTES,
            *audit.ROUTES,
            *statistics.ROUTES,
            *buyers.ROUTES,
            *vault.ROUTES,
            *maintenance.ROUTES,
            *webhook_endpoints.ROUTES,
            *webhook_deliveries.ROUTES,
        ],
        guards=[authenticated],
        request_class=JSONRequest,
        request_max_body_size=MAX_BODY,
        security=[{ADMIN_SCHEME: []}],
        tags=["admin"],
    )
