"""authToken and Body-Sign of the V1 dialect (spec §4.1), row by row."""

import json
from pathlib import Path
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.domain.instants import HOUR, MINUTE, SECOND, parse_rfc3339
from licensesvc.marketplace.huawei.signature_v1 import (
    BODY_SIGN_HEADER,
    auth_token,
    body_sign,
    check_body_sign,
    verify_auth_token,
)
from licensesvc.marketplace.huawei.wire import SignatureRefused, query_parameters

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "marketplace.json").read_text("utf-8"))
KEY = "0123456789abcdef-demo-key"
NOW = parse_rfc3339("2020-07-27T07:37:11.903Z")
WINDOW = 15 * MINUTE
PARAMETERS = {
    "activity": "getLicense",
    "customerName": "云 商店+1",
    "orderId": "CS1906666666ABCDE",
    "skuCode": "",
    "timeStamp": "20200727073711903",
}


def query(parameters=PARAMETERS, key=KEY, **changes):
    signed = {**parameters, **changes}
    return urlencode({**signed, "authToken": auth_token(signed.items(), key)}).encode()


@pytest.mark.parametrize("vector", VECTORS["auth_token_v1"])
def test_documented_auth_token(vector):
    parameters = [tuple(pair.split("=", 1)) for pair in vector["sorted"].split("&")]

    assert auth_token(reversed(parameters), vector["access_key"]) == vector["authToken"]
    request = verify_auth_token(
        dict([*parameters, ("authToken", vector["authToken"])]), vector["access_key"], NOW, WINDOW
    )
    assert request.parameters == dict(parameters)
    assert request.sent_at == NOW


@pytest.mark.parametrize("encode", [quote, quote_plus])
def test_parameters_are_decoded_once_whichever_way_a_blank_was_written(encode):
    signed = {**PARAMETERS, "note": "100%25 a+b c"}
    text = urlencode({**signed, "authToken": auth_token(signed.items(), KEY)}, quote_via=encode)

    request = verify_auth_token(query_parameters(text.encode()), KEY, NOW, WINDOW)

    assert request.parameters == signed
    assert not request.beijing_clock


def test_auth_token_whose_plus_was_not_encoded_is_accepted():
    numbered = ({**PARAMETERS, "businessId": str(number)} for number in range(100))
    signed, token = next((signed, token) for signed in numbered if "+" in (token := auth_token(signed.items(), KEY)))

    query_string = f"{urlencode(signed)}&authToken={token}".encode()

    assert verify_auth_token(query_parameters(query_string), KEY, NOW, WINDOW).parameters == signed


@pytest.mark.parametrize(
    ("query_string", "reason"),
    [
        (b"", "authToken or timeStamp is missing"),
        (urlencode(PARAMETERS).encode(), "authToken or timeStamp is missing"),
        (b"activity=getLicense&authToken=x", "authToken or timeStamp is missing"),
        (query(timeStamp=""), "authToken or timeStamp is missing"),
        (query() + b"&orderId=CS1906666666ABCDE", "repeated query parameter"),
        (query() + b"&authToken=x", "repeated query parameter"),
        (query() + b"&extra=1", "authToken does not match"),
        (query().replace(b"CS19", b"CS18"), "authToken does not match"),
        (query().replace(b"getLicense", b"getlicense"), "authToken does not match"),
        (query().replace(b"skuCode=&", b""), "authToken does not match"),
        (query(key="other"), "authToken does not match"),
        (urlencode({**PARAMETERS, "authToken": "密"}).encode(), "authToken does not match"),
        (query() + b"%3D", "authToken does not match"),
        (query(timeStamp="20200727"), "timeStamp is malformed"),
        (query(timeStamp="20200732073711903"), "timeStamp is malformed"),
        (query(timeStamp="202007270737119031"), "timeStamp is malformed"),
        (query(note="%FF").replace(b"%25FF", b"%FF"), "query string malformed"),
        (query() + b"&note=\xff", "query string malformed"),
        (query() + b"&note=%ED%A0%80", "query string malformed"),
        (b"&".join(b"p%d=1" % number for number in range(65)), "query string malformed"),
        (b"a=" + b"x" * 8191, "query string too long"),
    ],
)
def test_unsigned_ambiguous_or_forged_query_is_refused(query_string, reason):
    with pytest.raises(SignatureRefused) as refused:
        verify_auth_token(query_parameters(query_string), KEY, NOW, WINDOW)

    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("stamp", "sent_at"),
    [
        ("20200727073711", NOW - 903),
        ("202007270737119", NOW - 903 + 9),
        ("2020072707371190", NOW - 903 + 90),
        ("20200727073711903", NOW),
    ],
)
def test_stamps_carry_none_to_three_millisecond_digits(stamp, sent_at):
    assert verify_auth_token(query_parameters(query(timeStamp=stamp)), KEY, NOW, WINDOW).sent_at == sent_at


