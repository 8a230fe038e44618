"""Calls of the marketplace to us: what each of them does, and the connection that it comes through."""
