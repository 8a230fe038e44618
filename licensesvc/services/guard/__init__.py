"""The delisting guard: what is near its limit, and telling somebody."""
