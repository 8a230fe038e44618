"""What software may do: decision tables row by row (spec §§1.3, 1.4, 5.2), and every decision total."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.domain.activation import (
    MAX_CLOCK_LEAD,
    ValidationCode,
    decide_activation,
    decide_heartbeat,
    decide_seat,
    validate,
)
from licensesvc.domain.errors import (
    IllegalLicenseState,
    InvalidParameter,
    LicenseNotActivated,
    LicenseNotFound,
    NoFreeSeat,
)
from licensesvc.domain.license import ExpirySource, LicenseState, LicenseStatus, LicenseView

ORDERED = 1_799_999_000_500  # half a second into its second
NOW = 1_800_000_000_250
PAST = NOW - 1


def view(state=LicenseState.ISSUED, **fields):
    return LicenseView(
        **{
            "id": 1,
            "public_id": "lic_1",
            "connection_id": 1,
            "product_id": 7,
            "state": state,
            "version": 1,
            "order_time": ORDERED,
            "expiry_source": ExpirySource.SERVICE_PERIOD,
            "seats": 2,
            "seats_taken": 0,
        }
        | fields
    )


ISSUED = view()
ACTIVE = view(LicenseState.ACTIVE)
EXPIRED = view(LicenseState.ACTIVE, expires_at=PAST)
FROZEN = view(LicenseState.ACTIVE, frozen_at=PAST)
SUSPENDED = view(LicenseState.ACTIVE, suspended_at=PAST)
REVOKED = view(LicenseState.REVOKED)
RELEASED = view(LicenseState.RELEASED)
ISSUED_FROZEN = view(frozen_at=PAST)
ISSUED_SUSPENDED = view(suspended_at=PAST)
ISSUED_FULL = view(seats_taken=2)
FULL = view(LicenseState.ACTIVE, seats_taken=2)


def activate(row, connection_id=1, product_id=7, real_effect_time=None):
    return decide_activation(
        row, connection_id=connection_id, product_id=product_id, now=NOW, real_effect_time=real_effect_time
    )


@pytest.mark.parametrize(
    ("stated", "start"),
    [
        (None, NOW),
        (ORDERED, ORDERED),
        (ORDERED // 1_000 * 1_000, ORDERED // 1_000 * 1_000),  # the very second of the order
        (NOW, NOW),
        (NOW + MAX_CLOCK_LEAD, NOW + MAX_CLOCK_LEAD),
    ],
)
def test_activation_starts_the_service(stated, start):
    decision = activate(ISSUED, real_effect_time=stated)
    assert (decision.activated_at, decision.service_start) == (NOW, start)


@pytest.mark.parametrize("stated", [0, ORDERED // 1_000 * 1_000 - 1, NOW + MAX_CLOCK_LEAD + 1])
def test_activation_refuses_an_impossible_start(stated):
    with pytest.raises(InvalidParameter):
        activate(ISSUED, real_effect_time=stated)


def test_activation_for_any_product_of_the_connection():
    assert activate(ISSUED, product_id=None).activated_at == NOW


@pytest.mark.parametrize(
    "request_of", [{"connection_id": 2}, {"product_id": 8}, {"connection_id": 2, "product_id": None}]
)
@pytest.mark.parametrize("row", [ISSUED, ACTIVE, RELEASED])
def test_a_foreign_license_is_unknown_whatever_its_state(row, request_of):
    with pytest.raises(LicenseNotFound):
        activate(row, **request_of, real_effect_time=0)


def test_an_unknown_license_cannot_be_activated():
    with pytest.raises(LicenseNotFound):
        activate(None)


@pytest.mark.parametrize(
    "row", [ACTIVE, EXPIRED, FROZEN, SUSPENDED, REVOKED, RELEASED, ISSUED_FROZEN, ISSUED_SUSPENDED]
)
@pytest.mark.parametrize("stated", [None, 0])
def test_activation_checks_the_state_before_the_time(row, stated):
    with pytest.raises(IllegalLicenseState):
        activate(row, real_effect_time=stated)


@pytest.mark.parametrize(
    ("row", "word"),
    [
        (ACTIVE, "ALIVE"),
        (FULL, "ALIVE"),
        (EXPIRED, "EXPIRED"),
        (FROZEN, "EXPIRED"),
        (SUSPENDED, "EXPIRED"),
        (REVOKED, "RELEASED"),
        (RELEASED, "RELEASED"),
    ],
)
def test_heartbeat(row, word):
    assert decide_heartbeat(row, connection_id=1, product_id=7, now=NOW) == word


@pytest.mark.parametrize(
    ("row", "connection_id", "product_id", "error"),
    [
        (None, 1, 7, LicenseNotFound),
        (ACTIVE, 2, 7, LicenseNotFound),
        (ACTIVE, 1, 8, LicenseNotFound),
        (ISSUED, 2, None, LicenseNotFound),
        (ISSUED, 1, None, LicenseNotActivated),
        (ISSUED_SUSPENDED, 1, 7, LicenseNotActivated),
    ],
)
def test_heartbeat_refuses(row, connection_id, product_id, error):
    with pytest.raises(error):
        decide_heartbeat(row, connection_id=connection_id, product_id=product_id, now=NOW)


@pytest.mark.parametrize(
    ("row", "already", "puts_into_service", "takes_seat"),
    [
        (ISSUED, False, True, True),
        (ISSUED, True, True, False),
        (ISSUED_FULL, True, True, False),
        (ACTIVE, False, False, True),
        (ACTIVE, True, False, False),
        (FULL, True, False, False),
        (view(LicenseState.ACTIVE, seats_taken=1), False, False, True),  # the last one
    ],
)
def test_seat(row, already, puts_into_service, takes_seat):
    decision = decide_seat(row, already=already, now=NOW)
    assert (decision.puts_into_service, decision.takes_seat) == (puts_into_service, takes_seat)


@pytest.mark.parametrize(
    ("row", "already", "error"),
    [
        (None, False, LicenseNotFound),
        (FULL, False, NoFreeSeat),
        (ISSUED_FULL, False, NoFreeSeat),
        (view(LicenseState.ACTIVE, seats_taken=3), False, NoFreeSeat),
        *[
            (row, already, IllegalLicenseState)
            for row in (EXPIRED, FROZEN, SUSPENDED, REVOKED, RELEASED, ISSUED_FROZEN, ISSUED_SUSPENDED)
            for already in (False, True)
        ],
        (view(LicenseState.REVOKED, seats_taken=2), False, IllegalLicenseState),  # the state is checked first
    ],
)
def test_seat_refuses(row, already, error):
    with pytest.raises(error):
        decide_seat(row, already=already, now=NOW)


@pytest.mark.parametrize(
    ("row", "given", "active", "code"),
    [
        (None, False, False, ValidationCode.NOT_FOUND),
        (None, True, True, ValidationCode.NOT_FOUND),
        (ISSUED, False, False, ValidationCode.NOT_ACTIVATED),
        (EXPIRED, True, True, ValidationCode.EXPIRED),
        (FROZEN, True, False, ValidationCode.FROZEN),
        (SUSPENDED, False, False, ValidationCode.SUSPENDED),
        (REVOKED, False, False, ValidationCode.REVOKED),
        (RELEASED, False, False, ValidationCode.RELEASED),
        (ACTIVE, True, False, ValidationCode.FINGERPRINT_NOT_ACTIVATED),
        (ACTIVE, True, True, ValidationCode.VALID),
        (ACTIVE, False, False, ValidationCode.VALID),
    ],
)
def test_validation(row, given, active, code):
    answer = validate(row, now=NOW, fingerprint_given=given, fingerprint_active=active)
    assert answer.code is code
    assert answer.valid is (code is ValidationCode.VALID)
    assert (answer.status is None) is (row is None)


def test_every_status_but_alive_has_its_validation_code():
    assert {ValidationCode(status) for status in LicenseStatus if status is not LicenseStatus.ALIVE} < set(
        ValidationCode
    )


INSTANTS = st.integers(0, 2 * NOW)
MAYBE = st.none() | INSTANTS
VIEWS = st.none() | st.builds(
    view,
    st.sampled_from(LicenseState),
    connection_id=st.sampled_from([1, 2]),
    product_id=st.sampled_from([7, 8]),
    order_time=INSTANTS,
    expires_at=MAYBE,
    expiry_source=st.sampled_from(ExpirySource),
    settled_at=MAYBE,
    frozen_at=MAYBE,
    suspended_at=MAYBE,
    seats=st.integers(1, 3),
    seats_taken=st.integers(0, 3),
)


@given(VIEWS, MAYBE)
def test_activation_is_total(row, stated):
    try:
        decision = activate(row, real_effect_time=stated)
    except (LicenseNotFound, IllegalLicenseState, InvalidParameter):
        return
    assert row.state is LicenseState.ISSUED
    assert decision.activated_at == NOW
    assert decision.service_start == (NOW if stated is None else stated)


@given(VIEWS, INSTANTS)
def test_heartbeat_is_total(row, now):
    try:
        word = decide_heartbeat(row, connection_id=1, product_id=7, now=now)
    except (LicenseNotFound, LicenseNotActivated):
        return
    assert (word == "ALIVE") is validate(row, now=now, fingerprint_given=False, fingerprint_active=False).valid


@given(VIEWS, st.booleans(), INSTANTS)
def test_seats_are_total_and_never_oversold(row, already, now):
    try:
        decision = decide_seat(row, already=already, now=now)
    except (LicenseNotFound, IllegalLicenseState, NoFreeSeat):
        return
    assert decision.takes_seat is not already
    assert already or row.seats_taken + 1 <= row.seats
    assert decision.puts_into_service is (row.state is LicenseState.ISSUED)


@given(VIEWS, st.booleans(), st.booleans(), INSTANTS)
def test_validation_is_total(row, given, active, now):
    answer = validate(row, now=now, fingerprint_given=given, fingerprint_active=active)
    assert answer.valid <= (answer.status is LicenseStatus.ALIVE)
