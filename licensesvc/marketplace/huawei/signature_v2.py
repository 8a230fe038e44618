"""The V2 dialect's signature in the URL of a JSON POST (spec §4.2).

In: making and checking it. Out: remembering nonces, which lies in the database.
"""

import hmac
import re

import msgspec

from licensesvc.domain.instants import MINUTE, SECOND, Instant
from licensesvc.marketplace.huawei.wire import SignatureRefused, query_parameters

WINDOW = MINUTE

_NONCE_FORM = re.compile(r"[0-9A-Za-z_-]{1,64}")
_TIMESTAMP_FORM = re.compile(r"[1-9][0-9]{9}(?:[0-9]{3})?")
_SIGNATURE_FORM = re.compile(r"[0-9A-Fa-f]{64}")
_SECONDS_DIGITS = 10


class V2Call(msgspec.Struct, frozen=True, kw_only=True):
    """A verified call; the caller refuses a `nonce` seen before."""

    nonce: str
    timestamp: Instant


def sign_url(body: bytes, access_key: str, nonce: str, timestamp_ms: int) -> str:
    """Compute the `signature` parameter in lower-case hex over the raw body, the nonce and the digits of the timestamp."""
    key = access_key.encode()
    payload_hash = hmac.digest(key, body, "sha256").hex()
    return hmac.digest(key, f"{access_key}{nonce}{timestamp_ms}{payload_hash}".encode(), "sha256").hex()


def verify_url_signature(query_string: bytes, body: bytes, access_key: str, now: Instant) -> V2Call:
    """Check `signature`, `timestamp` and `nonce` of a call made within 60 seconds of `now`, both ends included.

    A timestamp of 10 digits counts seconds (older senders), of 13 milliseconds. Hex case does not matter. Other query
    parameters belong to the seller's own URL and are ignored. Raises `SignatureRefused`.
    """
    parameters = query_parameters(query_string)
    signature = parameters.get("signature", "")
    timestamp = parameters.get("timestamp", "")
    nonce = parameters.get("nonce", "")
    if not (
        _SIGNATURE_FORM.fullmatch(signature) and _TIMESTAMP_FORM.fullmatch(timestamp) and _NONCE_FORM.fullmatch(nonce)
    ):
        raise SignatureRefused("signature, timestamp or nonce is missing or malformed")
    number = int(timestamp)
    expected = sign_url(body, access_key, nonce, number)
    if not hmac.compare_digest(expected.encode(), signature.lower().encode()):
        raise SignatureRefused("signature does not match")
    sent_at = number * SECOND if len(timestamp) == _SECONDS_DIGITS else number
    if abs(now - sent_at) > WINDOW:
        raise SignatureRefused("timestamp expired")
    return V2Call(nonce=nonce, timestamp=sent_at)
