"""Base64url without padding (RFC 7515 §2), one spelling per value.

In: encoding and strict decoding. Out: what the bytes mean.
"""

import base64


def encode(data: bytes) -> str:
    """Text of `data`, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Bytes of `text`; ValueError for padding, foreign characters, impossible lengths and set unused bits."""
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # The standard library skips foreign characters and ignores unused bits: many spellings, one value.
    if encode(data) != text:
        raise ValueError("not canonical base64url")
    return data
