"""Relay mode: software asks us, we ask the marketplace."""
