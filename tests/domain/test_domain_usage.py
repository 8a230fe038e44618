"""Days, peaks and the bound of a day (spec §1.5)."""

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.domain import usage
from licensesvc.domain.instants import DAY, HOUR
from licensesvc.domain.usage import DayUse, admitted, date_of, day_of, larger, merged, parse_date

SHANGHAI, UTC, KIRITIMATI = ZoneInfo("Asia/Shanghai"), ZoneInfo("UTC"), ZoneInfo("Pacific/Kiritimati")
MIDNIGHT = 20_765 * DAY
"""2026-11-08T00:00:00Z."""


@pytest.mark.parametrize(
    ("now", "zone", "day"),
    [
        (0, UTC, "1970-01-01"),
        (MIDNIGHT - 1, UTC, "2026-11-07"),
        (MIDNIGHT, UTC, "2026-11-08"),
        (MIDNIGHT - 8 * HOUR - 1, SHANGHAI, "2026-11-07"),
        (MIDNIGHT - 8 * HOUR, SHANGHAI, "2026-11-08"),
        (MIDNIGHT + 10 * HOUR, KIRITIMATI, "2026-11-09"),
    ],
)
def test_a_day_is_one_of_the_calendar(now, zone, day):
    assert date_of(day_of(now, zone)) == day


@given(st.integers(-700_000, 2_900_000))
def test_a_day_is_read_as_it_was_written(day):
    assert parse_date(date_of(day)) == day


@pytest.mark.parametrize(
    ("one", "other", "peak"), [(None, None, None), (3, None, 3), (None, 3, 3), (3, 4, 4), (4, 3, 4), (0, None, 0)]
)
def test_the_peak_of_a_day_counts(one, other, peak):
    assert larger(one, other) == peak


uses = st.lists(
    st.builds(
        DayUse,
        license_id=st.integers(1, 3),
        day=st.integers(1, 2),
        clients=st.frozensets(st.sampled_from("abcd")),
        active_num=st.none() | st.integers(0, 9),
    )
)


@given(uses)
def test_reports_put_together_say_the_same_in_any_order_and_twice(told):
    together = merged(told)

    assert together == merged([*reversed(told), *told])
    assert [(use.license_id, use.day) for use in together] == sorted({(use.license_id, use.day) for use in told})
    assert all(
        use.clients
        == frozenset().union(*(t.clients for t in told if (t.license_id, t.day) == (use.license_id, use.day)))
        for use in together
    )


@pytest.mark.parametrize(("counted", "taken"), [(0, "abc"), (1, "abc"), (2, "ab"), (3, "a"), (4, ""), (9, "")])
def test_a_day_counts_up_to_its_bound(monkeypatch, counted, taken):
    monkeypatch.setattr(usage, "MAX_CLIENTS_A_DAY", 4)

    assert admitted(counted, {"c", "a", "b"}) == list(taken)
