"""Changes by hand: every state and verb, what stays untouched, and where the end of a license goes."""

from itertools import product
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.domain import changes
from licensesvc.domain.changes import Timed
from licensesvc.domain.errors import (
    DomainError,
    IllegalLicenseState,
    IllegalTransition,
    InvalidParameter,
    LicenseNotActivated,
    SeatsInUse,
)
from licensesvc.domain.instants import DAY, PeriodUnit, add_period, parse_rfc3339
from licensesvc.domain.license import (
    ExpirySource,
    ExpirySources,
    LicenseState,
    LicenseStatus,
    LicenseView,
    effective_expiry,
    status_at,
)
from licensesvc.domain.policy import MAX_SEATS, Period

SHANGHAI = ZoneInfo("Asia/Shanghai")
NOW = parse_rfc3339("2027-06-15T00:00:00Z")
START = parse_rfc3339("2027-01-31T00:00:00Z")
YEAR = Period(unit=PeriodUnit.YEAR, count=1)
MONTH = Period(unit=PeriodUnit.MONTH, count=1)
ENDED = {LicenseState.REVOKED, LicenseState.RELEASED}


def a_view(state=LicenseState.ACTIVE, **changed):
    started = None if state is LicenseState.ISSUED else START
    fields = {
        "id": 1,
        "public_id": "lic_1",
        "connection_id": 1,
        "product_id": 1,
        "state": state,
        "version": 7,
        "order_time": START - DAY,
        "activated_at": started,
        "service_start": started,
        "expires_at": add_period(START, PeriodUnit.YEAR, 1, SHANGHAI),
        "expiry_source": ExpirySource.SERVICE_PERIOD,
        "seats": 5,
        "seats_taken": 3,
    }
    return LicenseView(**{**fields, **changed})


def timed(state=LicenseState.ACTIVE, *, sources=None, **changed):
    return Timed(view=a_view(state, **changed), sources=sources or ExpirySources(period=YEAR))


VERBS = {
    "suspend": lambda known: changes.suspend(known.view, NOW),
    "reinstate": lambda known: changes.reinstate(known.view),
    "revoke": lambda known: changes.revoke(known.view),
    "change_quantity": lambda known: changes.change_quantity(known.view, 9),
    "move_expiry": lambda known: changes.move_expiry(known, NOW + DAY, SHANGHAI).view,
    "renew": lambda known: changes.renew(known, MONTH, now=NOW, calendar=SHANGHAI).view,
}
REFUSED = {
    **{(verb, state): IllegalLicenseState for verb, state in product(VERBS, ENDED) if verb != "revoke"},
    ("revoke", LicenseState.RELEASED): IllegalTransition,
    ("renew", LicenseState.ISSUED): LicenseNotActivated,
}


@pytest.mark.parametrize(("verb", "state"), list(product(VERBS, LicenseState)))
def test_every_verb_in_every_state(verb, state):
    known = timed(state)
    if refused := REFUSED.get((verb, state)):
        with pytest.raises(refused):
            VERBS[verb](known)
        return
    VERBS[verb](known)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", LicenseState)
def test_a_verb_asked_for_twice_changes_nothing_the_second_time(verb, state):
    if (verb, state) in REFUSED or verb == "renew":
        return
    known = timed(state)
    once = VERBS[verb](known)
    assert VERBS[verb](Timed(view=once, sources=msgspec.structs.replace(known.sources, operator=once.expires_at)
                             if verb == "move_expiry" else known.sources)) == once  # fmt: skip


@pytest.mark.parametrize("verb", ["suspend", "reinstate", "revoke", "change_quantity", "move_expiry", "renew"])
def test_a_verb_touches_only_what_is_its_own(verb):
    own = {
        "suspend": {"suspended_at"},
        "reinstate": {"suspended_at"},
        "revoke": {"state"},
        "change_quantity": {"seats"},
        "move_expiry": {"expires_at", "expiry_source"},
        "renew": {"expires_at", "expiry_source"},
    }[verb]
    known = timed(suspended_at=START if verb == "reinstate" else None, frozen_at=START)
    changed = VERBS[verb](known)
    differing = {name for name in changed.__struct_fields__ if getattr(changed, name) != getattr(known.view, name)}
    assert differing == own


def test_a_suspended_license_is_not_alive_and_a_reinstated_one_is():
    suspended = changes.suspend(a_view(), NOW)
    assert status_at(suspended, NOW) is LicenseStatus.SUSPENDED
    assert status_at(changes.reinstate(suspended), NOW) is LicenseStatus.ALIVE


def test_the_first_suspension_keeps_its_time():
    assert changes.suspend(a_view(suspended_at=START), NOW).suspended_at == START


