"""What counts as a difference between our record of an order and the marketplace's, and when a night begins."""

from zoneinfo import ZoneInfo

import pytest

from licensesvc.domain.instants import DAY, HOUR, MINUTE, parse_rfc3339
from licensesvc.domain.license import ExpirySource
from licensesvc.domain.order import OrderType
from licensesvc.domain.reconciliation import (
    SPREAD_MINUTES,
    Difference,
    FindingKind,
    OurLine,
    Repair,
    TheirLine,
    compare,
    night_of,
    repair_of,
)

SHANGHAI = ZoneInfo("Asia/Shanghai")
END = parse_rfc3339("2027-01-01T00:00:00Z")
NEW, TRIAL, UNSUBSCRIBE = OrderType.NEW, OrderType.TRIAL, OrderType.UNSUBSCRIBE


def ours(**changes):
    return OurLine(**{"line_id": "L1", "amount": 5, "told_expiry": END, "in_force": True, **changes})


def theirs(**changes):
    return TheirLine(**{"line_id": "L1", "amount": 5, "expires_at": END, **changes})


def kinds(found):
    return [difference.kind for difference in found]


def test_the_same_is_no_difference():
    assert compare(NEW, [ours()], NEW, [theirs()]) == []


@pytest.mark.parametrize(
    ("our_type", "our_lines", "their_type", "their_lines", "expected"),
    [
        (None, [], NEW, [theirs()], [FindingKind.UNKNOWN_HERE]),
        (NEW, [ours()], UNSUBSCRIBE, [theirs()], [FindingKind.CANCELLED]),
        (NEW, [ours(in_force=False)], UNSUBSCRIBE, [theirs()], []),
        (UNSUBSCRIBE, [ours(in_force=False)], UNSUBSCRIBE, [theirs()], []),
        (NEW, [ours()], TRIAL, [theirs()], [FindingKind.ORDER_TYPE]),
        (NEW, [ours()], NEW, [theirs(), theirs(line_id="L2")], [FindingKind.UNKNOWN_HERE]),
        (NEW, [ours()], NEW, [theirs(expires_at=END + DAY)], [FindingKind.EXPIRY]),
        (NEW, [ours()], NEW, [theirs(expires_at=None, amount=None)], []),
        (NEW, [ours(amount=None)], NEW, [theirs()], []),
        (NEW, [ours(amount=6)], NEW, [theirs()], [FindingKind.AMOUNT]),
        (NEW, [ours(amount=6, told_expiry=END - 1)], NEW, [theirs()], [FindingKind.EXPIRY, FindingKind.AMOUNT]),
    ],
)
def test_every_kind_of_difference(our_type, our_lines, their_type, their_lines, expected):
    assert kinds(compare(our_type, our_lines, their_type, their_lines)) == expected


@pytest.mark.parametrize(
    ("source", "different"),
    [(source, source is ExpirySource.ESTIMATE) for source in ExpirySource],
)
def test_without_an_earlier_word_of_order_query_only_an_estimate_is_held_against_it(source, different):
    line = ours(told_expiry=None, expires_at=END - DAY, expiry_source=source)

    assert (kinds(compare(NEW, [line], NEW, [theirs()])) == [FindingKind.EXPIRY]) is different


def test_a_difference_says_both_sides():
    [found] = compare(NEW, [ours()], NEW, [theirs(expires_at=END + HOUR)])

    assert found == Difference(
        kind=FindingKind.EXPIRY, line_id="L1", ours="2027-01-01T00:00:00.000Z", theirs="2027-01-01T01:00:00.000Z"
    )


@pytest.mark.parametrize(
    ("kind", "sides", "repair"),
    [
        (FindingKind.CANCELLED, ("NEW", "UNSUBSCRIBE"), Repair.RELEASE),
        (FindingKind.ORDER_TYPE, ("NEW", "TRIAL"), Repair.RECEIVE),
        (FindingKind.ORDER_TYPE, ("TRIAL", "NEW"), None),
        (FindingKind.EXPIRY, ("a", "b"), Repair.TAKE_EXPIRY),
        (FindingKind.AMOUNT, ("1", "2"), Repair.TAKE_AMOUNT),
        (FindingKind.UNKNOWN_HERE, (None, "NEW"), Repair.RECEIVE),
        (FindingKind.UNKNOWN_THERE, ("NEW", "MKT.0150"), None),
    ],
)
def test_each_kind_has_its_repair_or_none(kind, sides, repair):
    assert repair_of(kind, *sides) is repair


@pytest.mark.parametrize(
    ("at", "spread", "night"),
    [
        ("2026-11-25T19:29:59Z", 0, None),  # 03:29 in Shanghai
        ("2026-11-25T19:30:00Z", 0, "2026-11-26"),
        ("2026-11-25T19:30:00Z", 1, None),
        ("2026-11-25T19:31:00Z", 1, "2026-11-26"),
        ("2026-11-25T19:49:00Z", SPREAD_MINUTES - 1, "2026-11-26"),
        ("2026-11-25T19:30:00Z", SPREAD_MINUTES, "2026-11-26"),
        ("2026-11-26T15:59:59Z", 0, "2026-11-26"),
        ("2026-11-26T16:00:00Z", 0, None),
    ],
)
def test_a_night_begins_at_its_minute_in_the_calendar_of_the_connection(at, spread, night):
    assert night_of(parse_rfc3339(at), SHANGHAI, 210, spread) == night


def test_a_night_set_to_the_last_minute_begins_before_midnight():
    last = parse_rfc3339("2026-11-26T15:59:00Z")

    assert night_of(last, SHANGHAI, 24 * 60 - 1, SPREAD_MINUTES - 1) == "2026-11-26"
    assert night_of(last - MINUTE, SHANGHAI, 24 * 60 - 1, 0) is None
