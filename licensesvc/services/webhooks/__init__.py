"""Webhooks: endpoints, feeding them from the audit chains, sending."""
