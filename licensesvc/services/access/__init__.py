"""Who may come in: tokens, credentials, limits, idempotency keys."""
