"""Steps of alerts: raised, lowered, repeated, cleared, and told neither too often nor too late."""

from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from licensesvc.domain.alerts import REPEAT_EVERY, Alert, Event, Step, follow, heard, period_of
from licensesvc.domain.delisting import RULES, Gauge, Level, Reading
from licensesvc.domain.instants import DAY, HOUR, MINUTE

NOW = 1_795_000_000_000
SHANGHAI = ZoneInfo("Asia/Shanghai")
GAUGE = Gauge.RETRY_WINDOW
QUIET = RULES[GAUGE].quiet
OK, WARN, CRITICAL = Level.OK, Level.WARN, Level.CRITICAL


class World:
    """The alerts of one gauge as a database keeps them, and what was told."""

    def __init__(self, gauge: Gauge = GAUGE) -> None:
        self.gauge = gauge
        self.alerts: dict[str, Alert] = {}
        self.steps: list[tuple[int, Step]] = []

    def look(self, level: Level, now: int, incident: int = 0) -> list[Step]:
        period = period_of(self.gauge, now, SHANGHAI)
        known = [alert for alert in self.alerts.values() if alert.cleared_at is None or alert.period == period]
        reading = Reading(gauge=self.gauge, value=1, level=level, incident=incident)
        steps = follow(reading, period, known, now)
        for step in steps:
            assert step.before is None or self.alerts[step.before.period] == step.before
            assert step.before is not None or step.after.period not in self.alerts
            self.alerts[step.after.period] = step.after
            self.steps.append((now, step))
        assert len([alert for alert in self.alerts.values() if alert.cleared_at is None]) <= 1
        return steps

    @property
    def told(self) -> list[tuple[Event, Level]]:
        return [(step.event, step.after.level) for _, step in self.steps if step.told]


def run(*looks: tuple[Level, int], gauge: Gauge = GAUGE) -> list[tuple[Event, Level]]:
    world = World(gauge)
    for level, elapsed in looks:
        world.look(level, NOW + elapsed)
    return world.told


RAISED, CLEARED, REPEATED = Event.RAISED, Event.CLEARED, Event.REPEATED


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ([(OK, 0)], []),
        ([(WARN, 0), (WARN, MINUTE), (WARN, DAY)], [(RAISED, WARN)]),
        ([(WARN, 0), (CRITICAL, MINUTE)], [(RAISED, WARN), (RAISED, CRITICAL)]),
        ([(CRITICAL, 0), (WARN, MINUTE)], [(RAISED, CRITICAL)]),
        ([(CRITICAL, 0), (WARN, MINUTE), (OK, 2 * MINUTE)], [(RAISED, CRITICAL), (CLEARED, OK)]),
        ([(WARN, 0), (OK, 1), (OK, 2)], [(RAISED, WARN), (CLEARED, OK)]),
        # flapping is quiet, and so is the end of what was not told
        ([(WARN, 0), (OK, 1), (WARN, 2), (OK, 3), (WARN, 4)], [(RAISED, WARN), (CLEARED, OK)]),
        # but what comes back for longer is told
        ([(WARN, 0), (OK, 1), (WARN, 2), (WARN, QUIET)], [(RAISED, WARN), (CLEARED, OK), (RAISED, WARN)]),
        ([(WARN, 0), (OK, 1), (WARN, QUIET)], [(RAISED, WARN), (CLEARED, OK), (RAISED, WARN)]),
        # and what comes back worse at once
        ([(WARN, 0), (OK, 1), (CRITICAL, 2)], [(RAISED, WARN), (CLEARED, OK), (RAISED, CRITICAL)]),
        ([(CRITICAL, 0), (CRITICAL, DAY - 1)], [(RAISED, CRITICAL)]),
        ([(CRITICAL, 0), (CRITICAL, DAY), (CRITICAL, DAY + 1)], [(RAISED, CRITICAL), (REPEATED, CRITICAL)]),
        ([(CRITICAL, 0), (CRITICAL, DAY), (CRITICAL, 2 * DAY)], [(RAISED, CRITICAL)] + [(REPEATED, CRITICAL)] * 2),
        # a clock that is set back and forth
        ([(CRITICAL, 0), (CRITICAL, -MINUTE), (CRITICAL, MINUTE), (CRITICAL, -HOUR)], [(RAISED, CRITICAL)]),
    ],
)
def test_what_is_told(looks, told):
    assert run(*looks) == told


def test_an_acknowledged_alert_is_not_repeated_until_it_grows_worse():
    world = World()
    world.look(WARN, NOW)
    (period,) = world.alerts
    for level, told in ((WARN, 1), (CRITICAL, 2), (CRITICAL, 2)):
        world.alerts[period] = msgspec.structs.replace(world.alerts[period], acknowledged_at=NOW)
        world.look(level, NOW + 2 * DAY)
        assert len(world.told) == told
    assert world.alerts[period].acknowledged_at == NOW  # acknowledged once more, at the new level


