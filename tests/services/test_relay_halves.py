"""A refused batch is halved until the bad code stands alone: every good one is done, in few calls."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.domain.relay import Heard
from licensesvc.services.relay.relay_calls import Outcome, by_halves


class Marketplace:
    """Does a batch all or none, and counts the calls."""

    def __init__(self, bad, *, away_after=None):
        self.bad = bad
        self.done = []
        self.calls = 0
        self.away_after = away_after

    async def together(self, codes):
        self.calls += 1
        if self.away_after is not None and self.calls > self.away_after:
            return Outcome(heard=Heard.TROUBLE)
        if self.bad & set(codes):
            return Outcome(heard=Heard.BAD_LIST)
        self.done += codes
        return Outcome(heard=Heard.SUCCESS)

    async def alone(self, code):
        self.calls += 1
        return Outcome(heard=Heard.UNKNOWN)


async def halved(codes, marketplace):
    return await by_halves(codes, marketplace.together, marketplace.alone)


@settings(max_examples=150)
@given(st.integers(1, 100).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
async def test_all_good_codes_are_done_in_few_calls(case):
    size, places = case
    codes = [f"PL{number}" for number in range(size)]
    bad = {codes[place] for place in places}
    marketplace = Marketplace(bad)

    outcomes = await halved(codes, marketplace)

    assert outcomes.keys() == set(codes)
    assert {code for code, outcome in outcomes.items() if outcome.heard is Heard.SUCCESS} == set(codes) - bad
    assert all(outcomes[code].heard is Heard.UNKNOWN for code in bad)
    assert sorted(marketplace.done) == sorted(set(codes) - bad), "each once"
    assert marketplace.calls <= 2 * len(bad) * (math.log2(size) + 1.5) + 1


async def test_nothing_costs_nothing():
    marketplace = Marketplace(set())

    assert await halved([], marketplace) == {}
    assert marketplace.calls == 0


async def test_a_marketplace_that_goes_away_on_the_way_leaves_the_rest_for_later():
    marketplace = Marketplace({"PL0"}, away_after=3)

    outcomes = await halved([f"PL{number}" for number in range(8)], marketplace)

    heard = {outcome.heard for outcome in outcomes.values()}
    assert heard == {Heard.SUCCESS, Heard.TROUBLE}
    assert {code for code, outcome in outcomes.items() if outcome.heard is Heard.SUCCESS} == set(marketplace.done)
    assert marketplace.calls < 8


async def test_codes_that_a_batch_answer_leaves_out_are_asked_for_singly():
    async def together(codes):
        return {codes[0]: Outcome(heard=Heard.SUCCESS)}

    marketplace = Marketplace(set())
    outcomes = await by_halves(["PL1", "PL2", "PL3"], together, marketplace.alone)

    assert [outcome.heard for outcome in outcomes.values()] == [Heard.SUCCESS, Heard.UNKNOWN, Heard.UNKNOWN]
    assert marketplace.calls == 2
