"""The one form of signed document: a JWS in compact form, EdDSA, with a strict reading (RFC 7515, 7519, 8725).

In: the exact bytes to sign, assembling, verification of form, signature and registered claims. The only module that
imports `jwt`. Out: keys (`keyset`), the other claims and their meaning, `aud` in particular.
"""

import json
from collections.abc import Mapping
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from licensesvc import strictjson
from licensesvc.domain.instants import SECOND, Instant
from licensesvc.signing import base64url

LICENSE_TYP = "license+jwt"
RECEIPT_TYP = "receipt+jwt"
RELAY_TYP = "relay-receipt+jwt"
PACK_TYP = "delivery-pack+jwt"
MAX_TOKEN_CHARACTERS = 16 * 1024

_ALG = "EdDSA"
_SIGNATURE_CHARACTERS = 86
_LAST_SECOND = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that calendars of most languages know
_JWS = jwt.PyJWS(algorithms=[_ALG])


class InvalidToken(Exception):
    """A token that is refused; `reason` is for logs and tests, not for strangers."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def signing_input(*, typ: str, kid: str, claims: Mapping[str, Any]) -> bytes:
    """The bytes to sign (RFC 7515 §5.1): compact JSON with sorted keys, so equal claims give equal bytes.

    ValueError for claims that `verify` could not read: text with NUL, numbers out of range, too much of it.
    """
    payload = _canonical_json(claims)
    strictjson.decode_object(payload)
    header = _canonical_json({"alg": _ALG, "kid": kid, "typ": typ})
    prepared = f"{base64url.encode(header)}.{base64url.encode(payload)}"
    if len(prepared) + 1 + _SIGNATURE_CHARACTERS > MAX_TOKEN_CHARACTERS:
        raise ValueError("too many claims for one document")
    return prepared.encode("ascii")


def kid_of(signing_input: bytes) -> str:
    """The kid that bytes made by `signing_input` name."""
    header, _, _ = signing_input.decode("ascii").partition(".")
    return str(json.loads(base64url.decode(header))["kid"])


def assemble(signing_input: bytes, signature: bytes) -> str:
    """The finished document."""
    return f"{signing_input.decode('ascii')}.{base64url.encode(signature)}"


def verify(
    token: str,
    *,
    typ: str,
    keys: Mapping[str, Ed25519PublicKey],
    now: Instant,
    issuer: str,
    leeway_s: int = 0,
) -> dict[str, Any]:
    """The claims of a token of ours; InvalidToken, and nothing else, for every other text.

    The header holds exactly `alg` EdDSA, a `kid` of `keys` and `typ`. Claims: `iss` equal to `issuer`, `jti` a text,
    `iat` not in the future, `exp` in the future (absent only in a license with `"term":"perpetual"`), `nbf` obeyed;
    all three are whole seconds since the epoch. `leeway_s` seconds of clock difference are forgiven.
    """
    header, payload = _segments(token)
    key = _key_for(_object(header, "header"), typ, keys)
    try:
        _JWS.decode_complete(token, key, algorithms=[_ALG])
    except jwt.PyJWTError as error:
        raise InvalidToken(f"signature: {error}") from None
    claims = _object(payload, "claims")
    _check_origin(claims, issuer)
    _check_times(claims, now, leeway_s * SECOND, may_lack_exp=typ == LICENSE_TYP and claims.get("term") == "perpetual")
    return claims


def _canonical_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode()


def _segments(token: str) -> tuple[bytes, bytes]:
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise InvalidToken("too long")
    try:
        # The signature too: PyJWT takes it with padding, which would give one document several spellings.
        header, payload, _signature = (base64url.decode(segment) for segment in token.split("."))
    except ValueError as error:
        raise InvalidToken(f"form: {error}") from None
    return header, payload


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        return strictjson.decode_object(data)
    except ValueError as error:
        raise InvalidToken(f"{name}: {error}") from None


def _key_for(header: dict[str, Any], typ: str, keys: Mapping[str, Ed25519PublicKey]) -> Ed25519PublicKey:
    # An allow list: crit, b64, jwk, jku, x5u, x5c, zip and whatever comes next need no names here.
    if header.keys() != {"alg", "kid", "typ"}:
        raise InvalidToken("header: members other than alg, kid, typ")
    if header["alg"] != _ALG:
        raise InvalidToken("header: alg")
    if header["typ"] != typ:
        raise InvalidToken("header: typ")
    kid = header["kid"]
    if not isinstance(kid, str) or kid not in keys:
        raise InvalidToken("header: kid")
    return keys[kid]


def _check_origin(claims: dict[str, Any], issuer: str) -> None:
    if claims.get("iss") != issuer:
        raise InvalidToken("iss")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not jti:
        raise InvalidToken("jti")


def _check_times(claims: dict[str, Any], now: Instant, leeway: int, *, may_lack_exp: bool) -> None:
    if _instant(claims, "iat") > now + leeway:
        raise InvalidToken("iat: in the future")
    if "nbf" in claims and _instant(claims, "nbf") > now + leeway:
        raise InvalidToken("nbf: in the future")
    if may_lack_exp and "exp" not in claims:
        return
    if _instant(claims, "exp") <= now - leeway:
        raise InvalidToken("exp: over")


def _instant(claims: dict[str, Any], name: str) -> Instant:
    seconds = claims.get(name)
    # `type`, because True is an int.
    if type(seconds) is not int or not 0 <= seconds <= _LAST_SECOND:
        raise InvalidToken(f"{name}: missing or not whole seconds")
    return seconds * SECOND
