"""Documents: their bytes, their claims over time, and a second implementation that reads them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet

from licensesvc.signing import base64url, envelope, keyset
from licensesvc.signing.envelope import LICENSE_TYP, MAX_TOKEN_CHARACTERS, RECEIPT_TYP, InvalidToken
from licensesvc.signing.signer import ForeignKid, KeysetSigner

ISSUER = "https://seller.example"
IAT = 1_800_000_000
EXP = IAT + 600
CLAIMS = {"iss": ISSUER, "jti": "doc_1", "iat": IAT, "exp": EXP, "product": "许可证"}
PERPETUAL = {"iss": ISSUER, "jti": "doc_1", "iat": IAT, "term": "perpetual"}


def document(keys, claims=CLAIMS, typ=LICENSE_TYP):
    signer = KeysetSigner(keys)
    prepared = envelope.signing_input(typ=typ, kid=signer.kid, claims=claims)
    return envelope.assemble(prepared, signer.sign(prepared))


def verify(token, keys, *, at=IAT, typ=LICENSE_TYP, **options):
    return envelope.verify(
        token, typ=typ, keys=keys.verification_keys(), now=round(at * 1000), issuer=ISSUER, **options
    )


@pytest.mark.parametrize("typ", [LICENSE_TYP, RECEIPT_TYP])
def test_what_was_signed_is_read(typ, keys):
    assert verify(document(keys, typ=typ), keys, typ=typ) == CLAIMS


def test_header_and_claims_are_compact_sorted_utf8():
    prepared = envelope.signing_input(typ=LICENSE_TYP, kid="k", claims={"b": "许", "a": {"d": 1, "c": [1, 2]}})
    header, claims = (base64url.decode(part) for part in prepared.decode().split("."))
    assert header == b'{"alg":"EdDSA","kid":"k","typ":"license+jwt"}'
    assert claims == '{"a":{"c":[1,2],"d":1},"b":"许"}'.encode()


def test_equal_claims_in_any_order_make_byte_identical_documents(keys):
    assert document(keys, CLAIMS) == document(keys, dict(reversed(CLAIMS.items())))


def test_no_document_is_prepared_that_verify_would_find_too_long(keys):
    def claims(size):
        return CLAIMS | {"note": "x" * size}

    fitting = next(size for size in range(12_300, 11_000, -1) if fits(keys, claims(size)))
    token = document(keys, claims(fitting))
    assert MAX_TOKEN_CHARACTERS - 4 <= len(token) <= MAX_TOKEN_CHARACTERS
    assert verify(token, keys)["note"] == "x" * fitting


def fits(keys, claims):
    try:
        envelope.signing_input(typ=LICENSE_TYP, kid=keys.active.kid, claims=claims)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\0", "\ud800", 10**20], ids=repr)
def test_no_document_is_prepared_that_verify_could_not_read(value):
    with pytest.raises(ValueError):
        envelope.signing_input(typ=LICENSE_TYP, kid="k", claims={"x": value})


@pytest.mark.parametrize(
    ("at", "leeway_s", "passes"),
    [
        (IAT, 0, True),
        (IAT - 0.001, 0, False),
        (IAT - 60, 60, True),
        (IAT - 60.001, 60, False),
        (EXP - 0.001, 0, True),
        (EXP, 0, False),
        (EXP + 59.999, 60, True),
        (EXP + 60, 60, False),
    ],
)
def test_a_document_holds_from_iat_until_before_exp(at, leeway_s, passes, keys):
    token = document(keys)
    if passes:
        assert verify(token, keys, at=at, leeway_s=leeway_s) == CLAIMS
    else:
        with pytest.raises(InvalidToken, match=r"iat|exp"):
            verify(token, keys, at=at, leeway_s=leeway_s)


def test_a_perpetual_license_needs_no_exp(keys):
    assert verify(document(keys, PERPETUAL), keys, at=IAT + 10**9) == PERPETUAL


def test_not_before_is_obeyed(keys):
    token = document(keys, CLAIMS | {"nbf": IAT + 10})
    assert verify(token, keys, at=IAT + 10)
    with pytest.raises(InvalidToken, match="nbf"):
        verify(token, keys, at=IAT + 9)


def test_a_document_names_the_key_that_signed_it(keys):
    prepared = envelope.signing_input(typ=LICENSE_TYP, kid=keys.active.kid, claims=CLAIMS)
    assert envelope.kid_of(prepared) == keys.active.kid


def test_bytes_prepared_for_another_key_are_not_signed(keys):
    prepared = envelope.signing_input(typ=LICENSE_TYP, kid="older", claims=CLAIMS)
    with pytest.raises(ForeignKid):
        KeysetSigner(keys).sign(prepared)


# RFC 9864 renames EdDSA to Ed25519; the older name is the one that JOSE libraries in the field know.
older_name = pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")


@older_name
@pytest.mark.parametrize("claims", [CLAIMS, PERPETUAL], ids=["term", "perpetual"])
def test_a_second_implementation_verifies_from_the_published_keys(claims, keys):
    published = KeySet.import_key_set(json.loads(keys.jwks()))
    read = joserfc_jwt.decode(document(keys, claims), published, algorithms=["EdDSA"])
    assert read.claims == claims
    assert read.header == {"alg": "EdDSA", "kid": keys.active.kid, "typ": LICENSE_TYP}


@older_name
def test_documents_of_a_second_implementation_are_read_alike(mint, keys):
    from joserfc.jwk import OKPKey

    private = {"kty": "OKP", "crv": "Ed25519", "d": base64url.encode(mint.private.private_bytes_raw())}
    public = {"x": base64url.encode(mint.private.public_key().public_bytes_raw())}
    token = joserfc_jwt.encode(mint.header, CLAIMS, OKPKey.import_key(private | public), algorithms=["EdDSA"])
    assert verify(token, keys) == CLAIMS


def test_a_document_outlives_rotations_and_dies_with_its_key(tmp_path):
    path = tmp_path / "signing-keys.json"
    first = keyset.create(path, 0)
    token = document(first)
    for now in range(1, 4):
        keyset.rotate(path, now)
    assert verify(token, keyset.load(path)) == CLAIMS

    text = path.read_text()
    path.write_text(text.replace("RETIRED", "COMPROMISED", 1))
    with pytest.raises(InvalidToken, match="kid"):
        verify(token, keyset.load(path))


@given(st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_=-]{0,60}(\.[A-Za-z0-9_=-]{0,60}){0,4}", fullmatch=True))
def test_any_text_is_refused_without_another_error(keys, text):
    with pytest.raises(InvalidToken):
        verify(text, keys)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_signed_bytes_are_refused_without_another_error(mint, keys, header, claims):
    with pytest.raises(InvalidToken):
        verify(mint.token(header=header), keys)
    with pytest.raises(InvalidToken):
        verify(mint.token(claims=claims), keys)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(JSON)
def test_whatever_is_prepared_is_read_back_equal(keys, value):
    try:
        token = document(keys, CLAIMS | {"x": value})
    except ValueError:
        return
    assert verify(token, keys) == CLAIMS | {"x": value}


@given(st.sampled_from(["iss", "jti", "iat", "exp", "nbf"]), JSON)
def test_any_value_of_a_registered_claim_is_taken_or_refused_without_another_error(mint, keys, name, value):
    try:
        claims = verify(mint.with_claims(**{name: value}), keys, at=IAT + 1)
    except InvalidToken:
        return
    assert type(claims[name]) is (str if name in {"iss", "jti"} else int)
