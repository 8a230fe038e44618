"""Bodies of the calls that carry lists: v2 activate and heartbeat, reports of use (spec §§1.3-1.5), field by field."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.marketplace.huawei import openapi, usage
from licensesvc.marketplace.huawei.openapi import OpenApiFault, parse_activate_all, parse_heartbeat_all
from licensesvc.marketplace.huawei.result_codes import OpenApiCode
from licensesvc.marketplace.huawei.usage import CodeReport, parse_usage

BAD, UNREADABLE, PARAM = OpenApiCode.BAD_REQUEST, OpenApiCode.UNREADABLE, OpenApiCode.INVALID_PARAM
LISTS = pytest.mark.parametrize("parse", [parse_activate_all, parse_heartbeat_all])


def body(**fields):
    return json.dumps(fields, ensure_ascii=False).encode()


def fault_of(parse, sent):
    with pytest.raises(OpenApiFault) as fault:
        parse(sent)
    return fault.value.error_code


def test_the_documented_sample_is_read():
    sent = b'{"license_list":["PL****001","PL****002","PL****003"],"real_effect_time":"20260102153555"}'

    read = parse_activate_all(sent)

    assert (read.license_list, read.real_effect_time) == (("PL****001", "PL****002", "PL****003"), "20260102153555")
    assert "PL****" not in repr(read)


@LISTS
@pytest.mark.parametrize(
    "codes", [["P"], ["P" * 64], ["云" * 64], [f"P{n}" for n in range(100)]], ids=["one", "long", "wide", "100"]
)
def test_lists_within_their_bounds_are_read(parse, codes):
    assert parse(body(license_list=codes, more=1)).license_list == tuple(codes)


@LISTS
@pytest.mark.parametrize(
    "codes",
    [
        None,
        [],
        "P",
        {"0": "P"},
        7,
        True,
        [f"P{n}" for n in range(101)],
        [""],
        ["P" * 65],
        ["P", None],
        ["P", 7],
        ["P", ["P"]],
        ["P", {}],
    ],
    ids=repr,
)
def test_lists_beyond_them_are_not(parse, codes):
    assert fault_of(parse, body(license_list=codes)) is BAD
    assert fault_of(parse, body(license="P")) is BAD


def test_a_code_that_is_listed_twice_is_put_into_service_once_and_answered_twice():
    assert parse_activate_all(body(license_list=["P", "Q", "P"])).license_list == ("P", "Q")
    assert parse_heartbeat_all(body(license_list=["P", "Q", "P"])).license_list == ("P", "Q", "P")


@pytest.mark.parametrize(
    ("stated", "code"), [("2026010215355", BAD), (20260102153555, BAD), (" ", BAD), ("20260230000000", PARAM)]
)
def test_a_stated_start_is_checked_as_in_v1(stated, code):
    assert fault_of(parse_activate_all, body(license_list=["P"], real_effect_time=stated)) is code


def test_an_empty_start_is_none():
    assert parse_activate_all(body(license_list=["P"], real_effect_time="")).real_effect_time is None


def test_answers_of_lists():
    assert openapi.activate_all_success() == b'{"error_code":"92020000","error_msg":"success"}'
    info = openapi.LicenseInfo(
        license_code="P",
        status="ALIVE",
        activate_time="20250522020304",
        expire_time="20260522155959",
        product_id="12345",
        order_id="CS123",
        amount=2,
    )
    assert openapi.heartbeat_all_success([info, info]) == (
        b'{"error_code":"92020000","error_msg":"success","data":[%b,%b]}'
        % ((one := openapi.heartbeat_success(info).partition(b'"data":')[2][:-1]), one)
    )
    assert usage.usage_success([]) == b'{"error_code":"92020000","error_msg":"success","data":{"check_fail_list":[]}}'


def report(*said, code="P", **more):
    return {"license": code, "software_usage_Info": list(said), **more}


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (
            b'{"usage_info":[{"license":"PLXXXXXX","software_usage_Info":[{"id":"account1"}]}]}',
            CodeReport(license="PLXXXXXX", clients=frozenset({"account1"}), active_num=None),
        ),
        (
            b'{"usage_info":[{"license":"PLXXXXXX","software_usage_Info":[{"active_num":100}]}]}',
            CodeReport(license="PLXXXXXX", clients=frozenset(), active_num=100),
        ),
        (
            body(usage_info=[report({"id": "a"}, {"id": "a"}, {"id": "b" * 256}, more=1)], more={}),
            CodeReport(license="P", clients=frozenset({"a", "b" * 256}), active_num=None),
        ),
        (
            body(
                usage_info=[report({"active_num": 3, "id": None}, {"id": "a", "active_num": None}, {"active_num": 2})]
            ),
            CodeReport(license="P", clients=frozenset({"a"}), active_num=3),
        ),
        (
            body(usage_info=[report({"active_num": 0}, code="P" * 64)]),
            CodeReport(license="P" * 64, clients=frozenset(), active_num=0),
        ),
        (
            body(usage_info=[report({"active_num": 999_999_999})]),
            CodeReport(license="P", clients=frozenset(), active_num=999_999_999),
        ),
    ],
)
def test_a_report_is_read(sent, read):
    assert parse_usage(sent).usage_info == (read,)
    assert "account1" not in repr(parse_usage(sent))


@pytest.mark.parametrize(
    "entries",
    [
        None,
        [],
        {},
        "P",
        [None],
        ["P"],
        [{}],
        [{"license": "P"}],
        [{"license": "P", "software_usage_info": [{"id": "a"}]}],  # the I is a capital
        [report()],
        [report(None)],
        [report("a")],
        [report({})],
        [report({"id": "a", "active_num": 1})],
        [report({"id": ""})],
        [report({"id": 7})],
        [report({"id": ["a"]})],
        [report({"id": "a" * 257})],
        [report({"id": None, "active_num": None})],
        [report({"active_num": -1})],
        [report({"active_num": 1_000_000_000})],
        [report({"active_num": "100"})],
        [report({"active_num": 1.0})],
        [report({"active_num": True})],
        [report({"id": "a"}, code="")],
        [report({"id": "a"}, code="P" * 65)],
        [report({"id": "a"}, code=None)],
        [report({"id": "a"}), report({"id": "a", "active_num": 1})],
        [report(*({"id": f"a{n}"} for n in range(101)))],
        [report({"id": "a"}, code=f"P{n}") for n in range(101)],
    ],
)
def test_a_report_that_breaks_a_rule_is_refused_whole(entries):
    assert fault_of(parse_usage, body(usage_info=entries)) is BAD


def largest(character):
    named = [report(*({"id": f"{n:02}" + character * 254} for n in range(100)), code=f"P{c:02}") for c in range(100)]
    return body(usage_info=named)


@pytest.mark.parametrize("character", ["x", "云", "😀"])
def test_the_largest_legal_report_is_read(character):
    sent = largest(character)

    assert len(sent) <= usage.MAX_BODY
    assert sum(len(entry.clients) for entry in parse_usage(sent).usage_info) == 10_000


def test_a_large_body_of_tiny_parts_is_refused_before_it_is_read():
    sent = b'{"usage_info":[' + b"{}," * 1_000_000 + b"{}]}"

    assert fault_of(parse_usage, sent) is BAD


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["license_list", "usage_info", "real_effect_time"]),
        values
        | st.lists(
            values | st.dictionaries(st.sampled_from(["license", "software_usage_Info"]), values | st.lists(values))
        ),
    ).map(lambda fields: json.dumps(fields).encode())
)
def test_any_body_is_read_or_is_a_fault(sent):
    for parse in (parse_activate_all, parse_heartbeat_all, parse_usage):
        with contextlib.suppress(OpenApiFault):
            parse(sent)