def test_a_further_incident_is_told_once_the_quiet_time_is_over():
    world = World()
    for elapsed, incident in ((0, 5), (1, 6), (QUIET - 1, 6), (QUIET, 6), (QUIET + 1, 6), (2 * QUIET + 1, 5)):
        world.look(CRITICAL, NOW + elapsed, incident)

    assert [now - NOW for now, step in world.steps if step.told] == [0, QUIET]


def test_a_further_incident_below_what_was_told_is_no_news():
    world = World()
    world.look(CRITICAL, NOW, 5)
    world.look(WARN, NOW + 2 * HOUR, 9)

    assert world.told == [(RAISED, CRITICAL)]


def test_failed_orders_begin_anew_with_the_month_and_days_do_not():
    month_end = 1_796_054_400_000  # 2026-11-30T16:00:00Z, the first of December in Shanghai
    world = World(Gauge.FAILED_ORDERS)
    world.look(WARN, month_end - 1)
    world.look(WARN, month_end)
    assert world.told == [(RAISED, WARN), (CLEARED, OK), (RAISED, WARN)]
    assert set(world.alerts) == {"2026-11", "2026-12"}

    world = World()
    world.look(WARN, month_end - 1)
    world.look(WARN, month_end)
    assert set(world.alerts) == {"2026-11-30"}
    assert len(world.told) == 1


@pytest.mark.parametrize(
    ("event", "level", "peak", "told", "least", "hears"),
    [
        (RAISED, WARN, WARN, True, WARN, True),
        (RAISED, WARN, WARN, True, CRITICAL, False),
        (RAISED, CRITICAL, CRITICAL, True, CRITICAL, True),
        (RAISED, CRITICAL, CRITICAL, False, WARN, False),
        (CLEARED, OK, CRITICAL, True, CRITICAL, True),
        (CLEARED, OK, WARN, True, CRITICAL, False),
        (CLEARED, OK, WARN, True, WARN, True),
        (REPEATED, CRITICAL, CRITICAL, True, CRITICAL, True),
    ],
)
def test_which_channel_hears(event, level, peak, told, least, hears):
    alert = Alert(
        period="p", level=level, told_level=level, told_peak=peak, told_at=NOW, incident=0, value=1, opened_at=NOW
    )

    assert heard(Step(event=event, before=None, after=alert, told=told), least) is hears


LOOKS = st.lists(
    st.tuples(
        st.sampled_from(list(Level)),
        st.integers(min_value=0, max_value=3 * HOUR),
        st.integers(min_value=0, max_value=2),
    ),
    min_size=1,
    max_size=40,
)


@given(LOOKS, st.sampled_from(list(Gauge)))
@example([(WARN, 0, 0), (OK, 1, 0), (CRITICAL, 1, 0), (OK, 1, 0), (WARN, 1, 0)], GAUGE)
def test_whatever_happens_nobody_is_told_too_often_or_believes_too_little_for_long(looks, gauge):
    world = World(gauge)
    now, believed = NOW, OK
    quiet = RULES[gauge].quiet
    raised_at: list[tuple[int, Level, str]] = []
    too_low_since = None
    for level, elapsed, incident in looks:
        now += elapsed
        for step in world.look(level, now, incident):
            if not step.told:
                continue
            if step.event is CLEARED:
                assert believed is not OK  # an end follows a beginning
            if step.event is RAISED:
                # The same level twice within the quiet time only in another period.
                assert not [
                    was
                    for was, at_level, period in raised_at
                    if now - was < quiet and at_level.rank >= step.after.level.rank and period == step.after.period
                ]
                raised_at.append((now, step.after.level, step.after.period))
            believed = step.after.level
        if level.rank > believed.rank:
            too_low_since = now if too_low_since is None else too_low_since
            assert now - too_low_since < quiet
        else:
            too_low_since = None
        assert believed is not OK or level is OK or too_low_since is not None
        assert level is not OK or believed is OK


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from(list(Level)), st.integers(-40 * DAY, 40 * DAY)), max_size=20),
    st.sampled_from(list(Gauge)),
)
def test_a_clock_that_jumps_never_makes_one_look_after_another_chatter(looks, gauge):
    """However the clock is set: looking again at the same time tells nothing more, and each look tells two things at most."""
    world = World(gauge)
    for level, offset in looks:
        assert len(world.look(level, NOW + offset)) <= 2
        assert [step for step in world.look(level, NOW + offset) if step.told] == []


def test_the_control_a_rule_that_forgets_what_it_told_is_caught():
    """A planted fault in the world of these tests: what was told is lost, so everything is told again."""
    world = World()
    for minute in range(3):
        world.look(WARN, NOW + minute * MINUTE)
        world.alerts.clear()

    assert world.told == [(RAISED, WARN)] * 3


def test_a_day_is_when_a_critical_alert_is_repeated():
    assert REPEAT_EVERY == DAY
