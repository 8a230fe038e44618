"""AK/SK request signing, SDK-HMAC-SHA256 (spec §3), both directions.

In: signing, reading and matching one request, the time window. Out: which keys exist, locking, error bodies.
"""

import hmac
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote, unquote_to_bytes

import msgspec

from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import MINUTE, Instant, from_datetime, to_datetime
from licensesvc.marketplace.huawei.wire import MAX_QUERY_BYTES, SignatureRefused

ALGORITHM = "SDK-HMAC-SHA256"
WINDOW = 15 * MINUTE
MAX_AUTHORIZATION_BYTES = 8192
MAX_PATH_BYTES = 8192

# The gateway's wording (spec §1.9); the part after the colon is ours where its page shows none [I].
_IAM = "Incorrect IAM authentication information: "
VERIFY_FAILED = _IAM + "verify aksk signature fail"
DATE_EXPIRED = _IAM + "x-sdk-date expired"
LOCKED = "AK access failed to reach the limit"

_HOST, _DATE, _AUTHORIZATION, _CONTENT_HASH = b"host", b"x-sdk-date", b"authorization", b"x-sdk-content-sha256"
_NEVER_REPEATED = {_HOST, _DATE, _AUTHORIZATION, _CONTENT_HASH}
_AUTHORIZATION_FORM = re.compile(
    rb"SDK-HMAC-SHA256 Access=([\x21-\x2b\x2d-\x7e]{1,128}), SignedHeaders=([\x21-\x2b\x2d-\x7e]+), Signature=([0-9a-f]{64})"
)
_DATE_FORM = re.compile(rb"\d{8}T\d{6}Z")
_DATES_KEPT = 256
"""Dates are whole seconds, and many requests of a busy server carry the same one."""
_UNRESERVED_PATH = re.compile(rb"[A-Za-z0-9\-._~/]*")


class SignedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A well-formed signed request whose signature has not been checked yet: look the key up, then call `matches`."""

    access_key: str
    date: Instant
    date_text: bytes
    canonical_head: bytes
    """The canonical request up to the hash of the body."""
    signature: bytes
    content_hash: bytes | None
    """What `x-sdk-content-sha256` claims, if it was sent."""


def sign(
    *,
    method: str,
    path: str,
    query: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    access_key: str,
    secret_key: str,
) -> str:
    """Return the value of the `Authorization` header.

    `path` and `query` are as on the wire (percent-encoded). All `headers` are signed, `Host` and `X-Sdk-Date` must be
    among them (`ValueError` otherwise).
    """
    values = {name.lower().encode(): value.encode() for name, value in headers}
    if not values.keys() >= {_HOST, _DATE}:
        raise ValueError("Host and X-Sdk-Date must be among the headers")
    names = b";".join(sorted(values))
    head = _canonical_head(method, path.encode(), query.encode(), names, values)
    signature = _signature(head, sha256(body).hexdigest().encode(), values[_DATE].strip(), secret_key.encode())
    return f"{ALGORITHM} Access={access_key}, SignedHeaders={names.decode()}, Signature={signature.decode()}"


def sdk_date(now: Instant) -> str:
    """Write the `X-Sdk-Date` value of an instant, e.g. `20160629T101459Z` (spec §1.2)."""
    return to_datetime(now).strftime("%Y%m%dT%H%M%SZ")


def parse_request(
    method: str, raw_path: bytes, query_string: bytes, headers: Sequence[tuple[bytes, bytes]]
) -> SignedRequest:
    """Read a request as ASGI gives it: path still percent-encoded, header names in lower case.

    Raises `SignatureRefused` when something needed is missing, repeated, malformed or too long.
    """
    values = dict(headers)
    access_key, names, signature = _read_authorization(values.get(_AUTHORIZATION))
    signed_names = names.split(b";")
    if len(values) != len(headers):
        _refuse_repeated(headers, {*signed_names, *_NEVER_REPEATED})
    for name in (_HOST, _DATE):
        if name not in values:
            raise SignatureRefused(f"{_IAM}{name.decode()} missing")
        if name not in signed_names:
            raise SignatureRefused(f"{_IAM}{name.decode()} not signed")
    if not values.keys() >= set(signed_names):
        raise SignatureRefused(_IAM + "signed header missing")
    if len(raw_path) > MAX_PATH_BYTES or len(query_string) > MAX_QUERY_BYTES:
        raise SignatureRefused(_IAM + "uri too long")
    content_hash = values.get(_CONTENT_HASH)
    if content_hash == b"UNSIGNED-PAYLOAD":
        raise SignatureRefused(_IAM + "unsigned payload")
    date_text = values[_DATE].strip()
    return SignedRequest(
        access_key=access_key.decode(),
        date=_parse_date(date_text),
        date_text=date_text,
        canonical_head=_canonical_head(method, raw_path, query_string, names, values),
        signature=signature,
        content_hash=content_hash,
    )


def fresh(date: Instant, now: Instant) -> bool:
    """Tell whether the request's date lies within 15 minutes of ours, both ends included (spec §1.9)."""
    return abs(now - date) <= WINDOW


