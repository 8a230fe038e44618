"""Crockford's base 32: the symbols of public ids and license codes, without I, L, O and U.

In: fixed-width numbers to text and back. Out: what a reader may mistype, which only license codes forgive.
"""

from typing import Final

SYMBOLS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

_TO_DIGITS: Final = str.maketrans(SYMBOLS, "0123456789ABCDEFGHIJKLMNOPQRSTUV")


def encode(value: int, width: int) -> str:
    """Return the lowest `width` symbols (5 bits each) of a non-negative `value`, most significant first."""
    return "".join([SYMBOLS[value >> shift & 31] for shift in range(5 * width - 5, -1, -5)])


def decode(symbols: str) -> int:
    """Return the number that upper-case `symbols` stand for; the caller has checked that each is in `SYMBOLS`."""
    return int(symbols.translate(_TO_DIGITS), 32)
