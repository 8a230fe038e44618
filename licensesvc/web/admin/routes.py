"""The router of `/admin/v1`: its guard, its limits and its routes."""

from litestar import Router

from licensesvc.web import delivery_packs
from licensesvc.web.admin import (
    agreements,
    alert_channels,
    alerts,
    audit,
    buyer_links,
    buyers,
    catalog,
    connections,
    credentials,
    deadlines,
    delisting,
    exports,
    imports,
    keys,
    license_changes,
    licenses,
    maintenance,
    messages,
    orders,
    proofs,
    reconciliation,
    restarts,
    settlement,
    standards,
    statistics,
    supervision,
    tokens,
    usage,
    vault,
    webhook_deliveries,
    webhook_endpoints,
)
from licensesvc.web.admin.access import authenticated
from licensesvc.web.docs import ADMIN_SCHEME
from licensesvc.web.jsonbody import MAX_BODY, JSONRequest


def admin_router() -> Router:
    """The routes; the application provides `runtime` (without parameters), `settings`, `gate` and `guard`."""
    return Router(
        "/admin/v1",
        route_handlers=[
            *connections.ROUTES,
            *catalog.ROUTES,
            *standards.ROUTES,
            *orders.ROUTES,
            *licenses.ROUTES,
            *license_changes.ROUTES,
            *usage.ROUTES,
            *credentials.ROUTES,
            *supervision.ROUTES,
            *proofs.ROUTES,
            *buyer_links.ROUTES,
            *delivery_packs.ROUTES,
            *messages.ROUTES,
            *restarts.ROUTES,
            *reconciliation.ROUTES,
            *tokens.ROUTES,
            *keys.ROUTES,
            *imports.ROUTES,
            *exports.ROUTES,
            *audit.ROUTES,
            *statistics.ROUTES,
            *buyers.ROUTES,
            *vault.ROUTES,
            *maintenance.ROUTES,
            *delisting.ROUTES,
            *alerts.ROUTES,
            *alert_channels.ROUTES,
            *settlement.ROUTES,
            *agreements.ROUTES,
            *deadlines.ROUTES,
            *webhook_endpoints.ROUTES,
            *webhook_deliveries.ROUTES,
        ],
        guards=[authenticated],
        request_class=JSONRequest,
        request_max_body_size=MAX_BODY,
        security=[{ADMIN_SCHEME: []}],
        tags=["admin"],
    )
