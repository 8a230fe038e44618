"""`saasExtendParams` of License 1.0 (spec §2.2 [I]): `base64Decode(urlDecode(x))` of a URL-encoded JSON array of names and values.

In: peeling the layers off, however many a sender has put around, and the one value that we read. Out: what it is used for.
"""

import base64
from typing import Any, Final
from urllib.parse import unquote

from licensesvc.domain.errors import InvalidParameter
from licensesvc.strictjson import decode_object

IDENTIFICATION_CODE: Final = "identificationCode"
MAX_IDENTIFICATION_CODE: Final = 1024
"""Characters, as many as a `deviceFingerprint` (spec §2.3)."""
MAX_LAYERS: Final = 4
"""Encodings around the array: URL, base64, URL, and one more by a sender that encodes twice."""

_URL_SAFE: Final = str.maketrans("-_ ", "+/+")  # a plus that was not escaped has become a blank on its way
_REFUSAL: Final = "saasExtendParams is not base64 of a URL-encoded JSON array of names and values"


def identification_code(text: str | None) -> str | None:
    """Return the value named `identificationCode`, None where there is none. Raises `InvalidParameter`, which never quotes it."""
    if text is None:
        return None
    values = [item.get("value") for item in _parameters(text) if item.get("name") == IDENTIFICATION_CODE]
    told = {value for value in values if value is not None and value != ""} if _all_texts(values) else None
    if told is None or len(told) > 1:
        raise InvalidParameter(f"saasExtendParams: {IDENTIFICATION_CODE} is not one text")
    code = next(iter(told), None)
    if code is not None and (len(code) > MAX_IDENTIFICATION_CODE or not code.isprintable()):
        raise InvalidParameter(
            f"saasExtendParams: {IDENTIFICATION_CODE} is not a printable text of at most {MAX_IDENTIFICATION_CODE} characters"
        )
    return code


def _all_texts(values: list[Any]) -> bool:
    return all(value is None or isinstance(value, str) for value in values)


def _parameters(text: str) -> list[dict[str, Any]]:
    for _ in range(MAX_LAYERS + 1):
        text = text.strip()
        if text.startswith("["):
            return _array(text)
        text = _peeled(text)
    raise InvalidParameter(_REFUSAL)


def _peeled(text: str) -> str:
    try:
        if "%" in text:
            return unquote(text, errors="strict")
        padded = text.translate(_URL_SAFE).rstrip("=")
        return base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True).decode()
    except ValueError:  # base64, UTF-8 or ASCII
        raise InvalidParameter(_REFUSAL) from None


def _array(text: str) -> list[dict[str, Any]]:
    try:
        items = decode_object(b'{"items":%b}' % text.encode())["items"]
    except ValueError:
        raise InvalidParameter(_REFUSAL) from None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InvalidParameter(_REFUSAL)
    return items
