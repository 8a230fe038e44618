"""Bearer tokens and the base64url they are written in."""

import re
import secrets
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.signing import base64url
from licensesvc.signing.tokens import new_token, token_hash, token_prefix


def test_a_token_has_the_documented_form():
    assert re.fullmatch(r"lsa_[a-z2-7]{8}_[A-Za-z0-9_-]{43}", new_token("lsa", secrets.token_bytes))


@given(st.binary(min_size=37, max_size=37))
def test_the_searchable_part_is_found_whatever_the_entropy(entropy):
    token = new_token("lsa", lambda size: entropy[:size])
    prefix = token_prefix(token)
    assert prefix is not None
    assert token.startswith(prefix + "_")
    assert len(prefix) == len("lsa_") + 8


def test_the_secret_part_draws_256_bits_that_the_prefix_does_not_show():
    drawn = []

    def entropy(size):
        drawn.append(size)
        return secrets.token_bytes(size)

    new_token("lsa", entropy)
    assert drawn == [5, 32]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lsa",
        "lsa_",
        "lsa_abcdefgh",
        "lsa_abcdefgh_short",
        "lsa_abcdefgh_" + "A" * 44,
        "lsa_ABCDEFGH_" + "A" * 43,
        "lsa_abcdefg1_" + "A" * 43,
        "_abcdefgh_" + "A" * 43,
        "lsa_abcdefgh_" + "A" * 42 + "=",
        "lsa_abcdefgh_" + "A" * 43 + "\n",
        " lsa_abcdefgh_" + "A" * 43,
    ],
)
def test_a_text_that_is_no_token_has_no_prefix(text):
    assert token_prefix(text) is None


def test_control_the_form_of_the_refused_texts_is_otherwise_right():
    assert token_prefix("lsa_abcdefgh_" + "A" * 43) == "lsa_abcdefgh"


def test_the_hash_is_sha256_of_the_whole_token():
    token = new_token("lsa", secrets.token_bytes)
    assert token_hash(token) == sha256(token.encode()).digest()
    assert token_hash(token) != token_hash(token[:-1])


@given(st.binary(max_size=100))
def test_base64url_round_trips(data):
    text = base64url.encode(data)
    assert "=" not in text
    assert base64url.decode(text) == data


@given(st.text("ABYZabyz0189-_+/= \n", max_size=8))
def test_base64url_has_one_spelling_per_value(text):
    try:
        data = base64url.decode(text)
    except ValueError:
        return
    assert base64url.encode(data) == text


@pytest.mark.parametrize("text", ["A", "AA==", "AB", "A+", "A/", "A A", "AA\n", "ÀÀ", "Ａ", "\ud800"])
def test_base64url_refuses(text):
    with pytest.raises(ValueError):
        base64url.decode(text)