@pytest.mark.parametrize("quantity", [0, -1, MAX_SEATS + 1])
def test_a_quantity_outside_its_range_is_refused(quantity):
    with pytest.raises(InvalidParameter):
        changes.change_quantity(a_view(seats_taken=0), quantity)


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(0, 50))
def test_never_fewer_seats_than_are_taken(quantity, taken):
    view = a_view(seats=50, seats_taken=taken)
    if quantity < taken:
        with pytest.raises(SeatsInUse):
            changes.change_quantity(view, quantity)
    else:
        assert changes.change_quantity(view, quantity).seats == quantity


def test_the_operators_word_is_the_strongest_and_can_be_taken_back():
    known = timed(sources=ExpirySources(period=YEAR, refresh=NOW + 9 * DAY), expires_at=NOW + 9 * DAY,
                  expiry_source=ExpirySource.REFRESH)  # fmt: skip
    moved = changes.move_expiry(known, NOW + DAY, SHANGHAI)
    assert (moved.view.expires_at, moved.view.expiry_source) == (NOW + DAY, ExpirySource.OPERATOR)
    back = changes.move_expiry(moved, None, SHANGHAI)
    assert (back.view, back.sources) == (known.view, known.sources)


def test_a_perpetual_license_may_get_an_end_and_lose_it_again():
    known = timed(sources=ExpirySources(perpetual=True), expires_at=None, expiry_source=ExpirySource.PERPETUAL)
    moved = changes.move_expiry(known, NOW, SHANGHAI)
    assert status_at(moved.view, NOW) is LicenseStatus.EXPIRED
    assert changes.move_expiry(moved, None, SHANGHAI) == known


def test_the_last_word_about_the_end_cannot_be_taken_back():
    known = timed(sources=ExpirySources(operator=NOW), expires_at=NOW, expiry_source=ExpirySource.OPERATOR)
    with pytest.raises(InvalidParameter):
        changes.move_expiry(known, None, SHANGHAI)


def test_a_renewal_adds_to_the_end():
    known = timed()
    renewed = changes.renew(known, MONTH, now=NOW, calendar=SHANGHAI)
    assert renewed.view.expires_at == parse_rfc3339("2028-02-29T00:00:00Z")
    assert renewed.sources.operator == renewed.view.expires_at


def test_a_renewal_without_a_period_adds_the_licenses_own():
    known = timed()
    renewed = changes.renew(known, None, now=NOW, calendar=SHANGHAI)
    assert renewed.view.expires_at == parse_rfc3339("2029-01-31T00:00:00Z")


def test_a_license_that_has_ended_begins_anew_now():
    known = timed(expires_at=NOW - 400 * DAY)
    renewed = changes.renew(known, MONTH, now=NOW, calendar=SHANGHAI)
    assert renewed.view.expires_at == parse_rfc3339("2027-07-15T00:00:00Z")
    assert status_at(renewed.view, NOW) is LicenseStatus.ALIVE


@pytest.mark.parametrize(
    ("known", "refused"),
    [
        (timed(expires_at=None, expiry_source=ExpirySource.PERPETUAL), IllegalLicenseState),
        (timed(sources=ExpirySources(refresh=NOW), expiry_source=ExpirySource.REFRESH), InvalidParameter),
        (timed(expires_at=parse_rfc3339("9999-12-31T00:00:00Z")), InvalidParameter),
    ],
)
def test_a_renewal_that_cannot_be_is_refused(known, refused):
    with pytest.raises(refused):
        changes.renew(known, None, now=NOW, calendar=SHANGHAI)


def test_an_absolute_end_is_renewed_before_the_first_activation():
    known = timed(LicenseState.ISSUED, expires_at=NOW + DAY, expiry_source=ExpirySource.ORDER_QUERY)
    assert changes.renew(known, MONTH, now=NOW, calendar=SHANGHAI).view.expires_at > NOW + DAY


INSTANTS = st.none() | st.integers(0, NOW * 2)


@settings(deadline=None)
@given(
    st.builds(ExpirySources, operator=INSTANTS, refresh=INSTANTS, perpetual=st.booleans(),
              period=st.none() | st.just(YEAR), order_query=INSTANTS, estimate=INSTANTS),
    INSTANTS,
    st.sampled_from([LicenseState.ISSUED, LicenseState.ACTIVE]),
)  # fmt: skip
def test_the_end_is_always_what_the_ranked_sources_say(sources, at, state):
    view = a_view(state)
    try:
        moved = changes.move_expiry(Timed(view=view, sources=sources), at, SHANGHAI)
    except DomainError:
        return
    start = view.service_start or view.order_time
    ranked = effective_expiry(msgspec.structs.replace(sources, operator=at, service_start=start), SHANGHAI)
    assert (moved.view.expires_at, moved.view.expiry_source) == (ranked.at, ranked.source)
    assert ranked.at is not None or ranked.source is ExpirySource.PERPETUAL
