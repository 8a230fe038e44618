"""Licenses: issuing, signing, changing by hand, activating, asking, seats, use."""
