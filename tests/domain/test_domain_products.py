"""Connections, products and policies: what they refuse and what follows from them."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.domain.connection import MARKETPLACE_HOSTS, Connection, Site
from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import LAST_INSTANT, PeriodUnit, add_period, zone_of
from licensesvc.domain.policy import MAX_PERIOD, MAX_SEATS, Binding, LicenseField, Period, Policy, Term, seats_for
from licensesvc.domain.product import DeliveryKind, Product, valid_code_prefix

CONNECTION = Connection(id=1, public_id="con_1", name="shop", site=Site.CN)
POLICY = Policy(id=1, public_id="pol_1", name="standard", term=Term.ORDER)
PRODUCT = Product(
    id=1,
    public_id="prd_1",
    connection_id=1,
    policy_id=1,
    name="studio",
    marketplace_product_id="OFFI0001",
    delivery_kind=DeliveryKind.LICENSE_1_0,
)
YEAR = Period(unit=PeriodUnit.YEAR, count=1)


def test_hosts():
    # §1.1
    assert MARKETPLACE_HOSTS == {
        "cn": ("mkt.myhuaweicloud.com", "mkt.myhuaweicloud.cn"),
        "intl": ("mkt-intl.myhuaweicloud.com",),
        "eu": ("mkt.myhuaweicloud.eu",),
    }


def test_zones_of_a_connection():
    assert CONNECTION.wire is zone_of("UTC")
    assert CONNECTION.calendar is zone_of("Asia/Shanghai")


@pytest.mark.parametrize("field", ["wire_zone", "calendar_zone"])
def test_a_connection_refuses_unknown_zones(field):
    with pytest.raises(InvalidParameter):
        msgspec.structs.replace(CONNECTION, **{field: "Mars/Olympus"})


@pytest.mark.parametrize(
    ("kind", "we_make_the_code", "has_code"),
    [
        (DeliveryKind.LICENSE_2_0, False, True),
        (DeliveryKind.LICENSE_1_0, True, True),
        (DeliveryKind.LICENSE_1_0_SYSTEM_CODE, True, True),
        (DeliveryKind.LICENSE_1_0_HARDWARE_CODE, True, True),
        (DeliveryKind.ONLINE_LICENSE, True, True),
        (DeliveryKind.GENERAL, True, True),
        (DeliveryKind.SOFTWARE_PACKAGE, True, True),
        (DeliveryKind.SAAS_HUMAN, False, False),
        (DeliveryKind.HARDWARE, False, False),
        (DeliveryKind.AI_ASSET, False, False),
    ],
)
def test_delivery_kinds(kind, we_make_the_code, has_code):
    assert (kind.seller_makes_code, kind.has_code) == (we_make_the_code, has_code)


@pytest.mark.parametrize("prefix", ["LS", "A1", "STUDIO26", "P1", "LPL", "L1"])
def test_good_code_prefixes(prefix):
    assert valid_code_prefix(prefix)
    assert msgspec.structs.replace(PRODUCT, code_prefix=prefix).code_prefix == prefix


@pytest.mark.parametrize("prefix", ["", "L", "ls", "1S", "PL", "PLUS", "STUDIO267", "L-S", "LÄ", "LS\n", "Lſ"])
def test_bad_code_prefixes(prefix):
    assert not valid_code_prefix(prefix)
    with pytest.raises(InvalidParameter):
        msgspec.structs.replace(PRODUCT, code_prefix=prefix)


def test_defaults():
    assert (POLICY.offline_days, POLICY.binding, POLICY.license_field) == (7, Binding.NONE, LicenseField.CODE)
    assert (PRODUCT.sku_code, PRODUCT.code_prefix) == ("", "LS")


GOOD = [
    {"term": Term.PERPETUAL},
    {"term": Term.PERIOD, "period": YEAR},
    {"seats": 1},
    {"seats": MAX_SEATS},
    {"binding": Binding.NODE_LOCKED},
    {"binding": Binding.FLOATING, "lease_seconds": 60},
    {"entitlements": ("export", "api:v2", "a.b-c_d")},
    {"offline_days": 366, "grace_days": 365, "freeze_days": 0},
]
BAD = [
    {"name": ""},
    {"name": "x" * 101},
    {"term": Term.PERIOD},
    {"term": Term.PERPETUAL, "period": YEAR},
    {"term": Term.ORDER, "period": YEAR},
    {"seats": 0},
    {"seats": MAX_SEATS + 1},
    {"binding": Binding.FLOATING},
    {"binding": Binding.NODE_LOCKED, "lease_seconds": 60},
    {"binding": Binding.FLOATING, "lease_seconds": 59},
    {"binding": Binding.FLOATING, "lease_seconds": 30 * 86_400 + 1},
    {"grace_days": -1},
    {"grace_days": 366},
    {"freeze_days": -1},
    {"freeze_days": 366},
    {"offline_days": 0},
    {"offline_days": 367},
    {"entitlements": ("export", "export")},
    {"entitlements": ("",)},
    {"entitlements": ("Export",)},
    {"entitlements": ("-x",)},
    {"entitlements": ("x" * 65,)},
    {"entitlements": tuple(f"e{number}" for number in range(101))},
]


@pytest.mark.parametrize("change", GOOD, ids=repr)
def test_good_policies(change):
    policy = msgspec.structs.replace(POLICY, **change)
    assert {name: getattr(policy, name) for name in change} == change


@pytest.mark.parametrize("change", BAD, ids=lambda change: repr(change)[:60])
def test_bad_policies(change):
    with pytest.raises(InvalidParameter):
        msgspec.structs.replace(POLICY, **change)


@pytest.mark.parametrize("unit", PeriodUnit)
def test_periods_are_bounded_so_that_every_activation_has_an_end(unit):
    longest = Period(unit=unit, count=MAX_PERIOD[unit])
    assert add_period(4_102_444_800_000, longest.unit, longest.count, zone_of("Asia/Shanghai")) < LAST_INSTANT
    for count in (0, -1, MAX_PERIOD[unit] + 1):
        with pytest.raises(InvalidParameter):
            Period(unit=unit, count=count)


@pytest.mark.parametrize(
    ("seats", "amount", "expected"),
    [
        (None, None, 1),
        (None, 0, 1),
        (None, -3, 1),
        (None, 1, 1),
        (None, 50, 50),
        (None, MAX_SEATS, MAX_SEATS),
        (None, 9_999_999, MAX_SEATS),
        (5, None, 5),
        (5, 50, 5),
    ],
)
def test_seats(seats, amount, expected):
    assert seats_for(msgspec.structs.replace(POLICY, seats=seats), amount) == expected


@given(st.none() | st.integers(1, MAX_SEATS), st.none() | st.integers())
def test_seats_are_always_within_bounds(seats, amount):
    assert 1 <= seats_for(msgspec.structs.replace(POLICY, seats=seats), amount) <= MAX_SEATS