def matches(signed: SignedRequest, secret_key: bytes, body: bytes) -> bool:
    """Tell in constant time whether the signature covers this request and exactly these body bytes."""
    body_hash = sha256(body).hexdigest().encode()
    if signed.content_hash is not None and signed.content_hash != body_hash:
        return False
    expected = _signature(signed.canonical_head, body_hash, signed.date_text, secret_key)
    return hmac.compare_digest(expected, signed.signature)


def _read_authorization(value: bytes | None) -> tuple[bytes, bytes, bytes]:
    if value is None:
        raise SignatureRefused(_IAM + "authorization missing")
    form = _AUTHORIZATION_FORM.fullmatch(value) if len(value) <= MAX_AUTHORIZATION_BYTES else None
    if form is None:
        raise SignatureRefused(_IAM + "authorization malformed")
    access_key, names, signature = form.groups()
    return access_key, names, signature


def _refuse_repeated(headers: Sequence[tuple[bytes, bytes]], names: set[bytes]) -> None:
    counts = Counter(name for name, _ in headers)
    for name in names:
        if counts[name] > 1:
            raise SignatureRefused(_IAM + "repeated header")


@lru_cache(_DATES_KEPT)
def _parse_date(text: bytes) -> Instant:
    try:
        if _DATE_FORM.fullmatch(text):
            return from_datetime(datetime.fromisoformat(text.decode()))
    except (ValueError, InvalidParameter):
        pass
    raise SignatureRefused(_IAM + "x-sdk-date malformed")


def _canonical_head(
    method: str, raw_path: bytes, raw_query: bytes, names: bytes, values: Mapping[bytes, bytes]
) -> bytes:
    lines = b"\n".join([name + b":" + values[name].strip() for name in names.split(b";")])
    return b"%b\n%b\n%b\n%b\n\n%b\n" % (
        method.upper().encode(),
        _canonical_path(raw_path),
        _canonical_query(raw_query),
        lines,
        names,
    )


def _canonical_path(raw: bytes) -> bytes:
    path = raw if _UNRESERVED_PATH.fullmatch(raw) else quote(unquote_to_bytes(raw)).encode()
    return path if path.endswith(b"/") else path + b"/"


def _canonical_query(raw: bytes) -> bytes:
    if not raw:
        return b""
    # RFC 3986, as the official signer: a plus is a plus, a blank is %20.
    pairs = (part.partition(b"=") for part in raw.split(b"&") if part)
    decoded = sorted((unquote_to_bytes(name), unquote_to_bytes(value)) for name, _, value in pairs)
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in decoded).encode()


def _signature(head: bytes, body_hash: bytes, date: bytes, secret_key: bytes) -> bytes:
    canonical_hash = sha256(head + body_hash).hexdigest().encode()
    return hmac.digest(secret_key, b"SDK-HMAC-SHA256\n%b\n%b" % (date, canonical_hash), "sha256").hex().encode()
