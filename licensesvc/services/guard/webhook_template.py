"""Bodies for webhooks and gateways: a JSON object whose texts hold placeholders like `$text`, so a new gateway is a row and no code.

In: checking a template, filling it. Out: sending. Values are put into the decoded texts, so none can break out of its place.
"""

from collections.abc import Mapping
from string import Template
from typing import Any, Final

import msgspec

from licensesvc.domain.errors import InvalidParameter

MAX_TEMPLATE_BYTES: Final = 4_096
PLACEHOLDERS: Final = (
    "event",
    "alert",
    "connection",
    "gauge",
    "level",
    "value",
    "limit",
    "opened_at",
    "at",
    "recipient",
    "subject",
    "text",
)
DEFAULT: Final[Mapping[str, Any]] = {name: f"${name}" for name in PLACEHOLDERS if name != "recipient"}
"""What a webhook without a template is sent."""


def checked(template: Mapping[str, Any]) -> str:
    """The JSON text of a template; InvalidParameter when it is too large or names what there is not."""
    encoded = msgspec.json.encode(template)
    if len(encoded) > MAX_TEMPLATE_BYTES:
        raise InvalidParameter(f"template must have at most {MAX_TEMPLATE_BYTES} bytes")
    try:
        _filled(template, dict.fromkeys(PLACEHOLDERS, ""))
    except (KeyError, ValueError):
        known = ", ".join(f"${name}" for name in PLACEHOLDERS)
        raise InvalidParameter(f"the texts of template may hold {known}, and $$ for a dollar sign") from None
    return encoded.decode()


def fill(template: str | None, values: Mapping[str, str]) -> bytes:
    """The body: a checked template, or the default one, with the values in place."""
    return msgspec.json.encode(_filled(DEFAULT if template is None else msgspec.json.decode(template), values))


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    match value:
        case str():
            return Template(value).substitute(values)
        case Mapping():
            return {key: _filled(inner, values) for key, inner in value.items()}
        case list():
            return [_filled(inner, values) for inner in value]
    return value
