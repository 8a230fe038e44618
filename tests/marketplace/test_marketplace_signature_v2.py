"""The URL signature of the V2 dialect (spec §4.2), row by row."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.domain.instants import MINUTE
from licensesvc.marketplace.huawei.signature_v2 import sign_url, verify_url_signature
from licensesvc.marketplace.huawei.wire import SignatureRefused

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "marketplace.json").read_text("utf-8"))[
    "url_signature_v2"
]
KEY = "0123456789abcdef-demo-key"
BODY = '{"activity":"orderNotify","customerName":"云商店"}'.encode()
NOW = 1_666_677_988_730
NONCE = "RLLUammMSInlrNWb"


def query(*, body=BODY, key=KEY, nonce=NONCE, timestamp=NOW):
    return f"signature={sign_url(body, key, nonce, timestamp)}&timestamp={timestamp}&nonce={nonce}".encode()


@pytest.mark.parametrize("vector", VECTORS)
def test_documented_signature(vector):
    body, timestamp = vector["body"].encode(), int(vector["timestamp"])
    signature = sign_url(body, vector["access_key"], vector["nonce"], timestamp)

    assert signature == vector["signature"]
    query_string = f"signature={signature}&timestamp={timestamp}&nonce={vector['nonce']}".encode()
    call = verify_url_signature(query_string, body, vector["access_key"], timestamp)
    assert (call.nonce, call.timestamp) == (vector["nonce"], timestamp)


def test_upper_case_hex_is_accepted():
    signature = sign_url(BODY, KEY, NONCE, NOW).upper()

    verify_url_signature(f"nonce={NONCE}&timestamp={NOW}&signature={signature}".encode(), BODY, KEY, NOW)


def test_other_parameters_belong_to_the_sellers_url():
    verify_url_signature(b"shop=1&" + query(), BODY, KEY, NOW)


@pytest.mark.parametrize("nonce", ["a", "a" * 64, "A-b_9", "F" * 64])
def test_documented_nonce_forms_are_accepted(nonce):
    assert verify_url_signature(query(nonce=nonce), BODY, KEY, NOW).nonce == nonce


def test_ten_digits_are_seconds():
    call = verify_url_signature(query(timestamp=NOW // 1000), BODY, KEY, NOW)

    assert call.timestamp == NOW // 1000 * 1000


@pytest.mark.parametrize("offset", [0, MINUTE, -MINUTE])
def test_call_within_sixty_seconds_is_accepted(offset):
    assert verify_url_signature(query(), BODY, KEY, NOW + offset).timestamp == NOW


@pytest.mark.parametrize("offset", [MINUTE + 1, -MINUTE - 1])
def test_call_outside_sixty_seconds_is_refused(offset):
    with pytest.raises(SignatureRefused, match="timestamp expired"):
        verify_url_signature(query(), BODY, KEY, NOW + offset)


MALFORMED = "signature, timestamp or nonce is missing or malformed"


@pytest.mark.parametrize(
    ("query_string", "reason"),
    [
        (b"", MALFORMED),
        (query().replace(b"signature=", b"sign="), MALFORMED),
        (query().replace(b"timestamp=", b"time="), MALFORMED),
        (query().replace(b"nonce=", b"once="), MALFORMED),
        (query(nonce=""), MALFORMED),
        (query(nonce="a" * 65), MALFORMED),
        (query(nonce="a.b"), MALFORMED),
        (query(nonce="a%0Ab"), MALFORMED),
        (query(timestamp=166667798873), MALFORMED),
        (query(timestamp=16666779887300), MALFORMED),
        (query().replace(b"timestamp=1", b"timestamp=%2B"), MALFORMED),
        (query().replace(b"timestamp=1", b"timestamp=0"), MALFORMED),
        (query().replace(b"timestamp=1", "timestamp=１".encode()), MALFORMED),
        (query().replace(b"signature=", b"signature=0"), MALFORMED),
        (query() + b"&nonce=b", "repeated query parameter"),
        (query() + b"&signature=" + b"0" * 64, "repeated query parameter"),
        (query(key="other"), "signature does not match"),
        (query(body=b"{}"), "signature does not match"),
        (query().replace(b"nonce=R", b"nonce=S"), "signature does not match"),
        (query().replace(b"730&", b"731&"), "signature does not match"),
    ],
)
def test_malformed_or_forged_call_is_refused(query_string, reason):
    with pytest.raises(SignatureRefused) as refused:
        verify_url_signature(query_string, BODY, KEY, NOW)

    assert refused.value.reason == reason


def test_every_single_changed_byte_of_the_body_is_refused():
    for position in range(len(BODY)):
        forged = bytearray(BODY)
        forged[position] ^= 0x01
        with pytest.raises(SignatureRefused):
            verify_url_signature(query(), bytes(forged), KEY, NOW)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.binary(max_size=20))
def test_any_query_bytes_are_refused_quietly(query_string, body):
    with pytest.raises(SignatureRefused):
        verify_url_signature(query_string, body, KEY, NOW)
