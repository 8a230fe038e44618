"""The V1 dialect's two signatures: `authToken` on requests (spec §4.1.1), `Body-Sign` on responses (§4.1.2).

In: making and checking both. Out: the parameters' meaning (`callbacks`), getting the header's case onto the wire.
"""

import hmac
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from datetime import UTC

import msgspec

from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import HOUR, Instant, parse_stamp
from licensesvc.marketplace.huawei.wire import SignatureRefused

BODY_SIGN_HEADER = "Body-Sign"

_BEIJING_OFFSET = 8 * HOUR
# Live sellers send a blank after the comma or an equals sign, or none; the marketplace accepts all.
_BODY_SIGN_FORM = re.compile(r'sign_type= ?"HMAC-SHA256", ?signature= ?"([^"]+)"')


class V1Request(msgspec.Struct, frozen=True, kw_only=True):
    """A verified call: its decoded parameters without `authToken`, and when it was made."""

    parameters: Mapping[str, str]
    sent_at: Instant
    beijing_clock: bool
    """The sender wrote Beijing time where the protocol wants UTC; `sent_at` is corrected."""


def auth_token(parameters: Iterable[tuple[str, str]], access_key: str) -> str:
    """Compute `authToken` over decoded parameters; `timeStamp` must be among them (`KeyError`), `authToken` must not."""
    ordered = dict(sorted(parameters))
    key = access_key + ordered["timeStamp"]
    return _mac(key, "&".join(f"{name}={value}" for name, value in ordered.items()).encode())


def verify_auth_token(query: Mapping[str, str], access_key: str, now: Instant, window: int) -> V1Request:
    """Check the decoded query of a V1 call (`wire.query_parameters`); `window` in ms, both ends included.

    In `authToken` itself a `+` is a plus: base64 knows no blank, and some senders forget to encode it. Everywhere else it
    is a blank (see `wire.query_parameters`). A stamp eight hours ahead of UTC is taken as Beijing time and flagged.
    Raises `SignatureRefused`.
    """
    parameters = dict(query)
    token = parameters.pop("authToken", "").replace(" ", "+")
    stamp = parameters.get("timeStamp", "")
    if not token or not stamp:
        raise SignatureRefused("authToken or timeStamp is missing")
    expected = auth_token(parameters.items(), access_key)
    if not hmac.compare_digest(expected.encode(), token.encode()):
        raise SignatureRefused("authToken does not match")
    try:
        written = parse_stamp(stamp, UTC)
    except InvalidParameter:
        raise SignatureRefused("timeStamp is malformed") from None
    for sent_at, beijing_clock in ((written, False), (written - _BEIJING_OFFSET, True)):
        if abs(now - sent_at) <= window:
            return V1Request(parameters=parameters, sent_at=sent_at, beijing_clock=beijing_clock)
    raise SignatureRefused("timeStamp expired")


def body_sign(body: bytes, access_key: str) -> str:
    """Return the whole header value for these body bytes, without a blank after `=` (spec §11.3)."""
    return f'sign_type="HMAC-SHA256", signature="{_mac(access_key, body)}"'


def check_body_sign(value: str | None, body: bytes, access_key: str) -> None:
    """Check a response's `Body-Sign` as the marketplace does; raises `SignatureRefused` with its words (spec §4.1.2)."""
    if not value:
        raise SignatureRefused("http header->bodySign is empty.")
    form = _BODY_SIGN_FORM.fullmatch(value)
    if form is None:
        raise SignatureRefused("http header->sign_type is not equals HMAC-SHA256 or signature is empty.")
    expected = _mac(access_key, body)
    if not hmac.compare_digest(expected.encode(), form[1].encode()):
        raise SignatureRefused(f"Failed to verify the HTTP Body signature. Expected signature value: {expected}")


def _mac(key: str, data: bytes) -> str:
    return b64encode(hmac.digest(key.encode(), data, "sha256")).decode()
