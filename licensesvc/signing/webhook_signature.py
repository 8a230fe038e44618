"""Signatures of webhook messages (Standard Webhooks 1.0): `v1` HMAC-SHA256 under a shared secret, `v1a` Ed25519.

In: making secrets, the signed content, the header. Out: where secrets are kept. What receivers get: `whsec_…` (secret) or `whpk_…` (public key).
"""

import base64
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

SECRET_BYTES: Final = 32
"""The specification asks for 24 to 64; an Ed25519 seed has 32."""


class SignatureKind(StrEnum):
    """How a message is signed."""

    HMAC = "v1"
    ED25519 = "v1a"


class WebhookSecret(msgspec.Struct, frozen=True, kw_only=True):
    """One secret in clear: `raw` is the HMAC key or the Ed25519 seed."""

    kind: SignatureKind
    raw: bytes

    def __repr__(self) -> str:
        return f"WebhookSecret({self.kind})"

    @property
    def shown(self) -> str | None:
        """`whsec_…`, for the receiver; the private key of `v1a` is shown to nobody."""
        return "whsec_" + base64.b64encode(self.raw).decode() if self.kind is SignatureKind.HMAC else None

    @property
    def public_key(self) -> str | None:
        """`whpk_…` of `v1a`."""
        if self.kind is SignatureKind.HMAC:
            return None
        public = Ed25519PrivateKey.from_private_bytes(self.raw).public_key().public_bytes_raw()
        return "whpk_" + base64.b64encode(public).decode()

    def sign(self, content: bytes) -> str:
        """One signature as it stands in the header."""
        if self.kind is SignatureKind.HMAC:
            keyed = HMAC(self.raw, SHA256())
            keyed.update(content)
            signature = keyed.finalize()
        else:
            signature = Ed25519PrivateKey.from_private_bytes(self.raw).sign(content)
        return f"{self.kind},{base64.b64encode(signature).decode()}"


def new_secret(kind: SignatureKind, entropy: Callable[[int], bytes]) -> WebhookSecret:
    """A fresh secret."""
    return WebhookSecret(kind=kind, raw=entropy(SECRET_BYTES))


def headers(message_id: str, timestamp: int, body: bytes, secrets: Sequence[WebhookSecret]) -> dict[str, str]:
    """The three headers of an attempt at `timestamp` (s since 1970); one signature for each secret, separated by blanks."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(secret.sign(content) for secret in secrets),
    }
