"""The Ed25519 keys that sign documents, their file, their rotation and their public face.

In: `signing-keys.json`, kids, JWKS, import of public keys. Out: what is signed (`envelope`), who asks for it (`signer`).
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from licensesvc.domain.instants import Instant
from licensesvc.signing import base64url
from licensesvc.signing.privatefiles import changing, create_private, read_private, write_private

_P = 2**255 - 19
_Y_OF_ORDER_8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_LOW_ORDER_Y = frozenset({0, 1, _P - 1, _Y_OF_ORDER_8, _P - _Y_OF_ORDER_8})


class KeysetDamaged(Exception):
    """The key file cannot be used as it is; one line that names the file and the problem."""

    def __init__(self, path: Path, problem: object) -> None:
        super().__init__(f"{path}: {problem}; restore it from a backup")
        self.path = path


class UnknownKid(Exception):
    """No key here has this kid."""


class UnusableKey(ValueError):
    """A public key that is malformed, of another kind, or for which anybody can forge signatures."""


class KeyStatus(StrEnum):
    """What a key may still do."""

    ACTIVE = "ACTIVE"  # signs
    NEXT = "NEXT"  # published so that verifiers know it before it signs
    RETIRED = "RETIRED"  # published, verifies only
    COMPROMISED = "COMPROMISED"  # neither published nor believed


class SigningKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key as it stands in the file. `created_at` is epoch ms; the repr of `private` shows no key material."""

    kid: str
    status: KeyStatus
    created_at: Instant
    private: Ed25519PrivateKey


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: Literal[1] = 1
    keys: tuple[SigningKey, ...]


class Keyset:
    """The keys of one installation at one moment; rotation makes another keyset.

    ValueError unless exactly one key is ACTIVE, at most one is NEXT and every kid is the thumbprint of its key.
    """

    def __init__(self, keys: Sequence[SigningKey]) -> None:
        statuses = [key.status for key in keys]
        if statuses.count(KeyStatus.ACTIVE) != 1 or statuses.count(KeyStatus.NEXT) > 1:
            raise ValueError("needs exactly one ACTIVE key and at most one NEXT key")
        for key in keys:
            if key.kid != thumbprint(key.private.public_key()):
                raise ValueError(f"kid {key.kid} is not the thumbprint of its key")
        self.keys = tuple(keys)
        self._by_kid = {key.kid: key for key in keys}
        if len(self._by_kid) != len(keys):
            raise ValueError("holds a key twice")
        self.active = next(key for key in keys if key.status is KeyStatus.ACTIVE)
        self._public = {key.kid: key.private.public_key() for key in keys if key.status is not KeyStatus.COMPROMISED}
        self._jwks = msgspec.json.encode({"keys": [_jwk(kid, public) for kid, public in self._public.items()]})

    def find(self, kid: str) -> SigningKey | None:
        """The key with this kid, whatever its status."""
        return self._by_kid.get(kid)

    def verification_keys(self) -> Mapping[str, Ed25519PublicKey]:
        """Public keys by kid, without compromised ones."""
        return self._public

    def jwks(self) -> bytes:
        """The JSON body of `/.well-known/jwks.json` (RFC 7517 §5), without compromised keys."""
        return self._jwks


def create(path: Path, now: Instant) -> Keyset:
    """A new file with one ACTIVE and one NEXT key; FileExistsError when there is one."""
    keyset = Keyset([_new_key(KeyStatus.ACTIVE, now), _new_key(KeyStatus.NEXT, now)])
    create_private(path, _encode(keyset))
    return keyset


def load(path: Path) -> Keyset:
    """The keyset in the file. FileNotFoundError, LooseFile, KeysetDamaged."""
    return decode(read_private(path), path)


def decode(data: bytes, path: Path) -> Keyset:
    """The keyset in the contents of the file at `path`. KeysetDamaged."""
    try:
        return Keyset(msgspec.json.decode(data, type=_File, dec_hook=_private_from_text).keys)
    except (msgspec.MsgspecError, ValueError) as error:
        raise KeysetDamaged(path, error) from None


