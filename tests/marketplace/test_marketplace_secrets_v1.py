"""SHA1PRNG keys and encrypted fields of the V1 dialect (spec §4.4)."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.domain.errors import InvalidParameter
from licensesvc.marketplace.huawei.secrets_v1 import EncryptType, _next_state, decrypt, derive_key, encrypt

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "marketplace.json").read_text("utf-8"))["sha1prng_aes"]
CASES = [
    (vector, encrypt_type)
    for vector in VECTORS
    for encrypt_type in EncryptType
    if f"{encrypt_type.name.lower()}_wire" in vector
]
IV = "AbCdEfGh12345678"


@pytest.mark.parametrize(("vector", "encrypt_type"), CASES)
def test_documented_vector(vector, encrypt_type):
    size = encrypt_type.name.lower()

    assert derive_key(vector["seed"], encrypt_type).hex() == vector[f"{size}_key"]
    assert encrypt(vector["plaintext"], vector["seed"], vector["iv"], encrypt_type) == vector[f"{size}_wire"]
    assert decrypt(vector[f"{size}_wire"], vector["seed"], encrypt_type) == vector["plaintext"]


def test_aes256_is_the_default():
    vector = VECTORS[0]

    assert encrypt(vector["plaintext"], vector["seed"], vector["iv"]) == vector["aes256_wire"]


def test_generator_state_that_would_stand_still_moves_on():
    # The first byte of the output is -1 and eats the carry, the others are 0: nothing would change.
    assert _next_state(bytes(20), b"\xff" + bytes(19)) == b"\x01" + bytes(19)


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), st.sampled_from(EncryptType))
def test_every_text_survives_the_round_trip(plaintext, encrypt_type):
    assert decrypt(encrypt(plaintext, "key", IV, encrypt_type), "key", encrypt_type) == plaintext


@pytest.mark.parametrize(
    "wire",
    [
        "",
        IV,
        IV[:8],
        "密" * 16 + "REgEuB94cBlwfrhPPIwDpA==",
        IV + "REgE",
        IV + "%%%%",
        IV + "密",
        VECTORS[0]["aes128_wire"],
    ],
)
def test_unreadable_value_is_an_invalid_parameter(wire):
    with pytest.raises(InvalidParameter):
        decrypt(wire, VECTORS[0]["seed"])
