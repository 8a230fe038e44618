"""Orders here against orders at the marketplace: comparing, finding, repairing."""
