"""Calls of the marketplace to us: what each of them does."""
