"""The license: every state and event, the ranked expiry, the status row by row, the status on the wire."""

from itertools import product
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.domain.errors import IllegalTransition, LicenseNotActivated
from licensesvc.domain.instants import PeriodUnit, parse_rfc3339, parse_stamp, rfc3339
from licensesvc.domain.license import (
    PERPETUAL_WIRE_EXPIRY,
    ExpirySource,
    ExpirySources,
    LicenseEvent,
    LicenseState,
    LicenseStatus,
    LicenseView,
    effective_expiry,
    status_at,
    step,
    wire_status,
)
from licensesvc.domain.policy import Period

SHANGHAI = ZoneInfo("Asia/Shanghai")
NOW = 1_800_000_000_000
LEGAL = {
    (LicenseState.ISSUED, LicenseEvent.ACTIVATE): LicenseState.ACTIVE,
    (LicenseState.ISSUED, LicenseEvent.REVOKE): LicenseState.REVOKED,
    (LicenseState.ISSUED, LicenseEvent.RELEASE): LicenseState.RELEASED,
    (LicenseState.ACTIVE, LicenseEvent.REVOKE): LicenseState.REVOKED,
    (LicenseState.ACTIVE, LicenseEvent.RELEASE): LicenseState.RELEASED,
    (LicenseState.REVOKED, LicenseEvent.RELEASE): LicenseState.RELEASED,
}


@pytest.mark.parametrize(("state", "event"), list(product(LicenseState, LicenseEvent)))
def test_every_state_and_event(state, event):
    leads_to = LEGAL.get((state, event))
    if leads_to is not None:
        assert step(state, event) is leads_to
        return
    with pytest.raises(IllegalTransition) as refused:
        step(state, event)
    assert (refused.value.state, refused.value.event) == (state, event)


YEAR = Period(unit=PeriodUnit.YEAR, count=1)
START = parse_rfc3339("2027-02-28T16:30:00Z")  # March 1st in Shanghai
EVERYTHING = ExpirySources(
    operator=1, refresh=2, perpetual=True, service_start=START, period=YEAR, order_query=5, estimate=6
)
SILENT = {"operator": None, "refresh": None, "perpetual": False, "service_start": None, "order_query": None}


def test_expiry_sources_are_ranked():
    ranking = []
    sources = EVERYTHING
    for name, silent in SILENT.items():
        expiry = effective_expiry(sources, SHANGHAI)
        ranking.append((expiry.source, expiry.at))
        sources = msgspec.structs.replace(sources, **{name: silent})
    expiry = effective_expiry(sources, SHANGHAI)
    assert [*ranking, (expiry.source, expiry.at)] == [
        (ExpirySource.OPERATOR, 1),
        (ExpirySource.REFRESH, 2),
        (ExpirySource.PERPETUAL, None),
        (ExpirySource.SERVICE_PERIOD, parse_rfc3339("2028-02-29T16:30:00Z")),  # March 1st a year later
        (ExpirySource.ORDER_QUERY, 5),
        (ExpirySource.ESTIMATE, 6),
    ]
    assert [source for source, _ in ranking] + [expiry.source] == list(ExpirySource)


@pytest.mark.parametrize("half", [{"service_start": START}, {"period": YEAR}])
def test_half_a_service_period_says_nothing(half):
    assert effective_expiry(ExpirySources(**half, order_query=5), SHANGHAI).source is ExpirySource.ORDER_QUERY


def test_when_nobody_has_spoken_the_expiry_is_an_unknown_estimate():
    expiry = effective_expiry(ExpirySources(), SHANGHAI)
    assert (expiry.at, expiry.source) == (None, ExpirySource.ESTIMATE)


SAID = st.none() | st.integers(0, 10**13)
SOURCES = st.builds(
    ExpirySources,
    operator=SAID,
    refresh=SAID,
    perpetual=st.booleans(),
    service_start=SAID,
    period=st.none() | st.just(YEAR),
    order_query=SAID,
    estimate=SAID,
)
RANK = list(ExpirySource)


