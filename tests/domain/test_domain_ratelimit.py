"""GCRA on one number, and what it means for somebody who guesses license codes (reliability.md row 11)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.domain import licensecode
from licensesvc.domain.instants import DAY, HOUR, MINUTE, SECOND
from licensesvc.domain.ratelimit import MAX_DEBT, Limit, charged, overdrawn, refusal, wait
from licensesvc.settings import Settings

limits = st.builds(
    Limit,
    name=st.just("l"),
    count=st.integers(1, 2_000),
    window=st.sampled_from([SECOND, MINUTE, HOUR]),
    at_once=st.integers(1, 100),
)
steps = st.lists(st.integers(0, 20 * SECOND), min_size=1, max_size=80)
FIVE = Limit(name="five", count=5, window=MINUTE)


def test_a_burst_is_allowed_and_then_one_by_one():
    now, drained_at = 1_000_000, None
    for number in range(5):
        drained_at = charged(FIVE, drained_at, now)
        assert not overdrawn(FIVE, drained_at, now), number
    assert wait(FIVE, drained_at, now) == 12 * SECOND

    now += 12 * SECOND
    assert wait(FIVE, drained_at, now) == 0
    drained_at = charged(FIVE, drained_at, now)
    assert not overdrawn(FIVE, drained_at, now)
    assert wait(FIVE, drained_at, now) == 12 * SECOND
    assert overdrawn(FIVE, charged(FIVE, drained_at, now), now)


@given(limit=limits, gaps=steps)
def test_whoever_obeys_never_gets_more_than_the_burst_and_the_rate(limit, gaps):
    now, drained_at, admitted = 1_000_000, None, 0
    for gap in gaps:
        now += gap
        if drained_at is None or wait(limit, drained_at, now) == 0:
            drained_at = charged(limit, drained_at, now)
            assert not overdrawn(limit, drained_at, now)
            admitted += 1
    assert admitted <= limit.count + (now - 1_000_000) // limit.interval + 1


@given(limit=limits, events=st.integers(1, 10_000), pause=st.integers(0, DAY))
def test_a_debt_is_capped_so_nobody_waits_longer_than_two_windows_and_one_call(limit, events, pause):
    now, drained_at = 1_000_000, None
    longest = MAX_DEBT * limit.depth + (limit.at_once - 1) * limit.interval
    for _ in range(min(events, 5 * limit.count)):
        drained_at = charged(limit, drained_at, now, limit.at_once)
    assert wait(limit, drained_at, now) <= longest
    assert wait(limit, drained_at, now + longest) == 0
    # A clock that was set back by a year forgives as well.
    assert charged(limit, drained_at + 365 * DAY, now) <= now + longest


LISTS = Limit(name="lists", count=60, window=MINUTE, at_once=100)


def test_a_call_that_brings_many_events_is_answered_while_there_is_credit_for_one_and_pays_for_all():
    now, drained_at = 1_000_000, None
    for _ in range(59):
        drained_at = charged(LISTS, drained_at, now)
    drained_at = charged(LISTS, drained_at, now, 100)
    assert not overdrawn(LISTS, drained_at, now, 100)
    assert wait(LISTS, drained_at, now) == 100 * SECOND  # 159 events, 60 of them free at once, and one more

    assert overdrawn(LISTS, charged(LISTS, drained_at, now, 100), now, 100)


@given(gaps=steps)
def test_many_events_at_once_are_no_cheaper_than_one_by_one(gaps):
    now, drained_at, admitted = 1_000_000, None, 0
    for gap in gaps:
        now += 5 * gap
        if drained_at is None or wait(LISTS, drained_at, now) == 0:
            drained_at = charged(LISTS, drained_at, now, 100)
            admitted += 100
    assert admitted <= LISTS.count + 99 + (now - 1_000_000) // LISTS.interval + 1


@given(limit=limits, waited=st.integers(1, DAY))
def test_a_refusal_never_says_too_short_a_time(limit, waited):
    assert waited <= refusal(limit, waited).wait_s * SECOND < waited + 2 * SECOND


@pytest.mark.parametrize("count", [1, 7, 60, 1_000, 60_000, 1_000_000])
def test_the_burst_is_the_count_exactly(count):
    limit = Limit(name="l", count=count, window=MINUTE)
    assert limit.depth == limit.interval * count
    assert limit.interval >= 1


def test_guessing_a_code_is_hopeless():
    symbols = 24
    bits = symbols * math.log2(32)
    assert bits >= 115
    drawn = licensecode.generate("LS", bytes).replace("-", "").removeprefix("LS")
    assert len(drawn) == symbols + 1  # and one that checks

    live_codes, addresses = 10**6, 10**6
    guesses = (
        addresses * Settings().limit_unknown_codes * 60 * 24 * 366
    )  # a minute, each from its own address, for a year
    assert guesses * live_codes / 2**bits <= 1e-9
    # Even without any limit, at a rate that no server of ours answers, for a year.
    assert 10**6 * 60 * 60 * 24 * 366 * live_codes / 2**bits <= 1e-9
    # The control: eight symbols would not do.
    assert guesses * live_codes / 2 ** (8 * math.log2(32)) > 1e-9
