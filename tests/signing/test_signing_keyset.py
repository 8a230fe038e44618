"""The keyset: its file, its rules, its rotation, its public keys."""

import json
import stat
from hashlib import sha256
from io import StringIO

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from rich.console import Console

from licensesvc.signing import base64url, keyset
from licensesvc.signing.keyset import KeysetDamaged, KeyStatus, UnusableKey, public_key_from_jwk, thumbprint
from licensesvc.signing.privatefiles import LooseFile

A, N, R, C = KeyStatus.ACTIVE, KeyStatus.NEXT, KeyStatus.RETIRED, KeyStatus.COMPROMISED


@pytest.fixture
def path(tmp_path):
    return tmp_path / "signing-keys.json"


def statuses(keys):
    return [key.status for key in keys.keys]


def rewrite(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def set_status(path, *wanted):
    rewrite(path, lambda file: [key.update(status=status) for key, status in zip(file["keys"], wanted, strict=True)])


def test_a_new_keyset_signs_with_one_key_and_announces_the_next(path):
    created = keyset.create(path, 1_800_000_000_000)
    assert statuses(created) == [A, N]
    assert created.active is created.keys[0]
    assert [key.created_at for key in created.keys] == [1_800_000_000_000] * 2


def test_the_file_gives_back_the_same_keys_and_is_private(path):
    created = keyset.create(path, 7)
    loaded = keyset.load(path)
    assert [key.kid for key in loaded.keys] == [key.kid for key in created.keys]
    assert loaded.jwks() == created.jwks()
    assert loaded.active.private.sign(b"x") == created.active.private.sign(b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_has_the_documented_form(path):
    created = keyset.create(path, 7)
    content = json.loads(path.read_text())
    assert content["version"] == 1
    assert content["keys"][0] == {
        "kid": created.active.kid,
        "status": "ACTIVE",
        "created_at": 7,
        "private": base64url.encode(created.active.private.private_bytes_raw()),
    }


def test_an_existing_keyset_is_never_overwritten(path):
    keyset.create(path, 7)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        keyset.create(path, 8)
    assert path.read_bytes() == before


def test_the_thumbprint_is_the_one_of_rfc_8037_appendix_a3():
    raw = base64url.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
    assert thumbprint(Ed25519PublicKey.from_public_bytes(raw)) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_find_knows_every_key_and_nothing_else(keys):
    assert [keys.find(key.kid) for key in keys.keys] == list(keys.keys)
    assert keys.find("unknown") is None


def test_jwks_publishes_what_verifiers_need_and_no_private_member(keys):
    published = json.loads(keys.jwks())["keys"]
    assert [key["kid"] for key in published] == [key.kid for key in keys.keys]
    for key, jwk in zip(keys.keys, published, strict=True):
        x = base64url.encode(key.private.public_key().public_bytes_raw())
        assert jwk == {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": key.kid, "use": "sig", "alg": "EdDSA"}
        assert public_key_from_jwk(jwk).public_bytes_raw() == keys.verification_keys()[key.kid].public_bytes_raw()


def test_jwks_is_made_once(keys):
    assert keys.jwks() is keys.jwks()


def test_rotation_moves_every_key_one_step_and_signs_with_a_key_published_before(path):
    before = keyset.create(path, 1)
    after = keyset.rotate(path, 2)
    assert statuses(after) == [R, A, N]
    assert after.active.kid == before.keys[1].kid
    assert after.active.kid in before.verification_keys()
    assert after.keys[2].created_at == 2
    assert keyset.load(path).jwks() == after.jwks()
    assert statuses(keyset.rotate(path, 3)) == [R, R, A, N]


def test_rotation_without_a_next_key_makes_one(path):
    keyset.create(path, 1)
    rewrite(path, lambda file: file["keys"].pop())
    assert statuses(keyset.rotate(path, 2)) == [R, A, N]


def test_a_compromised_key_is_neither_published_nor_believed_and_stays_so(path):
    keyset.create(path, 1)
    keyset.rotate(path, 2)
    set_status(path, C, A, N)
    for keys in (keyset.load(path), keyset.rotate(path, 3)):
        leaked = keys.keys[0]
        assert leaked.status is C
        assert leaked.kid not in keys.verification_keys()
        assert leaked.kid.encode() not in keys.jwks()
        assert keys.find(leaked.kid) is leaked


def test_a_rotation_that_fails_leaves_the_old_keys(path, monkeypatch):
    before = keyset.create(path, 1)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        keyset.rotate(path, 2)
    assert keyset.load(path).jwks() == before.jwks()


@pytest.mark.parametrize("wanted", [(N, N), (A, A), (R, R), (R, N), (C, C)], ids="+".join)
def test_not_exactly_one_active_key_is_damage(path, wanted):
    keyset.create(path, 1)
    set_status(path, *wanted)
    with pytest.raises(KeysetDamaged, match="exactly one ACTIVE"):
        keyset.load(path)


def test_two_next_keys_are_damage(path):
    keyset.create(path, 1)
    keyset.rotate(path, 2)
    set_status(path, A, N, N)
    with pytest.raises(KeysetDamaged, match="at most one NEXT"):
        keyset.load(path)


def without_kid(file):
    del file["keys"][0]["kid"]


DAMAGES = {
    "version of the future": lambda file: file.update(version=2),
    "unknown member": lambda file: file.update(note="x"),
    "no keys": lambda file: file.update(keys=[]),
    "missing member": without_kid,
    "unknown status": lambda file: file["keys"][0].update(status="BEST"),
    "kid of no key": lambda file: file["keys"][0].update(kid="A" * 43),
    "kid of another key": lambda file: file["keys"][0].update(kid=file["keys"][1]["kid"]),
    "key twice": lambda file: file["keys"].append(file["keys"][0] | {"status": "RETIRED"}),
    "seed too short": lambda file: file["keys"][0].update(private="AAAA"),
    "seed padded": lambda file: file["keys"][0].update(private=file["keys"][0]["private"] + "="),
    "seed no text": lambda file: file["keys"][0].update(private=5),
    "instant no number": lambda file: file["keys"][0].update(created_at="now"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_gives_one_clear_line_without_secrets(path, damage):
    keyset.create(path, 1)
    rewrite(path, damage)
    seeds = [str(key.get("private")) for key in json.loads(path.read_text())["keys"]]
    with pytest.raises(KeysetDamaged) as caught:
        keyset.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert not [seed for seed in seeds if len(seed) > 8 and seed in message]


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"\xff\xfe", b"[]"])
def test_a_file_that_is_no_keyset_is_damage(path, content):
    keyset.create(path, 1)
    path.write_bytes(content)
    with pytest.raises(KeysetDamaged):
        keyset.load(path)


@pytest.mark.parametrize("use", [keyset.load, lambda path: keyset.rotate(path, 2)], ids=["load", "rotate"])
def test_a_file_that_others_may_read_is_not_used(path, use):
    keyset.create(path, 1)
    path.chmod(0o640)
    before = path.read_bytes()
    with pytest.raises(LooseFile, match="chmod 600"):
        use(path)
    assert path.read_bytes() == before


def test_no_repr_shows_a_seed(keys):
    seed = keys.active.private.private_bytes_raw()
    pretty = StringIO()
    Console(file=pretty, width=500).print(keys.keys, keys, keys.active)
    shown = pretty.getvalue() + repr(keys) + repr(keys.keys) + str(keys.active)
    assert keys.active.kid in shown, "the control: the key itself was shown"
    assert not [form for form in (base64url.encode(seed), seed.hex(), repr(seed)) if form in shown]


P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def low_order_ys():
    """y of every point P with 8·P = 0, from the curve equation alone: 1, -1, 0 and the roots of d·y⁴ + 2y² - 1 (where x² = -y²)."""
    root_of_minus_one = pow(2, (P - 1) // 4, P)
    found = {1, P - 1, 0}
    inner = root(1 + D, root_of_minus_one)
    for y_squared in ((-1 + inner) * pow(D, -1, P) % P, (-1 - inner) * pow(D, -1, P) % P):
        y = root(y_squared, root_of_minus_one)
        if y is not None:
            found |= {y, P - y}
    return found


def root(square, root_of_minus_one):
    candidate = pow(square, (P + 3) // 8, P)
    for y in (candidate, candidate * root_of_minus_one % P):
        if y * y % P == square % P:
            return y
    return None


def encodings():
    for y in sorted(low_order_ys()):
        for spelling in {y, y + P} if y + P < 2**255 else {y}:
            for sign in (0, 1 << 255):
                yield (spelling | sign).to_bytes(32, "little")


def jwk(raw):
    return {"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(raw)}


def test_there_are_five_y_of_low_order():
    assert low_order_ys() == set(keyset._LOW_ORDER_Y)


@pytest.mark.parametrize("raw", list(encodings()), ids=lambda raw: raw.hex())
def test_keys_of_low_order_are_refused(raw):
    with pytest.raises(UnusableKey):
        public_key_from_jwk(jwk(raw))


def test_under_a_key_of_low_order_anybody_could_sign():
    neutral = (1).to_bytes(32, "little")
    forged = neutral + bytes(32)
    Ed25519PublicKey.from_public_bytes(neutral).verify(forged, b"whatever you like")
    with pytest.raises(InvalidSignature):
        Ed25519PrivateKey.generate().public_key().verify(forged, b"whatever you like")


GOOD = jwk(Ed25519PrivateKey.from_private_bytes(sha256(b"test").digest()).public_key().public_bytes_raw())


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "EC"},
        {"crv": "X25519"},
        {"crv": "Ed448"},
        {"x": None},
        {"x": 5},
        {"x": ""},
        {"x": "AAAA"},
        {"x": GOOD["x"] + "="},
        {"x": GOOD["x"] + "\n"},
        {"x": base64url.encode((P + 3).to_bytes(32, "little"))},
        {"d": GOOD["x"]},
    ],
    ids=str,
)
def test_what_is_no_ed25519_public_key_is_refused(change):
    assert public_key_from_jwk(GOOD)
    with pytest.raises(UnusableKey):
        public_key_from_jwk(GOOD | change)
