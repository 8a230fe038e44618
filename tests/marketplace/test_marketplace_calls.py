"""Every field of the License 2.0 and License 1.0 calls (spec §§2.1.1-2.1.3, 2.2), row by row."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.marketplace_calls import Scene
from licensesvc.marketplace.huawei import callbacks
from licensesvc.marketplace.huawei.callbacks import is_test, parse_v1, parse_v2

REFRESH = {
    "activity": "refreshLicenseCode",
    "expireTime": "20230523201932",
    "license": "PLTEST0001",
    "orderId": "CS2211181819B4LVS",
    "orderLineId": "CS2211181819B4LVS-000001",
    "productId": "OFFI0001",
    "scene": "RENEWAL",
    "testFlag": "1",
}
STATUS = {"activity": "updateLicenseCodeStatus", "license": "PLTEST0001", "status": "FREEZE", "testFlag": "0"}
RELEASE = {
    "activity": "releaseLicenseCode",
    "license": "PLTEST0001",
    "orderId": "CS1",
    "orderLineId": "CS1-000001",
    "testFlag": "0",
}
NOTIFY = {"activity": "orderNotify", "orderId": "CS1", "orderLineId": "CS1-000001", "testFlag": "0"}
V1_REFRESH = {
    "activity": "refreshLicense",
    "orderId": "CS2",
    "instanceId": "biz-1",
    "productId": "p1",
    "expireTime": "20281118110640",
    "periodType": "year",
    "periodNumber": "1",
    "timeStamp": "20250522020304123",
    "testFlag": "0",
}
V1_EXPIRE = {"activity": "expireLicense", "orderId": "CS1", "instanceId": "biz-1", "testFlag": "0"}
V1_RELEASE = {**V1_EXPIRE, "activity": "releaseLicense"}
V2_FULL = [REFRESH, STATUS, RELEASE, NOTIFY]
V1_FULL = [V1_REFRESH, V1_EXPIRE, V1_RELEASE]

# call, field, mandatory, length
TEXTS = [
    (REFRESH, "orderId", True, 64),
    (REFRESH, "orderLineId", True, 64),
    (REFRESH, "license", True, 64),
    (REFRESH, "productId", False, 64),
    (REFRESH, "expireTime", True, 20),
    (STATUS, "license", True, 64),
    (RELEASE, "license", True, 64),
    (RELEASE, "orderId", False, 64),
    (RELEASE, "orderLineId", False, 64),
    (NOTIFY, "orderId", True, 64),
    (NOTIFY, "orderLineId", False, 64),
    (V1_REFRESH, "orderId", True, 64),
    (V1_REFRESH, "instanceId", True, 64),
    (V1_REFRESH, "productId", False, 64),
    (V1_REFRESH, "expireTime", True, 20),
    (V1_REFRESH, "periodType", False, 10),
    (V1_EXPIRE, "orderId", True, 64),
    (V1_EXPIRE, "instanceId", True, 64),
    (V1_RELEASE, "orderId", True, 64),
    (V1_RELEASE, "instanceId", True, 64),
]
ENUMS = [
    (REFRESH, "scene", ["RENEWAL", "UNSUBSCRIBE_RENEWAL_PERIOD"]),
    (STATUS, "status", ["FREEZE", "UNFREEZE"]),
]


def read(fields):
    if fields["activity"] in callbacks.V1 if isinstance(fields.get("activity"), str) else False:
        return parse_v1(fields)
    return parse_v2(json.dumps(fields).encode())


def named(case):
    fields, name, *_ = case
    return f"{fields['activity']}.{name}"


def without(fields, name):
    return {key: value for key, value in fields.items() if key != name}


def python_name(name):
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


@pytest.mark.parametrize("case", TEXTS, ids=named)
def test_a_text_is_mandatory_or_not_and_as_long_as_documented(case):
    fields, name, mandatory, length = case
    attribute = python_name(name)

    assert getattr(read({**fields, name: "云" * length}), attribute) == "云" * length
    for fault in ("x" * (length + 1), "CS\0"):
        with pytest.raises(InvalidParameter, match=f"{name}|readable"):
            read({**fields, name: fault})
    for absent in (without(fields, name), {**fields, name: ""}, {**fields, name: None}):
        if not mandatory:
            assert getattr(read(absent), attribute) is None
            continue
        with pytest.raises(InvalidParameter, match=name):
            read(absent)


@pytest.mark.parametrize("case", [case for case in TEXTS if case[0] in V2_FULL], ids=named)
@pytest.mark.parametrize("wrong", [7, 1.5, True, [], ["x"], {}, {"x": "y"}], ids=str)
def test_a_value_of_another_type_is_refused(case, wrong):
    fields, name, *_ = case

    with pytest.raises(InvalidParameter, match=name):
        read({**fields, name: wrong})


@pytest.mark.parametrize("case", ENUMS, ids=named)
def test_only_documented_words_are_read(case):
    fields, name, values = case

    for value in values:
        assert getattr(read({**fields, name: value}), name) == value
    for wrong in ("", None, "renewal", "FREEZE ", values[0].lower(), "NORMAL", 1, [], values[0] * 10):
        with pytest.raises(InvalidParameter, match=name):
            read({**fields, name: wrong})
    with pytest.raises(InvalidParameter, match=name):
        read(without(fields, name))


@pytest.mark.parametrize("fields", [*V2_FULL, *V1_FULL], ids=lambda fields: fields["activity"])
@pytest.mark.parametrize(
    ("flag", "test"),
    [("1", True), ("0", False), ("", False), (None, False), ("2", None), ("true", None), ("111", None)],
)
def test_the_test_flag_of_every_call(fields, flag, test):
    told = without(fields, "testFlag") if flag is None else {**fields, "testFlag": flag}

    if test is None:
        with pytest.raises(InvalidParameter, match="testFlag"):
            read(told)
    else:
        assert read(told).test is test
    assert is_test(told) is (test is True)


@pytest.mark.parametrize(("flag", "test"), [("01", True), ("00", False), ("02", None), ("-1", None), ("１", None)])
def test_license_1_0_writes_the_test_flag_as_an_integer(flag, test):
    for fields in V1_FULL:
        if test is None:
            with pytest.raises(InvalidParameter, match="testFlag"):
                read({**fields, "testFlag": flag})
        else:
            assert read({**fields, "testFlag": flag}).test is test
            assert is_test({"testFlag": flag}) is test


@pytest.mark.parametrize("number", ["1", "99", ""])
def test_a_period_number_has_two_digits(number):
    assert read({**V1_REFRESH, "periodNumber": number}).period_number == (int(number) if number else None)


@pytest.mark.parametrize("number", ["100", "-1", "1.0", "one", "１"])
def test_another_period_number_is_refused(number):
    with pytest.raises(InvalidParameter, match="periodNumber"):
        read({**V1_REFRESH, "periodNumber": number})


@pytest.mark.parametrize(
    "activity", [None, "", "refreshlicensecode", "upgradeInstance", "x" * 300, 7, ["orderNotify"], {}]
)
def test_another_activity_is_refused_in_both_dialects(activity):
    for fields in V2_FULL:
        with pytest.raises(InvalidParameter, match="activity"):
            parse_v2(json.dumps({**fields, "activity": activity}).encode())
    with pytest.raises(InvalidParameter, match="activity"):
        parse_v1({**V1_REFRESH, "activity": activity} if activity is not None else without(V1_REFRESH, "activity"))


@pytest.mark.parametrize("fields", V2_FULL, ids=lambda fields: fields["activity"])
def test_a_dialect_does_not_speak_the_other(fields):
    with pytest.raises(InvalidParameter, match="activity"):
        parse_v1(fields)
    with pytest.raises(InvalidParameter, match="activity"):
        parse_v2(json.dumps(V1_RELEASE).encode())


@pytest.mark.parametrize("fields", [*V2_FULL, *V1_FULL], ids=lambda fields: fields["activity"])
def test_unknown_fields_are_ignored(fields):
    extra = {"more": "x", "license2": "y"} if fields in V1_FULL else {"more": [1, {"license": 2}], "licence": None}

    assert read({**fields, **extra}) == read(fields)


def test_the_documented_sample_is_read_whole():
    assert read(REFRESH) == callbacks.RefreshLicenseCode(
        scene=Scene.RENEWAL,
        order_id="CS2211181819B4LVS",
        order_line_id="CS2211181819B4LVS-000001",
        license="PLTEST0001",
        product_id="OFFI0001",
        expire_time="20230523201932",
        test=True,
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"[" * 9_000,
        b'{"a":' * 9_000,
        b'{"activity":"a","activity":"b"}',
        b"{" + b"0" * 999,
    ],
)
def test_a_body_that_is_no_object_is_refused(body):
    with pytest.raises(InvalidParameter, match="readable"):
        parse_v2(body)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(V2_FULL),
    st.dictionaries(
        st.sampled_from(sorted({*REFRESH, *STATUS})),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), st.lists, max_leaves=3),
    ),
)
def test_any_body_is_read_or_refused(fields, changes):
    told = {**fields, **changes}
    is_test(told)
    with contextlib.suppress(InvalidParameter):
        parse_v2(json.dumps(told).encode())


def test_codes_and_people_do_not_show_in_a_repr():
    calls = [read(fields) for fields in (REFRESH, STATUS, RELEASE)]
    get = parse_v1(
        {
            "activity": "getLicense",
            "customerId": "canary-customer",
            "customerName": "canary-name",
            "businessId": "b",
            "orderId": "o",
            "productId": "p",
            "saasExtendParams": "canary-device",
        }
    )

    assert "PLTEST" not in repr(calls)
    assert "canary" not in repr(get)
