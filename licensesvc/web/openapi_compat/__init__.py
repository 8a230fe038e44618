"""The marketplace-compatible open API: end-user software calls us as it would call the marketplace (spec §1)."""
