"""The vault: what opens, what does not, and what an index tells."""

import hmac
import json
import stat
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from licensesvc.signing import base64url, vault
from licensesvc.signing.privatefiles import LooseFile, write_private
from licensesvc.signing.vault import CannotOpen, VaultDamaged

CONTEXT = "credentials.secret:crd_1"
OVERHEAD = 1 + 2 + 12 + 16


def secret(number):
    return base64url.encode(bytes([number]) * 32)


@pytest.fixture
def with_keys(tmp_path):
    """Makes a vault that holds the given {key id: key number}."""

    def make(keys):
        path = tmp_path / "vault-keys.json"
        listed = [{"id": key_id, "secret": secret(number)} for key_id, number in keys.items()]
        write_private(path, json.dumps({"version": 1, "index": secret(0), "keys": listed}).encode())
        return vault.load(path)

    return make


@given(st.binary(max_size=200), st.text(max_size=40))
def test_what_was_sealed_opens_in_its_context(sealer, plaintext, context):
    sealed = sealer.seal(plaintext, context)
    assert sealer.open(sealed, context) == plaintext
    assert len(sealed) == len(plaintext) + OVERHEAD


@given(st.binary(max_size=40), st.data())
def test_no_bit_can_be_flipped(sealer, plaintext, data):
    sealed = bytearray(sealer.seal(plaintext, CONTEXT))
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(CannotOpen):
        sealer.open(bytes(sealed), CONTEXT)


def test_no_part_can_be_cut_off(sealer):
    sealed = sealer.seal(b"secret", CONTEXT)
    for length in range(len(sealed)):
        with pytest.raises(CannotOpen):
            sealer.open(sealed[:length], CONTEXT)
    with pytest.raises(CannotOpen):
        sealer.open(sealed + b"\0", CONTEXT)


@given(st.text(max_size=40).filter(lambda context: context != CONTEXT))
def test_another_context_does_not_open(sealer, context):
    with pytest.raises(CannotOpen):
        sealer.open(sealer.seal(b"secret", CONTEXT), context)


@given(st.binary(max_size=80))
def test_any_bytes_are_refused_without_another_error(sealer, data):
    with pytest.raises(CannotOpen):
        sealer.open(data, CONTEXT)


def test_another_key_under_the_same_id_does_not_open(with_keys):
    sealed = with_keys({1: 1}).seal(b"secret", CONTEXT)
    with pytest.raises(CannotOpen):
        with_keys({1: 2}).open(sealed, CONTEXT)


def test_equal_secrets_are_sealed_differently(sealer):
    assert len({sealer.seal(b"secret", CONTEXT) for _ in range(100)}) == 100


def test_sealed_bytes_name_format_and_key(with_keys):
    assert with_keys({258: 1}).seal(b"", CONTEXT)[:3] == b"\x01\x01\x02"


def test_an_unknown_format_is_refused(with_keys):
    sealed = with_keys({1: 1}).seal(b"secret", CONTEXT)
    with pytest.raises(CannotOpen, match="unknown format"):
        with_keys({1: 1}).open(b"\x02" + sealed[1:], CONTEXT)


def test_the_newest_key_seals_and_older_ones_still_open(with_keys):
    old = with_keys({1: 1}).seal(b"old", CONTEXT)
    both = with_keys({2: 2, 1: 1})
    new = both.seal(b"new", CONTEXT)
    assert (both.open(old, CONTEXT), both.open(new, CONTEXT)) == (b"old", b"new")
    assert with_keys({2: 2}).open(new, CONTEXT) == b"new"
    with pytest.raises(CannotOpen, match="unknown key"):
        with_keys({2: 2}).open(old, CONTEXT)


def test_an_index_is_the_documented_hmac(with_keys):
    expected = hmac.digest(bytes(32), b"code\0PL-1", "sha256")[:16].hex()
    assert with_keys({1: 1}).index("code", "PL-1") == expected


def test_an_index_outlives_new_sealing_keys(with_keys):
    assert with_keys({1: 1}).index("code", "x") == with_keys({1: 1, 2: 2}).index("code", "x")


@given(st.text(st.characters()), st.text(st.characters()))
def test_only_equal_texts_have_equal_indexes(sealer, one, other):
    assert (sealer.index("code", one) == sealer.index("code", other)) is (one == other)
    assert sealer.index("code", one) != sealer.index("fingerprint", one)


def test_a_lone_surrogate_has_an_index(sealer):
    assert len(sealer.index("code", "\ud800")) == 32


def test_the_file_gives_back_the_same_vault_and_is_private(tmp_path):
    path = tmp_path / "vault-keys.json"
    created = vault.create(path)
    loaded = vault.load(path)
    assert loaded.open(created.seal(b"secret", CONTEXT), CONTEXT) == b"secret"
    assert loaded.index("code", "x") == created.index("code", "x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_installations_share_nothing(tmp_path):
    one, other = vault.create(tmp_path / "one"), vault.create(tmp_path / "other")
    assert one.index("code", "x") != other.index("code", "x")
    with pytest.raises(CannotOpen):
        other.open(one.seal(b"secret", CONTEXT), CONTEXT)


def test_an_existing_vault_is_never_overwritten(tmp_path):
    path = tmp_path / "vault-keys.json"
    vault.create(path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        vault.create(path)
    assert path.read_bytes() == before


def test_a_file_that_others_may_read_is_not_used(tmp_path):
    path = tmp_path / "vault-keys.json"
    vault.create(path)
    path.chmod(0o644)
    with pytest.raises(LooseFile, match="chmod 600"):
        vault.load(path)


GOOD = {"version": 1, "index": secret(0), "keys": [{"id": 1, "secret": secret(1)}]}


@pytest.mark.parametrize(
    "damage",
    [
        {"version": 2},
        {"note": "x"},
        {"keys": []},
        {"keys": GOOD["keys"] * 2},
        {"keys": [{"id": 0, "secret": secret(1)}]},
        {"keys": [{"id": 65_536, "secret": secret(1)}]},
        {"keys": [{"id": 1, "secret": "AAAA"}]},
        {"keys": [{"id": 1, "secret": base64url.encode(bytes(16))}]},
        {"keys": [{"id": 1, "secret": 5}]},
        {"keys": [{"id": 1}]},
        {"index": secret(0) + "="},
        {"index": base64url.encode(b"")},
        {"index": None},
    ],
    ids=str,
)
def test_a_damaged_file_gives_one_clear_line_without_secrets(tmp_path, damage):
    path = tmp_path / "vault-keys.json"
    write_private(path, json.dumps(GOOD | damage).encode())
    with pytest.raises(VaultDamaged) as caught:
        vault.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert secret(0) not in message
    assert secret(1) not in message


def test_no_repr_shows_a_secret(vault_file, sealer):
    content = json.loads(vault_file.read_text())
    secrets = [content["index"], *(key["secret"] for key in content["keys"])]
    pretty = StringIO()
    Console(file=pretty, width=500).print(sealer, vars(sealer))
    shown = pretty.getvalue() + repr(sealer) + repr(vars(sealer))
    forms = [form for text in secrets for form in (text, base64url.decode(text).hex(), repr(base64url.decode(text)))]
    assert "AESGCM" in shown, "the control: the ciphers themselves were shown"
    assert not [form for form in forms if form in shown]
