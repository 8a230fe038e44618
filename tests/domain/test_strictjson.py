"""Bodies of strangers: what is read, what is refused, and with which of the two errors."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.strictjson import MAX_DEPTH, Unacceptable, Unreadable, decode_object

READ = [
    (b"{}", {}),
    (b' \r\n\t{"license" : "PLXXXXXX"} ', {"license": "PLXXXXXX"}),
    ('{"name":"云商店"}'.encode(), {"name": "云商店"}),
    (rb'{"a":"\u4e91\ud83d\ude00"}', {"a": "云😀"}),  # a whole surrogate pair
    (b'{"n":[0,-1,1.5,1e3,true,false,null]}', {"n": [0, -1, 1.5, 1000.0, True, False, None]}),
    (b'{"a":{"k":1},"b":{"k":2}}', {"a": {"k": 1}, "b": {"k": 2}}),  # the same key in two objects
    (b'{"n":999999999999999999}', {"n": 999_999_999_999_999_999}),
    (b'{"a":"' + b"[" * 200 + b'"}', {"a": "[" * 200}),  # brackets in a string do not nest
]

UNREADABLE = [
    b"",
    b" ",
    b"{",
    b'{"a":1',
    b'{"a":1}x',
    b"{'a':1}",
    b'{"a":1,}',
    b"\xef\xbb\xbf{}",  # BOM
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',  # a surrogate spelled in UTF-8
    '{"a":1}'.encode("utf-16"),
    b'{"a":"\x00"}',  # raw control characters are no JSON
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":1e999}',
    b'{"a":1000000000000000000}',
    b'{"a":-' + b"9" * 5_000 + b"}",
    b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
    b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    b"[" * 10_000,
    b'{"a":' * 10_000,
]

UNACCEPTABLE = [
    b"[]",
    b'"text"',
    b"1",
    b"null",
    b'{"a":1,"a":1}',
    b'{"x":[{"a":1,"a":2}]}',
    rb'{"a":1,"\u0061":2}',  # the same key, spelled with an escape
    rb'{"a":"\u0000"}',
    rb'{"\u0000":1}',
    rb'{"a":["x",{"b":"\ud800"}]}',
    rb'{"a":"\udc00\ud800"}',  # a pair the wrong way round
    rb'{"\uDFFF":1}',
]


@pytest.mark.parametrize(("body", "document"), READ)
def test_reads_objects(body, document):
    assert decode_object(body) == document


@pytest.mark.parametrize("body", UNREADABLE, ids=lambda body: repr(body[:24]))
def test_refuses_what_is_no_json(body):
    with pytest.raises(Unreadable):
        decode_object(body)


@pytest.mark.parametrize("body", UNACCEPTABLE, ids=repr)
def test_refuses_ambiguous_and_unstorable_json(body):
    with pytest.raises(Unacceptable):
        decode_object(body)


def test_reads_the_deepest_nesting_allowed():
    body = b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"1" + b"]" * (MAX_DEPTH - 1) + b"}"
    assert len(decode_object(body)) == 1


FRAGMENTS = [b"{", b"}", b"[", b"]", b'"', b":", b",", b'"a"', b'"b":', b"1", b"-", b"1e9", b"\\u0000", b"\\ud8", b" "]


@given(st.one_of(st.binary(), st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(b"".join)))
def test_anything_gives_an_object_or_one_of_the_two_errors(body):
    try:
        document = decode_object(body)
    except (Unreadable, Unacceptable):
        return
    assert document == json.loads(body)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**18) + 1, 10**18 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
DOCUMENTS = st.dictionaries(
    TEXTS, st.recursive(SCALARS | TEXTS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=10)
)


@given(DOCUMENTS, st.booleans())
def test_every_honest_object_is_read(document, escaped):
    assert decode_object(json.dumps(document, ensure_ascii=escaped).encode()) == document
