"""What calls of the marketplace make of a license (spec §§2.1, 2.2, 5.2): every state, every order of arrival."""

from itertools import permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from licensesvc.domain.instants import DAY, zone_of
from licensesvc.domain.license import ExpirySource, ExpirySources, LicenseState, LicenseView
from licensesvc.domain.marketplace_calls import (
    Effect,
    Refresh,
    Scene,
    freeze,
    may_be_learned,
    minute_in_order_id,
    refresh,
    release,
    supersedes,
    unfreeze,
)

NOW = 1_795_000_000_000
ZONE = zone_of("Asia/Shanghai")
FINAL = {LicenseState.REVOKED, LicenseState.RELEASED}
STATES = list(LicenseState)
ENDS = [
    (NOW - DAY, ExpirySource.SERVICE_PERIOD),
    (NOW, ExpirySource.ORDER_QUERY),
    (NOW + DAY, ExpirySource.SERVICE_PERIOD),
    (NOW + DAY, ExpirySource.REFRESH),
    (NOW + DAY, ExpirySource.OPERATOR),
    (NOW + DAY, ExpirySource.ESTIMATE),
    (NOW - DAY, ExpirySource.ESTIMATE),
    (None, ExpirySource.PERPETUAL),
]


def license_view(state=LicenseState.ACTIVE, *, end=(NOW + DAY, ExpirySource.SERVICE_PERIOD), **changes):
    active = state is not LicenseState.ISSUED
    return LicenseView(
        id=1,
        public_id="lic_1",
        connection_id=1,
        product_id=1,
        state=state,
        version=1,
        order_time=NOW - 365 * DAY,
        activated_at=NOW - 365 * DAY if active else None,
        service_start=NOW - 365 * DAY if active else None,
        expires_at=end[0],
        expiry_source=end[1],
        seats=1,
        seats_taken=0,
        **changes,
    )


def order(order_id="CS2611010000AAAAA", ends=NOW + 400 * DAY, scene=Scene.RENEWAL, **more):
    return Refresh(order_id=order_id, order_line_id="1", scene=scene, expires_at=ends, **more)


def refreshed(view, new, *, current=None, repeated=False, sources=None):
    return refresh(view, sources or ExpirySources(), new, current=current, repeated=repeated, now=NOW, calendar=ZONE)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("end", ENDS, ids=str)
@pytest.mark.parametrize("frozen_at", [None, NOW - 1])
@pytest.mark.parametrize("end_known", [True, False])
def test_a_freeze_counts_where_the_end_has_passed_or_nobody_knows_it(state, end, frozen_at, end_known):
    view = license_view(state, end=end, frozen_at=frozen_at)
    ahead = end_known and end[1] is not ExpirySource.ESTIMATE and (end[0] is None or end[0] > NOW)

    outcome = freeze(view, ExpirySources(), now=NOW, end_known=end_known)

    if state in FINAL:
        assert (outcome.effect, outcome.view) == (Effect.OVER, view)
    elif frozen_at is not None:
        assert (outcome.effect, outcome.view) == (Effect.REPEATED, view)
    elif ahead:
        assert outcome.effect is Effect.UNHEEDED
        assert outcome.note
        assert outcome.view == replace(view, freeze_unheeded_at=NOW)
        again = freeze(outcome.view, ExpirySources(), now=NOW + 1, end_known=end_known)
        assert (again.effect, again.view, again.note) == (Effect.REPEATED, outcome.view, outcome.note)
    else:
        assert (outcome.effect, outcome.view) == (Effect.APPLIED, replace(view, frozen_at=NOW))


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(("frozen_at", "unheeded_at"), [(None, None), (NOW, None), (None, NOW)])
def test_an_unfreeze_ends_whatever_freeze_there_is(state, frozen_at, unheeded_at):
    view = license_view(state, frozen_at=frozen_at, freeze_unheeded_at=unheeded_at)

    outcome = unfreeze(view, ExpirySources())

    if state in FINAL:
        assert (outcome.effect, outcome.view) == (Effect.OVER, view)
    else:
        assert outcome.view == replace(view, frozen_at=None, freeze_unheeded_at=None)
        assert outcome.effect is (Effect.APPLIED if view != outcome.view else Effect.REPEATED)


