"""Opaque bearer tokens: how they look, how they are found, what is stored of them.

In: form, searchable prefix, hash. Out: who owns them and what they allow.
"""

import base64
import re
from collections.abc import Callable
from hashlib import sha256

from licensesvc.signing import base64url

_HANDLE_BYTES = 5
_SECRET_BYTES = 32
_FORM = re.compile(r"([a-z]{2,8}_[a-z2-7]{8})_[A-Za-z0-9_-]{43}")


def new_token(prefix: str, entropy: Callable[[int], bytes]) -> str:
    """`prefix` (2–8 small letters), 8 searchable characters and 256 secret bits: `lsa_k3v5qz7a_…43…`.

    `entropy(n)` gives n random bytes, as `secrets.token_bytes` does.
    """
    handle = base64.b32encode(entropy(_HANDLE_BYTES)).decode("ascii").lower()
    return f"{prefix}_{handle}_{base64url.encode(entropy(_SECRET_BYTES))}"


def token_prefix(token: str) -> str | None:
    """The part that may be stored and shown, `lsa_k3v5qz7a`; None for a text that is no token."""
    match = _FORM.fullmatch(token)
    return match and match[1]


def token_hash(token: str) -> bytes:
    """What is stored of a token: SHA-256, 32 bytes. Enough without salt, for the secret is 256 random bits."""
    return sha256(token.encode()).digest()
