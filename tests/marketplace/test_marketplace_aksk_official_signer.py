"""The official Python SDK's signer as an oracle for both directions of AK/SK (spec §3)."""

import warnings
from urllib.parse import quote

from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.marketplace.huawei import aksk
from licensesvc.marketplace.huawei.wire import SignatureRefused

ACCESS_KEY = "AKEXAMPLE0000000001"
SECRET_KEY = "SKEXAMPLE000000000000000000000000000001"
SIGNER = Signer(BasicCredentials(ak=ACCESS_KEY, sk=SECRET_KEY, project_id="unused"))

# The SDK builds on str, so halves of surrogate pairs cannot reach its wire either.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
header_names = st.from_regex(r"X-[A-Za-z0-9-]{1,10}", fullmatch=True).filter(
    lambda name: not name.lower().startswith("x-sdk-")
)
header_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
requests = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
        "path": st.lists(texts, max_size=4).map(lambda parts: "/" + "/".join(parts)),
        "query": st.lists(st.tuples(texts, texts), max_size=4),
        "headers": st.dictionaries(header_names, header_values, max_size=4).filter(
            lambda headers: len({name.lower() for name in headers}) == len(headers)
        ),
        "body": st.binary(max_size=60),
    }
)


def official(case):
    """Sign with the SDK and return the request as it leaves the SDK."""
    request = SdkRequest(
        method=case["method"],
        schema="https",
        host="mkt.myhuaweicloud.com",
        resource_path=quote(case["path"]),
        query_params=list(case["query"]),
        header_params={"Content-Type": "application/json", "X-Sdk-Date": "20250522T020304Z", **case["headers"]},
        body=case["body"],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SIGNER.sign(request)


def on_the_wire(request):
    raw_path, _, query_string = request.uri.encode().partition(b"?")
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in request.header_params.items()]
    return request.method, raw_path, query_string, headers


@settings(max_examples=150, deadline=None)
@given(requests)
def test_requests_of_the_official_signer_are_accepted(case):
    signed = aksk.parse_request(*on_the_wire(official(case)))

    assert signed.access_key == ACCESS_KEY
    assert aksk.matches(signed, SECRET_KEY.encode(), case["body"])
    assert not aksk.matches(signed, SECRET_KEY.encode(), case["body"] + b"x")


@settings(max_examples=150, deadline=None)
@given(requests)
def test_our_signature_is_the_official_one(case):
    request = official(case)
    raw_path, _, query = request.uri.partition("?")
    headers = [(name, value) for name, value in request.header_params.items() if name != "Authorization"]

    ours = aksk.sign(
        method=case["method"],
        path=raw_path,
        query=query,
        headers=headers,
        body=case["body"],
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
    )

    assert ours == request.header_params["Authorization"]


@settings(max_examples=100, deadline=None)
@given(requests, st.data())
def test_one_changed_byte_of_an_official_request_is_refused(case, data):
    method, raw_path, query_string, headers = on_the_wire(official(case))
    index = data.draw(st.integers(0, len(headers) - 1))
    name, value = headers[index]
    position = data.draw(st.integers(0, len(value)))
    headers[index] = (name, value[:position] + b"#" + value[position:])

    try:
        signed = aksk.parse_request(method, raw_path, query_string, headers)
    except SignatureRefused:
        return
    assert signed.access_key != ACCESS_KEY or not aksk.matches(signed, SECRET_KEY.encode(), case["body"])
