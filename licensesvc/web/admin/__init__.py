"""`/admin/v1`: what the seller's people and programs set up, look at and record."""

from licensesvc.web.admin.routes import admin_router

__all__ = ["admin_router"]
