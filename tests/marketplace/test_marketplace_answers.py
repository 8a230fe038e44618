"""Answers of the marketplace are read tolerantly, and whatever they are raises nothing but the known errors."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.marketplace.huawei import answers
from licensesvc.marketplace.huawei.answers import CodeFacts
from licensesvc.marketplace.huawei.orders import MalformedAnswer, MarketplaceRefusal


@pytest.mark.parametrize(
    ("info", "facts"),
    [
        ('"{\\"status\\":\\"ALIVE\\"}"', {"status": "ALIVE"}),
        ('{"status":"ALIVE"}', {"status": "ALIVE"}),
        ('{"status":"ALIVE","amount":"3","product_id":12345,"extra":{"a":[1]}}', {"status": "ALIVE", "amount": 3, "product_id": "12345"}),
        ('{"status":"FROZEN","amount":2.0}', {"status": "FROZEN", "amount": 2}),
        ('{"status":"ALIVE","amount":2.5}', {"status": "ALIVE"}),
        ('{"status":"ALIVE","amount":"-1"}', {"status": "ALIVE"}),
        ('{"status":"ALIVE","amount":true,"expire_time":null}', {"status": "ALIVE"}),
        ('{"status":"ALIVE","amount":99999999999,"order_id":""}', {"status": "ALIVE"}),
        ('{"status":"ALIVE","order_id":"' + "x" * 2000 + '"}', {"status": "ALIVE"}),
    ],
)  # fmt: skip
def test_facts_are_read_tolerantly(info, facts):
    body = f'{{"error_code":"92020000","data":{{"license_code_info":{info}}}}}'.encode()

    assert answers.parse_activated(body) == CodeFacts(**facts)


def test_a_batch_answer_is_read_by_code():
    body = msgspec.json.encode(
        {
            "error_code": "92020000",
            "data": [{"license_code": "P1", "status": "ALIVE"}, {"license_code": "P9", "status": "ALIVE"}, {"status": "ALIVE"}],
        }
    )  # fmt: skip

    assert list(answers.parse_codes(body, ["P1", "P2"])) == ["P1"]


@pytest.mark.parametrize(
    ("data", "failed"),
    [
        (None, set()),
        ({}, set()),
        ([], set()),
        ({"check_fail_list": ["P1", 7, None]}, {"P1"}),
        ({"check_fail_license": [{"license": "P1", "reason": "x"}, {"license_code": "P2"}, {}]}, {"P1", "P2"}),
        ({"check_fail_list": "P1", "other": ["P3"]}, set()),
    ],
)
def test_a_usage_answer_names_what_failed(data, failed):
    assert answers.parse_usage_report(msgspec.json.encode({"error_code": "92020000", "data": data})) == failed


@settings(max_examples=60)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text() | st.sampled_from(["error_code", "data", "status", "license_code_info", "check_fail_list", "license"]), x)), st.booleans())  # fmt: skip
def test_no_answer_raises_anything_else(document, success):
    if success:
        document = {"error_code": "92020000", "data": document}
    body = msgspec.json.encode(document)
    for parse in (
        answers.parse_activated,
        answers.parse_code,
        lambda body: answers.parse_codes(body, ["P"]),
        answers.parse_done,
        answers.parse_usage_report,
        lambda body: answers.refuses_signature(401, body),
    ):
        try:
            parse(body)
        except (MarketplaceRefusal, MalformedAnswer):
            continue
