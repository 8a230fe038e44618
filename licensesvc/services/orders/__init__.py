"""Orders: what each source tells of them, asking the marketplace, comparing and repairing."""
