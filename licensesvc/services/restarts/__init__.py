"""Carrying out again what failed: interface messages, waiting work."""