def rotate(path: Path, now: Instant) -> Keyset:
    """Sign with the NEXT key (or a new one) from now on, retire the ACTIVE one, publish a new NEXT. Raises as `load`."""
    with changing(path):
        return _store(path, _rotated(load(path).keys, now))


def compromise(path: Path, kid: str, now: Instant) -> Keyset:
    """Neither publish nor believe a key any more; the next one takes its place if it signed. UnknownKid, or raises as `load`.

    Doing it twice changes nothing.
    """
    with changing(path):
        keyset = load(path)
        known = keyset.find(kid)
        if known is None:
            raise UnknownKid(kid)
        if known.status is KeyStatus.COMPROMISED:
            return keyset
        keys = _rotated(keyset.keys, now) if known.status is KeyStatus.ACTIVE else list(keyset.keys)
        keys = [msgspec.structs.replace(key, status=KeyStatus.COMPROMISED) if key.kid == kid else key for key in keys]
        if known.status is KeyStatus.NEXT:
            keys.append(_new_key(KeyStatus.NEXT, now))
        return _store(path, keys)


def _rotated(keys: Sequence[SigningKey], now: Instant) -> list[SigningKey]:
    following = {KeyStatus.ACTIVE: KeyStatus.RETIRED, KeyStatus.NEXT: KeyStatus.ACTIVE}
    rotated = [msgspec.structs.replace(key, status=following.get(key.status, key.status)) for key in keys]
    if not any(key.status is KeyStatus.ACTIVE for key in rotated):
        rotated.append(_new_key(KeyStatus.ACTIVE, now))
    return [*rotated, _new_key(KeyStatus.NEXT, now)]


def _store(path: Path, keys: Sequence[SigningKey]) -> Keyset:
    keyset = Keyset(keys)
    write_private(path, _encode(keyset))
    return keyset


def thumbprint(public: Ed25519PublicKey) -> str:
    """The kid of a key: its RFC 7638 thumbprint over the members RFC 8037 §2 requires, base64url."""
    required = {"crv": "Ed25519", "kty": "OKP", "x": base64url.encode(public.public_bytes_raw())}
    return base64url.encode(sha256(msgspec.json.encode(required, order="sorted")).digest())


def public_key_from_jwk(jwk: Mapping[str, object]) -> Ed25519PublicKey:
    """The public key in a JWK (RFC 8037 §2). UnusableKey when it is no Ed25519 public key or one of low order."""
    x = jwk.get("x")
    if jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519" or "d" in jwk or not isinstance(x, str):
        raise UnusableKey("not an Ed25519 public key")
    try:
        raw = base64url.decode(x)
        public = Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:
        raise UnusableKey(str(error)) from None
    # `cryptography` takes points of low order, under which one signature fits (nearly) every message,
    # and second spellings of y (RFC 8032 §5.1.3), under which one key has two kids.
    y = int.from_bytes(raw, "little") & (2**255 - 1)
    if y >= _P or y in _LOW_ORDER_Y:
        raise UnusableKey("a key of low order or not in canonical form")
    return public


def _jwk(kid: str, public: Ed25519PublicKey) -> dict[str, str]:
    x = base64url.encode(public.public_bytes_raw())
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA"}


def _new_key(status: KeyStatus, now: Instant) -> SigningKey:
    private = Ed25519PrivateKey.generate()
    return SigningKey(kid=thumbprint(private.public_key()), status=status, created_at=now, private=private)


def _encode(keyset: Keyset) -> bytes:
    return msgspec.json.format(msgspec.json.encode(_File(keys=keyset.keys), enc_hook=_private_to_text))


def _private_to_text(private: Ed25519PrivateKey) -> str:
    return base64url.encode(private.private_bytes_raw())


def _private_from_text(_: type, text: Any) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(base64url.decode(text))
