"""Who signs: the holder of the keys in this process.

In: signing of prepared bytes, following a rotation. Out: preparing them (`envelope`), keeping keys (`keyset`).
"""

import time
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature

from licensesvc.signing.envelope import kid_of
from licensesvc.signing.keyset import Keyset, KeyStatus


class ForeignKid(Exception):
    """The bytes name a key that is unknown or compromised: prepare them anew with the signer's `kid`."""


class KeysetSigner:
    """Signs with the keys of a keyset; `keyset` is replaced when the keys have rotated."""

    def __init__(self, keyset: Keyset, *, on_sign: Callable[[float], None] | None = None) -> None:
        """`on_sign` is told the duration of each signature, in seconds."""
        self.keyset = keyset
        self._on_sign = on_sign

    @property
    def kid(self) -> str:
        """The kid of the active key."""
        return self.keyset.active.kid

    def believes(self, kid: str) -> bool:
        """Whether the key with this kid is here and not compromised."""
        key = self.keyset.find(kid)
        return key is not None and key.status is not KeyStatus.COMPROMISED

    def sign(self, signing_input: bytes) -> bytes:
        """The 64-byte signature of bytes made by `envelope.signing_input`; equal bytes give equal signatures.

        An intent that a crash left behind is signed as it stands, even by a key retired since; ForeignKid when the key that it
        names is unknown or compromised.
        """
        key = self.keyset.find(kid_of(signing_input))
        if key is None or key.status is KeyStatus.COMPROMISED:
            raise ForeignKid
        began = time.perf_counter()
        signature = key.private.sign(signing_input)
        if self._on_sign:
            self._on_sign(time.perf_counter() - began)
        return signature

    def made(self, signing_input: bytes, signature: bytes) -> bool:
        """Whether a key of ours, whatever its status, made this signature of these bytes."""
        key = self.keyset.find(kid_of(signing_input))
        if key is None:
            return False
        try:
            key.private.public_key().verify(signature, signing_input)
        except InvalidSignature:
            return False
        return True
