"""Bodies that strangers send: JSON objects without the ambiguities that the standard decoder lets through.

In: one function, fast enough for the hot path. Out: schemas; unknown fields are the caller's business.
"""

import json
import re
from math import isinf
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 64
"""Objects and arrays inside one another."""
MAX_INTEGER_DIGITS: Final = 18
"""Integers of so many digits fit the 64 bits that a database column holds."""

_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


class Unreadable(ValueError):
    """The body is no JSON that we could read: encoding, syntax, depth or size of numbers."""


class Unacceptable(ValueError):
    """The body is JSON, but no object, ambiguous (a key twice) or with text that cannot be stored."""


def decode_object(body: bytes) -> dict[str, Any]:
    """Return the one JSON object in `body` (UTF-8, no BOM), else raise Unreadable or Unacceptable.

    Of several faults the first one met while reading is reported.
    """
    try:
        document = _DECODER.decode(body.decode())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise Unreadable("not readable as JSON in UTF-8") from None
    if not isinstance(document, dict):
        raise Unacceptable("not a JSON object")
    # Only an escape can smuggle in NUL or half a surrogate pair, and only so many brackets can nest too deep.
    if b"\\u" in body or body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        _inspect(document)
    return document


def _inspect(document: dict[str, Any]) -> None:
    """Walk the document level by level: a recursive walk would itself run out of stack."""
    level: list[Any] = [document]
    depth = 0
    while level:
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                if _UNSTORABLE.search(value):
                    raise Unacceptable("a string contains NUL or half a surrogate pair")
            elif isinstance(value, dict):
                below += value.keys()
                below += value.values()
            elif isinstance(value, list):
                below += value
        depth += 1
        if depth > MAX_DEPTH and any(isinstance(value, dict | list) for value in level):
            raise Unreadable("nested too deeply")
        level = below


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Unacceptable("a key occurs twice in one object")
    return members


def _integer(digits: str) -> int:
    if len(digits.removeprefix("-")) > MAX_INTEGER_DIGITS:
        raise Unreadable("an integer is too large")
    return int(digits)


def _fraction(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise Unreadable("a number is too large")
    return number


def _constant(name: str) -> NoReturn:
    raise Unreadable(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
)
