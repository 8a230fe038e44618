"""Project Wycheproof's vectors against the primitives as this package uses them (reliability.md row 9)."""

import hmac
import json
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC

from licensesvc.signing import base64url, envelope
from licensesvc.signing.envelope import InvalidToken
from licensesvc.signing.keyset import public_key_from_jwk

VECTORS = Path(__file__).parents[3] / "shared" / "vectors" / "wycheproof"

pytestmark = pytest.mark.skipif(not VECTORS.is_dir(), reason="Wycheproof vectors are not beside the checkout")


def vectors(name):
    for group in json.loads((VECTORS / name).read_text())["testGroups"]:
        for test in group["tests"]:
            yield group, test


def test_ed25519_signatures_through_imported_keys():
    wrong = []
    for group, test in vectors("ed25519_test.json"):
        key = public_key_from_jwk(group["publicKeyJwk"])
        try:
            key.verify(bytes.fromhex(test["sig"]), bytes.fromhex(test["msg"]))
            verified = "valid"
        except InvalidSignature:
            verified = "invalid"
        if verified != test["result"]:
            wrong.append(test["tcId"])
    assert wrong == []


def test_hmac_sha256_of_both_libraries_in_use():
    wrong = []
    for group, test in vectors("hmac_sha256_test.json"):
        key, message = bytes.fromhex(test["key"]), bytes.fromhex(test["msg"])
        size = group["tagSize"] // 8
        keyed = HMAC(key, SHA256()).copy()
        keyed.update(message)
        tags = {keyed.finalize()[:size], hmac.digest(key, message, "sha256")[:size]}
        right = tags == {bytes.fromhex(test["tag"])}
        if right != (test["result"] == "valid"):
            wrong.append(test["tcId"])
    assert wrong == []


class AnyKid(dict):
    """Knows every kid, so that no vector is refused for its kid alone."""

    def __contains__(self, kid):
        return True

    def __missing__(self, kid):
        return self["ours"]


def test_no_token_of_another_algorithm_passes(keys):
    known = AnyKid(ours=keys.verification_keys()[keys.active.kid])
    passed = []
    for _, test in vectors("json_web_signature_test.json"):
        try:
            envelope.verify(text(test["jws"]), typ="license+jwt", keys=known, now=0, issuer="x")
        except InvalidToken:
            continue
        passed.append(test["tcId"])
    assert passed == []


def test_no_malformed_signature_segment_passes(mint, keys):
    """The tricks of the vectors' third segments, carried over to a token of ours."""
    head, body, good = mint.token().split(".")
    options = {"typ": "license+jwt", "keys": keys.verification_keys(), "now": 1_800_000_001_000}
    options["issuer"] = mint.claims["iss"]
    assert envelope.verify(f"{head}.{body}.{good}", **options)
    for _, test in vectors("json_web_signature_test.json"):
        signature = text(test["jws"]).rpartition(".")[2]
        with pytest.raises(InvalidToken):
            envelope.verify(f"{head}.{body}.{signature}", **options)


def text(jws):
    return jws if isinstance(jws, str) else json.dumps(jws)


def test_base64url_of_the_vectors_keys_is_read():
    for group, _ in vectors("ed25519_test.json"):
        assert base64url.decode(group["publicKeyJwk"]["x"]).hex() == group["publicKey"]["pk"]
