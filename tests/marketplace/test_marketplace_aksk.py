"""AK/SK signing (spec §3): documented vectors, refusals row by row, one changed byte anywhere."""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.domain.instants import MINUTE, parse_rfc3339
from licensesvc.marketplace.huawei import aksk
from licensesvc.marketplace.huawei.wire import SignatureRefused

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "marketplace.json").read_text("utf-8"))["aksk"]
PATH = "/api/mkp-openapi-public/global/v1/license/activate"
BODY = b'{"license":"PLXXXXXX"}'
SECRET = "SKEXAMPLE"
NOW = parse_rfc3339("2025-05-22T02:03:04Z")
SENT = [("Content-Type", "application/json"), ("X-Sdk-Date", aksk.sdk_date(NOW)), ("Host", "127.0.0.1:8080")]

Headers = list[tuple[bytes, bytes]]


def signed_headers(
    headers: list[tuple[str, str]] = SENT,
    *,
    method: str = "POST",
    path: str = PATH,
    query: str = "",
    body: bytes = BODY,
) -> Headers:
    authorization = aksk.sign(
        method=method, path=path, query=query, headers=headers, body=body, access_key="AK1", secret_key=SECRET
    )
    return [(name.lower().encode(), value.encode()) for name, value in [*headers, ("Authorization", authorization)]]


def accepts(headers: Headers, *, method: str = "POST", path: str = PATH, query: str = "", body: bytes = BODY) -> bool:
    try:
        signed = aksk.parse_request(method, path.encode(), query.encode(), headers)
    except SignatureRefused:
        return False
    return signed.access_key == "AK1" and aksk.matches(signed, SECRET.encode(), body)


def replaced(name: bytes, value: bytes | None) -> Callable[[Headers], Headers]:
    def change(headers: Headers) -> Headers:
        others = [header for header in headers if header[0] != name]
        return others if value is None else [*others, (name, value)]

    return change


def authorization(old: bytes, new: bytes) -> Callable[[Headers], Headers]:
    def change(headers: Headers) -> Headers:
        return [(name, value.replace(old, new) if name == b"authorization" else value) for name, value in headers]

    return change


