"""Orders: what each source tells of them, and asking the marketplace."""
