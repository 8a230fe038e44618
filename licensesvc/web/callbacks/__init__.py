"""What the marketplace calls: one URL a connection, told apart by method and `activity` (spec §2)."""
