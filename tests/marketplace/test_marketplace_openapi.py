"""Bodies and error table of the License open API (spec §§1.3, 1.4, 1.8), row by row."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.marketplace.huawei.openapi import (
    ActivateRequest,
    HeartbeatRequest,
    LicenseInfo,
    OpenApiFault,
    activate_success,
    failure,
    heartbeat_success,
    parse_activate,
    parse_heartbeat,
)
from licensesvc.marketplace.huawei.result_codes import OpenApiCode

BAD, UNREADABLE, PARAM = OpenApiCode.BAD_REQUEST, OpenApiCode.UNREADABLE, OpenApiCode.INVALID_PARAM


def body(**fields):
    return json.dumps(fields, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("sent", "request_"),
    [
        (b'{ "license" : "PLXXXXXX" }', ActivateRequest(license="PLXXXXXX")),
        (body(license="P"), ActivateRequest(license="P")),
        (body(license="P" * 64), ActivateRequest(license="P" * 64)),
        (body(license="云" * 64), ActivateRequest(license="云" * 64)),
        (body(license=" PL x "), ActivateRequest(license=" PL x ")),
        (body(license="P", real_effect_time=None), ActivateRequest(license="P")),
        (body(license="P", real_effect_time=""), ActivateRequest(license="P")),
        (
            body(license="P", real_effect_time="20260102153555"),
            ActivateRequest(license="P", real_effect_time="20260102153555"),
        ),
        (body(license="P", unknown=[{}], data=1), ActivateRequest(license="P")),
    ],
)
def test_activate_request_is_read(sent, request_):
    assert parse_activate(sent) == request_


@pytest.mark.parametrize(
    ("sent", "request_"),
    [
        (body(license="P"), HeartbeatRequest(license="P")),
        (body(license="P", heartbeatInfo=None), HeartbeatRequest(license="P")),
        (
            b'{ "license" : "PLXXXXXX", "heartbeatInfo":{ "thirdPartyAccount":"myaccount1", "ip":"192.168.1.51" } }',
            HeartbeatRequest(license="PLXXXXXX", third_party_account="myaccount1", ip="192.168.1.51"),
        ),
        (
            body(license="P", heartbeatInfo={"thirdPartyAccount": "a" * 256, "ip": "1" * 32, "more": 1}),
            HeartbeatRequest(license="P", third_party_account="a" * 256, ip="1" * 32),
        ),
        (
            body(license="P", heartbeatInfo={"thirdPartyAccount": "a", "ip": None}),
            HeartbeatRequest(license="P", third_party_account="a"),
        ),
    ],
)
def test_heartbeat_request_is_read(sent, request_):
    assert parse_heartbeat(sent) == request_


@pytest.mark.parametrize("parse", [parse_activate, parse_heartbeat])
@pytest.mark.parametrize(
    ("sent", "error_code"),
    [
        (b"", UNREADABLE),
        (b"{", UNREADABLE),
        (b"license=PLXXXXXX", UNREADABLE),
        (b'{"license":"PL\xff"}', UNREADABLE),
        (b'\xef\xbb\xbf{"license":"P"}', UNREADABLE),
        (b'{"license":NaN}', UNREADABLE),
        (b'{"license":"P","x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", UNREADABLE),
        (b"[]", BAD),
        (b'"PLXXXXXX"', BAD),
        (b"null", BAD),
        (b"{}", BAD),
        (b'{"license":"P","license":"P"}', BAD),
        (b'{"license":"P\\u0000"}', BAD),
        (b'{"license":"P\\ud800"}', BAD),
        (body(license=None), BAD),
        (body(license=""), BAD),
        (body(license=1), BAD),
        (body(license=True), BAD),
        (body(license=["P"]), BAD),
        (body(license="P" * 65), BAD),
        (body(LICENSE="P"), BAD),
        (body(license_list=["P"]), BAD),
    ],
)
def test_wrong_body_has_its_documented_code(parse, sent, error_code):
    with pytest.raises(OpenApiFault) as fault:
        parse(sent)

    assert fault.value.error_code is error_code


@pytest.mark.parametrize(
    ("real_effect_time", "error_code"),
    [
        (" ", BAD),
        ("2026010215355", BAD),
        ("202601021535551", BAD),
        ("20260102153555999", BAD),
        ("2026-01-02 15:35", BAD),
        ("2026010215355Z", BAD),
        ("２０２６０１０２１５３５５５", BAD),
        (20260102153555, BAD),
        ({}, BAD),
        ("20260230000000", PARAM),
        ("20260102246060", PARAM),
        ("00000000000000", PARAM),
    ],
)
def test_wrong_real_effect_time_has_its_documented_code(real_effect_time, error_code):
    with pytest.raises(OpenApiFault) as fault:
        parse_activate(body(license="P", real_effect_time=real_effect_time))

    assert fault.value.error_code is error_code


@pytest.mark.parametrize(
    "info",
    [
        "account",
        [],
        {},
        {"thirdPartyAccount": None},
        {"thirdPartyAccount": ""},
        {"thirdPartyAccount": 1},
        {"thirdPartyAccount": "a" * 257},
        {"thirdParty Account": "a"},
        {"thirdPartyAccount": "a", "ip": 1},
        {"thirdPartyAccount": "a", "ip": "1" * 33},
    ],
)
def test_wrong_heartbeat_info_is_a_bad_request(info):
    with pytest.raises(OpenApiFault) as fault:
        parse_heartbeat(body(license="P", heartbeatInfo=info))

    assert fault.value.error_code is BAD


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(lambda x: body(license=x))
)
def test_any_body_is_read_or_is_a_fault(sent):
    for parse in (parse_activate, parse_heartbeat):
        with contextlib.suppress(OpenApiFault):
            assert 1 <= len(parse(sent).license) <= 64


def test_activate_success_is_the_documented_sample_byte_for_byte():
    answer = activate_success(
        status="ALIVE", expire_time="20230726121646", product_id="12345", amount=2, order_id="CS123"
    )

    assert answer == (
        rb'{"error_code":"92020000","error_msg":"success","data":{"license_code_info":'
        rb'"{\"status\":\"ALIVE\",\"expire_time\":\"20230726121646\",\"product_id\":\"12345\",\"amount\":2,\"order_id\":\"CS123\"}"}}'
    )


def test_text_inside_the_inner_document_survives_and_stays_utf8():
    answer = activate_success(
        status="ALIVE", expire_time="20991231155959", product_id='云"\\/', amount=1, order_id="\n"
    )

    info = json.loads(json.loads(answer)["data"]["license_code_info"])
    assert (info["product_id"], info["order_id"]) == ('云"\\/', "\n")
    assert "云".encode() in answer


def test_heartbeat_success_has_the_documented_fields_in_order():
    answer = heartbeat_success(
        LicenseInfo(
            license_code="PLXXXXXX",
            status="EXPIRED",
            activate_time="20250522020304",
            expire_time="20260522155959",
            product_id="12345",
            order_id="CS123",
            amount=2,
        )
    )

    assert answer == (
        b'{"error_code":"92020000","error_msg":"success","data":{"license_code":"PLXXXXXX","status":"EXPIRED",'
        b'"activate_time":"20250522020304","expire_time":"20260522155959","product_id":"12345","order_id":"CS123","amount":2}}'
    )


@pytest.mark.parametrize(
    ("error_code", "http_status", "error_msg"),
    [
        ("92020001", 200, "internal error"),
        ("92020002", 200, "invalid param"),
        ("92020003", 200, "illegal state"),
        ("92020004", 200, "can not active before user received."),
        ("92020005", 200, "license code notexist"),
        ("92020011", 200, "license code has been not activated."),
        ("92020020", 200, "Invalid license code exists."),
        ("95000001", 400, "req param is invalid"),
        ("95000002", 405, "Request method not supported"),
        ("95000003", 415, "Content type not supported"),
        ("95000004", 400, "req message is not readable"),
    ],
)
def test_failure_is_the_row_of_the_current_table(error_code, http_status, error_msg):
    body_ = f'{{"error_code":"{error_code}","error_msg":"{error_msg}"}}'.encode()

    assert failure(OpenApiCode(error_code)) == (http_status, body_)