@pytest.mark.parametrize("state", STATES)
def test_a_release_ends_every_state_once(state):
    view = license_view(state)

    outcome = release(view, ExpirySources())

    assert outcome.view.state is LicenseState.RELEASED
    assert outcome.effect is (Effect.REPEATED if state is LicenseState.RELEASED else Effect.APPLIED)
    assert release(outcome.view, ExpirySources()).effect is Effect.REPEATED


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("ends", [NOW - DAY, NOW, NOW + 1])
@pytest.mark.parametrize(("frozen_at", "unheeded_at"), [(None, None), (NOW - 5, None), (None, NOW - 5)])
def test_a_refresh_moves_the_end_and_what_hangs_on_it(state, ends, frozen_at, unheeded_at):
    view = license_view(state, frozen_at=frozen_at, freeze_unheeded_at=unheeded_at)

    outcome = refreshed(view, order(ends=ends))

    if state in FINAL:
        assert (outcome.effect, outcome.view, outcome.sources) == (Effect.OVER, view, ExpirySources())
        assert state in outcome.note
        return
    assert outcome.effect is Effect.APPLIED
    assert (outcome.view.expires_at, outcome.view.expiry_source) == (ends, ExpirySource.REFRESH)
    assert outcome.sources.refresh == ends
    assert outcome.view.freeze_unheeded_at is None
    assert outcome.view.state is state
    if ends > NOW:
        assert outcome.view.frozen_at is None
    else:
        assert outcome.view.frozen_at == (frozen_at or (NOW if unheeded_at else None))


def test_a_repeat_changes_nothing_whatever_it_says():
    view = license_view()

    outcome = refreshed(view, order(ends=NOW - 1), repeated=True)

    assert (outcome.effect, outcome.view, outcome.note) == (Effect.REPEATED, view, None)


def test_the_operator_outranks_a_refresh_which_is_kept_for_later():
    view = license_view(end=(NOW + 9 * DAY, ExpirySource.OPERATOR))

    outcome = refreshed(view, order(), sources=ExpirySources(operator=NOW + 9 * DAY))

    assert (outcome.effect, outcome.view.expires_at) == (Effect.APPLIED, NOW + 9 * DAY)
    assert outcome.sources.refresh == NOW + 400 * DAY
    assert "by hand" in outcome.note


def test_an_older_order_changes_nothing_and_says_so():
    outcome = refreshed(license_view(), order("CS2611010000AAAAA"), current=order("CS2611020000AAAAA"))

    assert (outcome.effect, outcome.view) == (Effect.OLDER, license_view())
    assert "newer order" in outcome.note


RENEWAL, REFUND = Scene.RENEWAL, Scene.UNSUBSCRIBE_RENEWAL_PERIOD


@pytest.mark.parametrize(
    ("new", "current", "newer"),
    [
        (order(), None, True),
        # the times of the orders win over everything
        (order("CS2601010000A", placed_at=2), order("CS2612010000A", placed_at=1), True),
        (order("CS2612010000A", placed_at=1), order("CS2601010000A", placed_at=2), False),
        # one known time says nothing
        (order("CS2601010000A", placed_at=2), order("CS2612010000A"), False),
        # the minute in the ids
        (order("CS2611180001A"), order("CS2611180000Z"), True),
        (order("CS2611180000Z"), order("CS2611180001A"), False),
        (order("CS2611180000A", ends=NOW - 9, scene=REFUND), order("CS2611170000A"), True),
        (order("CS2611170000A"), order("CS2611180000A", ends=NOW - 9, scene=REFUND), False),
        # the same minute: times, then scenes
        (order("CS2611180000A", placed_at=1), order("CS2611180000B", placed_at=2), False),
        (order("CS2611180000A", ends=5), order("CS2611180000B", ends=6), False),
        (order("CS2611180000A", ends=6), order("CS2611180000B", ends=5), True),
        # renewals lengthen, refunds shorten
        (order("a", ends=5), order("b", ends=6), False),
        (order("a", ends=6), order("b", ends=6), False),
        (order("a", ends=7), order("b", ends=6), True),
        (order("a", ends=5, scene=REFUND), order("b", ends=6, scene=REFUND), True),
        (order("a", ends=7, scene=REFUND), order("b", ends=6, scene=REFUND), False),
        # else the last one
        (order("a", ends=5), order("b", ends=6, scene=REFUND), True),
        (order("a", ends=7, scene=REFUND), order("b", ends=6), True),
        (order("a", ends=5, scene=None), order("b", ends=6, scene=None), True),
        (order("CS1906666666ABCDE", ends=5), order("CS2611180000B", ends=6), False),
    ],
)
def test_which_of_two_refreshes_is_the_newer(new, current, newer):
    assert supersedes(new, current) is newer


