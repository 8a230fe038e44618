"""Every known way to confuse a reader of signed documents, one row each (reliability.md rows 8 and 10)."""

import base64
import hmac
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from licensesvc.signing import base64url, envelope
from licensesvc.signing.envelope import InvalidToken

NOW = 1_800_000_100_000
ISSUER = "https://seller.example"
STRANGER = Ed25519PrivateKey.generate()
STRANGER_JWK = {"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(STRANGER.public_key().public_bytes_raw())}
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def verify(token, keys, **changes):
    options = {"typ": "license+jwt", "keys": keys.verification_keys(), "now": NOW, "issuer": ISSUER}
    return envelope.verify(token, **(options | changes))


def hs256(mint, secret):
    return mint.token(header=mint.header | {"alg": "HS256"}, sign=lambda data: hmac.digest(secret, data, "sha256"))


def raw(mint):
    return mint.private.public_key().public_bytes_raw()


def pem(mint):
    return mint.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def unsigned(mint, alg):
    return mint.token(header=mint.header | {"alg": alg}, sign=lambda _: b"")


def segments(mint):
    return mint.token().split(".")


def swapped(mint, index, segment):
    parts = segments(mint)
    parts[index] = segment
    return ".".join(parts)


def padded(mint, index):
    segment = segments(mint)[index]
    return swapped(mint, index, segment + "=" * (-len(segment) % 4 or 2))


def other_trailing_bits(mint):
    # 64 bytes are 86 characters, the last of which carries 2 bits: four characters in sixteen decode alike.
    signature = segments(mint)[2]
    return swapped(mint, 2, signature[:-1] + ALPHABET[ALPHABET.index(signature[-1]) + 1])


def doubled(part, name, value):
    """The JSON text of `part` with a second member `name` in front."""
    return f"{{{json.dumps(name)}:{json.dumps(value)},{json.dumps(part)[1:]}".encode()


def standard_alphabet(mint):
    claims = json.dumps(mint.claims | {"note": "\u00ff\u00fe>>>???~~~"}, ensure_ascii=False).encode()
    body = base64.b64encode(claims).decode().rstrip("=")
    assert {"+", "/"} & set(body)
    head = segments(mint)[0]
    return f"{head}.{body}.{base64url.encode(mint.private.sign(f'{head}.{body}'.encode()))}"


def json_serialization(mint):
    head, body, signature = segments(mint)
    return json.dumps({"protected": head, "payload": body, "signature": signature})


CASES = {
    # algorithm
    "alg none": lambda m: unsigned(m, "none"),
    "alg None": lambda m: unsigned(m, "None"),
    "alg NONE": lambda m: unsigned(m, "NONE"),
    "alg nOnE": lambda m: unsigned(m, "nOnE"),
    "alg none with blank": lambda m: unsigned(m, "none "),
    "alg empty": lambda m: unsigned(m, ""),
    "alg null": lambda m: unsigned(m, None),
    "alg none, good signature": lambda m: m.with_header(alg="none"),
    "alg list": lambda m: m.with_header(alg=["EdDSA"]),
    "alg number": lambda m: m.with_header(alg=1),
    "alg missing": lambda m: m.without_header("alg"),
    "alg lower case": lambda m: m.with_header(alg="eddsa"),
    "alg Ed25519": lambda m: m.with_header(alg="Ed25519"),
    "alg Ed448": lambda m: m.with_header(alg="Ed448"),
    "alg ES256": lambda m: m.with_header(alg="ES256"),
    "alg RS256": lambda m: m.with_header(alg="RS256"),
    "HS256 under raw public key": lambda m: hs256(m, raw(m)),
    "HS256 under PEM public key": lambda m: hs256(m, pem(m)),
    "HS256 under base64url public key": lambda m: hs256(m, base64url.encode(raw(m)).encode()),
    "HS256 under empty key": lambda m: hs256(m, b""),
    "EdDSA named, HMAC inside": lambda m: m.token(sign=lambda data: hmac.digest(raw(m), data, "sha256")),
    # keys brought along
    "stranger's key": lambda m: m.token(sign=STRANGER.sign),
    "jwk": lambda m: m.token(header=m.header | {"jwk": STRANGER_JWK}, sign=STRANGER.sign),
    "jwk, good signature": lambda m: m.with_header(jwk=STRANGER_JWK),
    "jku": lambda m: m.with_header(jku="https://evil.example/jwks.json"),
    "x5u": lambda m: m.with_header(x5u="https://evil.example/cert.pem"),
    "x5c": lambda m: m.with_header(x5c=["MII="]),
    "x5t": lambda m: m.with_header(x5t="AAAA"),
    "kid missing": lambda m: m.without_header("kid"),
    "kid unknown": lambda m: m.with_header(kid="unknown"),
    "kid empty": lambda m: m.with_header(kid=""),
    "kid null": lambda m: m.with_header(kid=None),
    "kid list": lambda m: m.with_header(kid=[m.kid]),
    "kid object": lambda m: m.with_header(kid={m.kid: m.kid}),
    "kid path": lambda m: m.with_header(kid="../../../../dev/null"),
    "kid SQL": lambda m: m.with_header(kid="x' UNION SELECT 'k"),
    "kid with NUL": lambda m: m.with_header(kid=m.kid + "\0"),
    "kid with blank": lambda m: m.with_header(kid=m.kid + " "),
    # extensions
    "crit": lambda m: m.with_header(crit=["exp"]),
    "crit empty": lambda m: m.with_header(crit=[]),
    "crit b64": lambda m: m.with_header(crit=["b64"], b64=True),
    "b64 false": lambda m: m.with_header(b64=False),
    "b64 true": lambda m: m.with_header(b64=True),
    "zip": lambda m: m.with_header(zip="DEF"),
    "cty JWT": lambda m: m.with_header(cty="JWT"),
    "unknown member": lambda m: m.with_header(note="x"),
    # type
    "typ missing": lambda m: m.without_header("typ"),
    "typ JWT": lambda m: m.with_header(typ="JWT"),
    "typ receipt for license": lambda m: m.with_header(typ="receipt+jwt"),
    "typ upper case": lambda m: m.with_header(typ="LICENSE+JWT"),
    "typ with application/": lambda m: m.with_header(typ="application/license+jwt"),
    "typ null": lambda m: m.with_header(typ=None),
    "typ list": lambda m: m.with_header(typ=["license+jwt"]),
    # claims
    "exp missing": lambda m: m.without_claim("exp"),
    "exp missing, term other": lambda m: m.token(
        claims={k: v for k, v in m.claims.items() if k != "exp"} | {"term": "PERPETUAL"}
    ),
    "exp null though perpetual": lambda m: m.with_claims(exp=None, term="perpetual"),
    "exp over though perpetual": lambda m: m.with_claims(exp=1_800_000_000, term="perpetual"),
    "exp over": lambda m: m.with_claims(exp=1_800_000_099),
    "exp this very moment": lambda m: m.with_claims(exp=1_800_000_100),
    "exp text": lambda m: m.with_claims(exp="1800600000"),
    "exp float": lambda m: m.with_claims(exp=1_800_600_000.0),
    "exp true": lambda m: m.with_claims(exp=True),
    "exp infinite": lambda m: m.with_claims(exp=float("inf")),
    "exp beyond calendars": lambda m: m.with_claims(exp=10**12),
    "exp milliseconds": lambda m: m.with_claims(exp=1_800_600_000_000),
    "exp negative": lambda m: m.with_claims(exp=-1),
    "iat missing": lambda m: m.without_claim("iat"),
    "iat in the future": lambda m: m.with_claims(iat=1_800_000_101),
    "iat text": lambda m: m.with_claims(iat="1800000000"),
    "iat float": lambda m: m.with_claims(iat=1.8e9),
    "iat false": lambda m: m.with_claims(iat=False),
    "iat negative": lambda m: m.with_claims(iat=-1),
    "iat NaN": lambda m: m.with_claims(iat=float("nan")),
    "iat list": lambda m: m.with_claims(iat=[1_800_000_000]),
    "nbf in the future": lambda m: m.with_claims(nbf=1_800_000_101),
    "nbf text": lambda m: m.with_claims(nbf="0"),
    "iss missing": lambda m: m.without_claim("iss"),
    "iss other": lambda m: m.with_claims(iss="https://seller.example.evil"),
    "iss with slash": lambda m: m.with_claims(iss=ISSUER + "/"),
    "iss list": lambda m: m.with_claims(iss=[ISSUER]),
    "jti missing": lambda m: m.without_claim("jti"),
    "jti empty": lambda m: m.with_claims(jti=""),
    "jti number": lambda m: m.with_claims(jti=1),
    # JSON
    "alg twice": lambda m: m.token(header=doubled(m.header, "alg", "none")),
    "kid twice": lambda m: m.token(header=doubled(m.header, "kid", m.kid)),
    "exp twice": lambda m: m.token(claims=doubled(m.claims, "exp", 9_999_999_999)),
    "nested claim twice": lambda m: m.token(
        claims=doubled(m.claims, "x", 0)
        .replace(b'"x": 0', b'"x":{"y":1,"y":2}')
        .replace(b'"x":0', b'"x":{"y":1,"y":2}')
    ),
    "header is a list": lambda m: m.token(header=b"[]"),
    "header is empty": lambda m: m.token(header=b""),
    "header not JSON": lambda m: m.token(header=b"{"),
    "header not UTF-8": lambda m: m.token(header=b'{"alg":"\xff"}'),
    "header with BOM": lambda m: m.token(header=b"\xef\xbb\xbf" + json.dumps(m.header).encode()),
    "claims a text": lambda m: m.token(claims=b'"x"'),
    "claims null": lambda m: m.token(claims=b"null"),
    "claims empty": lambda m: m.token(claims=b""),
    "claims with trailing text": lambda m: m.token(claims=json.dumps(m.claims).encode() + b"{}"),
    "claims nested deeply": lambda m: m.token(claims=b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}"),
    "nested token": lambda m: m.token(header=m.header | {"cty": "JWT"}, claims=m.token().encode()),
    "nested token without cty": lambda m: m.token(claims=m.token().encode()),
    # form
    "empty": lambda _: "",
    "no dot": lambda m: segments(m)[0],
    "one dot": lambda m: ".".join(segments(m)[:2]),
    "three dots": lambda m: m.token() + "." + segments(m)[2],
    "four dots": lambda m: ".".join([*segments(m), "AAAA", "AAAA"]),
    "trailing dot": lambda m: m.token() + ".",
    "leading dot": lambda m: "." + m.token(),
    "dots alone": lambda _: "..",
    "header missing": lambda m: swapped(m, 0, ""),
    "payload missing": lambda m: swapped(m, 1, ""),
    "signature missing": lambda m: swapped(m, 2, ""),
    "signature cut": lambda m: m.token()[:-4],
    "signature longer": lambda m: m.token() + "AA",
    "signature zero": lambda m: m.token(sign=lambda _: bytes(64)),
    "header padded": lambda m: padded(m, 0),
    "payload padded": lambda m: padded(m, 1),
    "signature padded": lambda m: padded(m, 2),
    "unused bits set": other_trailing_bits,
    "standard alphabet": standard_alphabet,
    "blank in front": lambda m: " " + m.token(),
    "blank behind": lambda m: m.token() + " ",
    "newline behind": lambda m: m.token() + "\n",
    "newline within": lambda m: m.token().replace(".", ".\n", 1),
    "junk within": lambda m: m.token().replace(".", "!.", 1),
    "NUL behind": lambda m: m.token() + "\0",
    "full-width letter": lambda m: m.token() + "Ａ",
    "lone surrogate": lambda m: m.token() + "\ud800",
    "Bearer in front": lambda m: "Bearer " + m.token(),
    "JSON serialization": json_serialization,
    "too long": lambda m: m.with_claims(note="x" * 16_384),
    "other's signature": lambda m: swapped(m, 2, m.with_claims(jti="doc_2").split(".")[2]),
    "other's payload": lambda m: swapped(m, 1, m.with_claims(jti="doc_2").split(".")[1]),
    "other's header": lambda m: swapped(m, 0, m.with_header(typ="receipt+jwt").split(".")[0]),
}


def test_control_a_good_token_passes(mint, keys):
    assert verify(mint.token(), keys) == mint.claims


@pytest.mark.parametrize("make", CASES.values(), ids=CASES.keys())
def test_refuses(make, mint, keys):
    with pytest.raises(InvalidToken):
        verify(make(mint), keys)


def test_there_are_at_least_45_cases():
    assert len(CASES) >= 45


def test_an_hmac_forgery_that_a_lax_reader_takes_is_refused(mint, keys):
    import jwt

    forged = hs256(mint, raw(mint))
    lax = jwt.decode(
        forged, raw(mint), algorithms=["EdDSA", "HS256"], options={"verify_iat": False, "verify_exp": False}
    )
    assert lax == mint.claims, "the control: without a strict reading the forgery passes"
    with pytest.raises(InvalidToken):
        verify(forged, keys)


def test_a_perpetual_receipt_is_refused(mint, keys):
    claims = {k: v for k, v in mint.claims.items() if k != "exp"} | {"term": "perpetual"}
    with pytest.raises(InvalidToken, match="exp"):
        verify(mint.token(header=mint.header | {"typ": "receipt+jwt"}, claims=claims), keys, typ="receipt+jwt")


def test_no_single_character_can_be_changed(mint, keys):
    token = mint.token()
    for position, character in enumerate(token):
        other = "A" if character != "A" else "B"
        with pytest.raises(InvalidToken):
            verify(token[:position] + other + token[position + 1 :], keys)


def test_no_prefix_of_a_token_passes(mint, keys):
    token = mint.token()
    for length in range(len(token)):
        with pytest.raises(InvalidToken):
            verify(token[:length], keys)