@pytest.mark.parametrize("vector", VECTORS)
def test_documented_vector_is_signed_and_accepted(vector):
    value = aksk.sign(
        method=vector["method"],
        path=vector["uri"],
        query=vector["query"],
        headers=list(vector["headers"].items()),
        body=vector["body"].encode(),
        access_key=vector["access_key"],
        secret_key=vector["secret_key"],
    )

    assert value == (
        f"SDK-HMAC-SHA256 Access={vector['access_key']}, SignedHeaders={vector['signed_headers']}, "
        f"Signature={vector['signature']}"
    )
    headers = [(name.lower().encode(), text.encode()) for name, text in vector["headers"].items()]
    signed = aksk.parse_request(
        vector["method"],
        vector["uri"].encode(),
        vector["query"].encode(),
        [*headers, (b"authorization", value.encode())],
    )
    assert signed.access_key == vector["access_key"]
    assert aksk.sdk_date(signed.date) == vector["headers"]["X-Sdk-Date"]
    assert aksk.matches(signed, vector["secret_key"].encode(), vector["body"].encode())
    if "canonical_sha256" in vector:
        canonical = signed.canonical_head + sha256(vector["body"].encode()).hexdigest().encode()
        assert sha256(canonical).hexdigest() == vector["canonical_sha256"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (replaced(b"authorization", None), "authorization missing"),
        (replaced(b"authorization", b""), "authorization malformed"),
        (replaced(b"authorization", b"Bearer abc"), "authorization malformed"),
        (authorization(b"SDK-HMAC-SHA256", b"SDK-HMAC-SHA512"), "authorization malformed"),
        (authorization(b"SDK-HMAC", b"sdk-hmac"), "authorization malformed"),
        (authorization(b"AK1", b"A K1"), "authorization malformed"),
        (authorization(b"AK1", b""), "authorization malformed"),
        (authorization(b"AK1", "密钥".encode()), "authorization malformed"),
        (authorization(b"AK1", b"A" * 129), "authorization malformed"),
        (authorization(b"AK1", b"\0"), "authorization malformed"),
        (authorization(b", ", b","), "authorization malformed"),
        (authorization(b"host;", b"host;" + b"a" * 8192 + b";"), "authorization malformed"),
        (authorization(b"host", "hôst".encode()), "authorization malformed"),
        (authorization(b"Signature=", b"Signature=0"), "authorization malformed"),
        (authorization(b"Signature=", b"Signature=\n"), "authorization malformed"),
        (authorization(b"host;", b""), "host not signed"),
        (authorization(b";x-sdk-date", b""), "x-sdk-date not signed"),
        (authorization(b"host;", b"host;x-stage;"), "signed header missing"),
        (authorization(b"host;", b"host;;"), "signed header missing"),
        (authorization(b"host;", b"Host;"), "host not signed"),
        (replaced(b"content-type", None), "signed header missing"),
        (replaced(b"host", None), "host missing"),
        (replaced(b"x-sdk-date", None), "x-sdk-date missing"),
        (replaced(b"x-sdk-date", b"20250522020304"), "x-sdk-date malformed"),
        (replaced(b"x-sdk-date", b"20250522T020304"), "x-sdk-date malformed"),
        (replaced(b"x-sdk-date", b"20250532T020304Z"), "x-sdk-date malformed"),
        (replaced(b"x-sdk-date", b"19690101T000000Z"), "x-sdk-date malformed"),
        (replaced(b"x-sdk-date", b"2025052\xb2T020304Z"), "x-sdk-date malformed"),
        (replaced(b"x-sdk-date", b""), "x-sdk-date malformed"),
        (replaced(b"x-sdk-content-sha256", b"UNSIGNED-PAYLOAD"), "unsigned payload"),
        (lambda headers: [*headers, (b"host", b"127.0.0.1:8080")], "repeated header"),
        (lambda headers: [*headers, (b"x-sdk-date", b"20250522T020304Z")], "repeated header"),
        (lambda headers: [*headers, headers[-1]], "repeated header"),
        (lambda headers: [*headers, (b"content-type", b"text/plain")], "repeated header"),
        (lambda headers: [*headers, *[(b"x-sdk-content-sha256", b"x")] * 2], "repeated header"),
    ],
)
def test_malformed_request_is_refused_with_its_reason(change, reason):
    with pytest.raises(SignatureRefused) as refused:
        aksk.parse_request("POST", PATH.encode(), b"", change(signed_headers()))

    assert refused.value.reason == f"Incorrect IAM authentication information: {reason}"


@pytest.mark.parametrize(
    ("path", "query", "reason"), [(b"/" * 8193, b"", "uri too long"), (b"/", b"a" * 8193, "uri too long")]
)
def test_oversized_target_is_refused(path, query, reason):
    with pytest.raises(SignatureRefused, match=reason):
        aksk.parse_request("POST", path, query, signed_headers())


def test_unsigned_headers_may_repeat():
    assert accepts([*signed_headers(), (b"via", b"a"), (b"via", b"b")])


def test_blanks_around_a_signed_value_are_not_signed():
    assert accepts(replaced(b"content-type", b"  application/json\t")(signed_headers()))


@pytest.mark.parametrize(
    ("declared", "accepted"),
    [
        (sha256(BODY).hexdigest(), True),
        (sha256(BODY).hexdigest().upper(), False),
        (sha256(b"").hexdigest(), False),
        ("", False),
    ],
)
def test_declared_content_hash_must_be_the_hash_of_the_received_body(declared, accepted):
    headers = signed_headers([*SENT, ("X-Sdk-Content-Sha256", declared)])

    assert accepts(headers) is accepted