@given(SOURCES, SOURCES)
def test_another_voice_matters_only_if_it_is_stronger(sources, other):
    # Whoever speaks additionally, the source can only become stronger, and the same source says the same.
    joined = msgspec.structs.replace(
        sources,
        **{name: getattr(other, name) for name in SILENT if getattr(sources, name) == SILENT[name]},
    )
    before, after = effective_expiry(sources, SHANGHAI), effective_expiry(joined, SHANGHAI)
    assert RANK.index(after.source) <= RANK.index(before.source)
    assert after.source is not before.source or after == before or before.at is None


def view(state=LicenseState.ACTIVE, **fields):
    return LicenseView(
        **{
            "id": 1,
            "public_id": "lic_1",
            "connection_id": 1,
            "product_id": 1,
            "state": state,
            "version": 1,
            "order_time": 0,
            "expiry_source": ExpirySource.SERVICE_PERIOD,
            "seats": 1,
            "seats_taken": 0,
        }
        | fields
    )


HELD_UP = {"suspended_at": 1, "frozen_at": 1, "expires_at": 1}


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (view(LicenseState.RELEASED, **HELD_UP), LicenseStatus.RELEASED),
        (view(LicenseState.REVOKED, **HELD_UP), LicenseStatus.REVOKED),
        (view(LicenseState.ISSUED, **HELD_UP), LicenseStatus.NOT_ACTIVATED),
        (view(**HELD_UP), LicenseStatus.SUSPENDED),
        (view(frozen_at=1, expires_at=1), LicenseStatus.FROZEN),
        (view(expires_at=1), LicenseStatus.EXPIRED),
        (view(expires_at=NOW - 1), LicenseStatus.EXPIRED),
        (view(expires_at=NOW), LicenseStatus.EXPIRED),
        (view(expires_at=NOW + 1), LicenseStatus.ALIVE),
        (view(), LicenseStatus.ALIVE),
        (view(expiry_source=ExpirySource.PERPETUAL), LicenseStatus.ALIVE),
        (view(expires_at=1, expiry_source=ExpirySource.ESTIMATE), LicenseStatus.ALIVE),
        (view(expires_at=1, expiry_source=ExpirySource.ESTIMATE, settled_at=1), LicenseStatus.EXPIRED),
        (view(expires_at=1, expiry_source=ExpirySource.ORDER_QUERY), LicenseStatus.EXPIRED),
    ],
)
def test_status(row, status):
    assert status_at(row, NOW) is status


@given(st.integers(0, 10**13), st.integers(0, 10**13), st.integers(0, 10**13))
def test_without_new_facts_time_only_ever_expires(expires_at, one, other):
    row = view(expires_at=expires_at)
    earlier, later = sorted([one, other])
    assert status_at(row, earlier) is LicenseStatus.ALIVE or status_at(row, later) is LicenseStatus.EXPIRED


@pytest.mark.parametrize(
    ("status", "word"),
    [  # §5.2 [I]
        (LicenseStatus.ALIVE, "ALIVE"),
        (LicenseStatus.EXPIRED, "EXPIRED"),
        (LicenseStatus.FROZEN, "EXPIRED"),
        (LicenseStatus.SUSPENDED, "EXPIRED"),
        (LicenseStatus.REVOKED, "RELEASED"),
        (LicenseStatus.RELEASED, "RELEASED"),
    ],
)
def test_status_on_the_wire(status, word):
    assert wire_status(status) == word


def test_the_wire_has_no_word_for_a_license_that_is_not_activated():
    with pytest.raises(LicenseNotActivated):
        wire_status(LicenseStatus.NOT_ACTIVATED)


def test_the_perpetual_expiry_is_a_stamp():
    assert rfc3339(parse_stamp(PERPETUAL_WIRE_EXPIRY, ZoneInfo("UTC"))) == "2099-12-31T15:59:59.000Z"
