"""Retries and the settlement month: what is computed from instants alone."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.domain.instants import DAY, HOUR, MINUTE, SECOND, parse_rfc3339
from licensesvc.domain.retry import ORDER_QUERY, RetrySchedule
from licensesvc.domain.settlement import settlement_month

SCHEDULE = RetrySchedule(base=SECOND, factor=3, cap=MINUTE, window=HOUR)
FIRST = 1_800_000_000_000


@pytest.mark.parametrize(("attempts", "wait"), [(1, 1), (2, 3), (3, 9), (4, 27), (5, 60), (6, 60), (5_000, 60)])
def test_waits_grow_to_the_cap(attempts, wait):
    lowest = SCHEDULE.next_attempt(FIRST, FIRST, attempts, 0.0)
    highest = SCHEDULE.next_attempt(FIRST, FIRST, attempts, 0.999_999)
    assert lowest == FIRST + wait * SECOND // 2
    assert highest == FIRST + wait * SECOND - 1


def test_the_last_attempt_lies_inside_the_window():
    last = FIRST + HOUR - MINUTE // 2
    assert SCHEDULE.next_attempt(FIRST, last, 9, 0.0) == FIRST + HOUR
    assert SCHEDULE.next_attempt(FIRST, last + 1, 9, 0.0) is None


@given(st.floats(0, 1, exclude_max=True))
def test_order_queries_go_on_for_a_day_and_then_end(jitter):
    now, attempts = FIRST, 1
    while (following := ORDER_QUERY.next_attempt(FIRST, now, attempts, jitter)) is not None:
        assert now < following <= FIRST + DAY
        now, attempts = following, attempts + 1
    assert now > FIRST + DAY - ORDER_QUERY.cap
    assert 50 < attempts < 120


@pytest.mark.parametrize(
    ("completed", "month"),
    [
        ("2026-11-23T00:00:00Z", "2026-12"),
        ("2026-11-30T15:59:59.999Z", "2026-12"),
        ("2026-11-30T16:00:00Z", "2027-01"),  # December in Shanghai
        ("2026-12-31T15:59:59Z", "2027-01"),
    ],
)
def test_an_order_completed_in_one_month_is_billed_in_the_next(completed, month):
    # §6.7
    assert settlement_month(parse_rfc3339(completed), ZoneInfo("Asia/Shanghai")) == month
