"""Our own API for software: signed documents, validation with receipts, device seats."""