def test_swapped_body_under_a_declared_hash_is_refused():
    headers = signed_headers([*SENT, ("X-Sdk-Content-Sha256", sha256(BODY).hexdigest())])

    assert not accepts(headers, body=b'{"license":"PLOTHER"}')


@pytest.mark.parametrize(
    ("offset", "expected"),
    [(0, True), (15 * MINUTE, True), (-15 * MINUTE, True), (15 * MINUTE + 1, False), (-15 * MINUTE - 1, False)],
)
def test_window_is_fifteen_minutes_on_both_sides_inclusive(offset, expected):
    assert aksk.fresh(NOW + offset, NOW) is expected


@pytest.mark.parametrize("missing", ["Host", "X-Sdk-Date"])
def test_signing_without_host_or_date_is_an_error(missing):
    with pytest.raises(ValueError, match="Host and X-Sdk-Date"):
        signed_headers([header for header in SENT if header[0] != missing])


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ("a=1&b=2", "b=2&a=1"),
        ("a=1&a=2", "a=2&a=1"),
        ("a", "a="),
        ("a=%7E", "a=~"),
        ("a=1&&b=2&", "a=1&b=2"),
        ("a=b%3Dc", "a=b=c"),
    ],
)
def test_equivalent_queries_have_one_canonical_form(sent, received):
    assert accepts(signed_headers(query=sent), query=received)


@pytest.mark.parametrize(("sent", "received"), [("a=1+2", "a=1%202"), ("a=%2B", "a=%20"), ("a=", ""), ("A=1", "a=1")])
def test_different_queries_differ(sent, received):
    assert not accepts(signed_headers(query=sent), query=received)


def test_different_undecodable_paths_differ():
    assert not accepts(signed_headers(path="/v1/%FF"), path="/v1/%FE")


def test_every_single_changed_byte_is_refused():
    query = "orderId=CS1&line=%E4%BA%91"
    headers = signed_headers(query=query)
    assert accepts(headers, query=query)

    for index, (name, value) in enumerate(headers):
        for position in range(len(value)):
            forged = bytearray(value)
            forged[position] ^= 0x01
            assert not accepts([*headers[:index], (name, bytes(forged)), *headers[index + 1 :]], query=query)
    for position in range(len(BODY)):
        forged = bytearray(BODY)
        forged[position] ^= 0x01
        assert not accepts(headers, query=query, body=bytes(forged))
    for position in range(len(PATH)):
        path = PATH[:position] + chr(ord(PATH[position]) ^ 1) + PATH[position + 1 :]
        assert not accepts(headers, query=query, path=path)
    for position in range(len(query)):
        forged_query = query[:position] + chr(ord(query[position]) ^ 1) + query[position + 1 :]
        assert not accepts(headers, query=forged_query)
    assert not accepts(headers, query=query, method="PUT")


def test_upper_case_signature_is_refused():
    headers = signed_headers()
    signature = headers[-1][1].rpartition(b"=")[2]

    assert not accepts(authorization(signature, signature.upper())(headers))


def test_other_secret_does_not_match():
    signed = aksk.parse_request("POST", PATH.encode(), b"", signed_headers())

    assert not aksk.matches(signed, b"SKOTHER", BODY)


@settings(max_examples=150, deadline=None)
@given(
    method=st.text(max_size=8).filter(lambda text: text.isascii()),
    path=st.binary(max_size=40),
    query=st.binary(max_size=40),
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"host", b"x-sdk-date", b"authorization", b"x-sdk-content-sha256", b"via"]),
            st.binary(max_size=80) | st.sampled_from([value for _, value in signed_headers()]),
        ),
        max_size=6,
    ),
)
def test_any_bytes_are_either_read_or_refused(method, path, query, headers):
    try:
        signed = aksk.parse_request(method, path, query, headers)
    except SignatureRefused:
        return
    assert isinstance(aksk.matches(signed, SECRET.encode(), BODY), bool)