@pytest.mark.parametrize(
    ("offset", "beijing_clock"),
    [
        (0, False),
        (WINDOW, False),
        (-WINDOW, False),
        (8 * HOUR, True),
        (8 * HOUR + WINDOW, True),
        (8 * HOUR - WINDOW, True),
    ],
)
def test_stamp_inside_the_window_or_eight_hours_ahead_is_accepted(offset, beijing_clock):
    request = verify_auth_token(query_parameters(query()), KEY, NOW - offset, WINDOW)

    assert request.beijing_clock is beijing_clock
    assert abs(request.sent_at - (NOW - offset)) <= WINDOW


@pytest.mark.parametrize("offset", [WINDOW + 1, -WINDOW - 1, 8 * HOUR + WINDOW + 1, 8 * HOUR - WINDOW - 1, -8 * HOUR])
def test_stamp_outside_both_windows_is_refused(offset):
    with pytest.raises(SignatureRefused, match="timeStamp expired"):
        verify_auth_token(query_parameters(query()), KEY, NOW - offset, WINDOW)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_query_bytes_are_refused_quietly(query_string):
    with pytest.raises(SignatureRefused):
        verify_auth_token(query_parameters(query_string), KEY, NOW, 1 * SECOND)


def test_every_single_changed_byte_of_the_query_is_refused():
    query_string = query()

    for position in range(len(query_string)):
        forged = bytearray(query_string)
        forged[position] ^= 0x01
        with pytest.raises(SignatureRefused):
            verify_auth_token(query_parameters(bytes(forged)), KEY, NOW, WINDOW)


@pytest.mark.parametrize("vector", VECTORS["body_sign"])
def test_documented_body_sign(vector):
    value = body_sign(vector["body"].encode(), vector["access_key"])

    assert BODY_SIGN_HEADER == "Body-Sign"
    assert value == f'sign_type="HMAC-SHA256", signature="{vector["signature"]}"'


@pytest.mark.parametrize(
    "form",
    [
        'sign_type="HMAC-SHA256", signature="{}"',
        'sign_type="HMAC-SHA256", signature= "{}"',
        'sign_type="HMAC-SHA256",signature="{}"',
        'sign_type= "HMAC-SHA256",signature= "{}"',
    ],
)
def test_optional_blanks_in_body_sign_are_accepted(form):
    signature = VECTORS["body_sign"][0]["signature"]

    check_body_sign(form.format(signature), VECTORS["body_sign"][0]["body"].encode(), KEY)


WRONG_FORM = "http header->sign_type is not equals HMAC-SHA256 or signature is empty."
WRONG_SIGNATURE = (
    f"Failed to verify the HTTP Body signature. Expected signature value: {VECTORS['body_sign'][0]['signature']}"
)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "http header->bodySign is empty."),
        ("", "http header->bodySign is empty."),
        ('sign_type="HMAC-SHA1", signature="eA=="', WRONG_FORM),
        ("sign_type=HMAC-SHA256, signature=eA==", WRONG_FORM),
        ('sign_type="HMAC-SHA256", signature=""', WRONG_FORM),
        ('signature="eA=="', WRONG_FORM),
        ('sign_type="HMAC-SHA256", signature="eA=="', WRONG_SIGNATURE),
        ('sign_type="HMAC-SHA256", signature="密"', WRONG_SIGNATURE),
    ],
)
def test_wrong_body_sign_is_refused_in_the_words_of_the_marketplace(value, reason):
    with pytest.raises(SignatureRefused) as refused:
        check_body_sign(value, VECTORS["body_sign"][0]["body"].encode(), KEY)

    assert refused.value.reason == reason


def test_body_sign_covers_blanks_around_the_body():
    value = body_sign(b" {} ", KEY)

    check_body_sign(value, b" {} ", KEY)
    with pytest.raises(SignatureRefused):
        check_body_sign(value, b"{}", KEY)
