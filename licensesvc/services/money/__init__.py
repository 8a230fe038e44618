"""Prices, payments, settlement; agreements."""
