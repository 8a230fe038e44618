"""Orders: which ones open a line, and how what the sources say comes together."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.domain.errors import OrderConflict
from licensesvc.domain.instants import PeriodUnit
from licensesvc.domain.order import (
    OrderFacts,
    OrderType,
    default_line_id,
    issues_license,
    merge,
    open_line,
    opens_case,
)
from licensesvc.domain.policy import Period
from licensesvc.domain.product import DeliveryKind

ORDER = "CS2211181819B4LVS"
LINE = "CS2211181819B4LVS-000001"
RECEIVED = 1_700_000_000_000

TEXTS = st.none() | st.text(max_size=3)
NUMBERS = st.none() | st.integers(0, 9)
FACTS = st.builds(
    OrderFacts,
    order_id=st.just(ORDER),
    order_type=st.sampled_from(OrderType),
    line_id=st.sampled_from([None, LINE]),
    order_time=NUMBERS,
    marketplace_product_id=st.sampled_from([None, "OFFI0001"]),
    sku_code=TEXTS,
    charging_mode=TEXTS,
    period=st.none() | st.just(Period(unit=PeriodUnit.YEAR, count=1)),
    amount=NUMBERS,
    expiry_order_query=NUMBERS,
    expiry_estimate=NUMBERS,
    instance_id=TEXTS,
)


def test_default_line_id():
    assert default_line_id(ORDER) == LINE  # §1.6


@pytest.mark.parametrize(
    ("order_type", "opens"),
    [
        (OrderType.NEW, True),
        (OrderType.TRIAL, True),
        (OrderType.TRIAL_TO_FORMAL, False),
        (OrderType.UNSUBSCRIBE, False),
        (OrderType.RENEW, False),  # §6.1: renewals never create a supervision flow
        (OrderType.CHANGE, False),
    ],
)
def test_what_opens_a_case_and_issues(order_type, opens):
    assert opens_case(order_type) is opens
    for kind in DeliveryKind:
        assert issues_license(order_type, kind) is (opens and kind.seller_makes_code)


@given(FACTS)
def test_an_opened_line_says_what_the_facts_said(facts):
    line = open_line(facts, RECEIVED)
    assert line.line_id == LINE
    assert line.ordered_at == (RECEIVED if facts.order_time is None else facts.order_time)
    for name in set(facts.__struct_fields__) - {"line_id"}:
        assert getattr(line, name) == getattr(facts, name)


@given(FACTS, FACTS)
def test_merging_loses_nothing_and_fills_every_gap(first, later):
    known = open_line(first, RECEIVED)
    merged = merge(known, later)
    for name in later.__struct_fields__:
        before, said, after = getattr(known, name), getattr(later, name), getattr(merged, name)
        assert after == (said if before is None else before)
    assert merged.received_at == RECEIVED


@given(FACTS, FACTS, st.lists(st.booleans(), max_size=5))
def test_repeats_in_any_order_change_nothing(first, later, repeats):
    merged = merge(open_line(first, RECEIVED), later)
    again = merged
    for repeat_first in repeats:
        again = merge(again, first if repeat_first else later)
    assert again == merged


@pytest.mark.parametrize("placed", [RECEIVED - 60_000, RECEIVED + 60_000])
def test_the_stated_order_time_beats_the_receipt(placed):
    line = open_line(OrderFacts(order_id=ORDER, order_type=OrderType.NEW), RECEIVED)
    assert line.ordered_at == RECEIVED
    told = OrderFacts(order_id=ORDER, order_type=OrderType.NEW, order_time=placed)
    assert merge(line, told).ordered_at == placed


@pytest.mark.parametrize(
    "difference",
    [
        {"order_id": "CS2211181819OTHER"},
        {"line_id": f"{ORDER}-000002"},
        {"marketplace_product_id": "OFFI0002"},
    ],
)
def test_facts_of_another_line_or_product_are_a_conflict(difference):
    facts = OrderFacts(order_id=ORDER, order_type=OrderType.NEW, marketplace_product_id="OFFI0001")
    line = open_line(facts, RECEIVED)
    with pytest.raises(OrderConflict):
        merge(line, msgspec.structs.replace(facts, **difference))