@given(
    st.lists(
        st.tuples(st.integers(1, 10**6), st.sampled_from(Scene), st.integers(1, 10**6)),
        min_size=1,
        max_size=5,
        unique_by=lambda told: told[0],
    )
)
@settings(max_examples=60, deadline=None)
def test_orders_whose_times_are_known_end_alike_in_every_order_of_arrival(told):
    orders = [order(f"o{at}", ends=ends, scene=scene, placed_at=at) for at, scene, ends in told]
    newest = max(told)

    for arriving in permutations(orders):
        current = None
        for new in arriving:
            current = new if supersedes(new, current) else current
        assert current.placed_at == newest[0]


@pytest.mark.parametrize(
    ("text", "minute"),
    [
        ("CS2211181819B4LVS", "2022-11-18 18:19:00"),
        ("CS2211181819", "2022-11-18 18:19:00"),
        ("CS1906666666ABCDE", None),
        ("CS2211182460B4LVS", None),
        ("CS2211311819B4LVS", None),
        ("CS1", None),
        ("cs2211181819B4LVS", None),
        ("2211181819B4LVS", None),
        ("CS2211181819-000001", None),
        ("CS２２11181819", None),
        ("", None),
    ],
)
def test_order_ids_of_the_documented_samples_carry_their_minute(text, minute):
    read = minute_in_order_id(text)
    assert (str(read) if read else None) == minute


@pytest.mark.parametrize(
    ("code", "may"),
    [
        ("PLTEST0001", True),
        ("PL" + "x" * 62, True),
        ("any-foreign-code_1", True),
        ("P" * 65, False),
        ("", False),
        ("PL 1", False),
        ("PL\n", False),
        ("PL中", False),
        ("LS-" + "-".join(["00000"] * 5), False),  # of the form of ours, rightly typed or not
        ("LS-" + "-".join(["0000A"] * 5), False),
    ],
)
def test_only_what_can_be_the_marketplaces_is_learned(code, may):
    assert may_be_learned(code) is may


def test_freeze_and_end_come_to_the_same_in_every_order():
    """FREEZE, UNFREEZE and the renewal of a license that has expired; and FREEZE with the refund of a renewal that reached ahead."""

    def play(view, steps):
        sources = ExpirySources()
        for step in steps:
            outcome = step(view, sources)
            view, sources = outcome.view, outcome.sources
        return view.frozen_at is not None, view.expires_at

    def frozen(view, sources):
        return freeze(view, sources, now=NOW, end_known=True)

    def renewed(view, sources):
        return refresh(view, sources, order(), current=None, repeated=False, now=NOW, calendar=ZONE)

    def refunded(view, sources):
        return refresh(
            view, sources, order(ends=NOW - DAY, scene=REFUND), current=None, repeated=False, now=NOW, calendar=ZONE
        )

    expired = license_view(end=(NOW - DAY, ExpirySource.SERVICE_PERIOD))
    late = {play(expired, steps) for steps in product([frozen, unfreeze, renewed], repeat=4) if renewed in steps}
    assert late == {(False, NOW + 400 * DAY)}
    running = license_view(end=(NOW + DAY, ExpirySource.REFRESH))
    assert {play(running, steps) for steps in permutations([frozen, refunded])} == {(True, NOW - DAY)}
