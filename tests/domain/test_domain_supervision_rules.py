"""Which flow an order follows, what a proof must consist of, and what is due when (spec §§6.3, 6.4, 6.6)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.domain.acceptance import (
    ANY_PROOF,
    MAX_DELIVERY_DAYS,
    NO_STANDARD,
    AcceptanceStandard,
    FormField,
    ProofKind,
    missing,
)
from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import DAY, HOUR, LAST_INSTANT, parse_rfc3339, to_datetime, zone_of
from licensesvc.domain.product import DeliveryKind
from licensesvc.domain.supervision import Actor, FlowName, Node, Refund
from licensesvc.domain.supervision_case import CaseState
from licensesvc.domain.supervision_deadlines import RULES, DueKind, Terms, deadlines, due_at
from licensesvc.domain.supervision_flows import flow_for

SHANGHAI = zone_of("Asia/Shanghai")
BERLIN = zone_of("Europe/Berlin")
FLOW = FlowName.SELLER_CODE

F = FlowName
K = DeliveryKind


@pytest.mark.parametrize(
    ("kind", "ordered", "flow", "reviewed"),
    [
        (K.LICENSE_2_0, "1970-01-01T00:00:00Z", F.LICENSE_2_0_BEFORE_2024_09, None),
        (K.LICENSE_2_0, "2024-09-13T15:59:59.999Z", F.LICENSE_2_0_BEFORE_2024_09, None),
        (K.LICENSE_2_0, "2024-09-13T16:00:00Z", F.LICENSE_2_0_2024_09, F.LICENSE_2_0_2024_09_REVIEWED),
        (K.LICENSE_2_0, "2025-04-24T15:59:59.999Z", F.LICENSE_2_0_2024_09, F.LICENSE_2_0_2024_09_REVIEWED),
        (K.LICENSE_2_0, "2025-04-24T16:00:00Z", F.LICENSE_2_0_2025_04, F.LICENSE_2_0_2025_04_REVIEWED),
        (K.LICENSE_2_0, "9999-12-31T23:59:59Z", F.LICENSE_2_0_2025_04, F.LICENSE_2_0_2025_04_REVIEWED),
    ],
)
def test_license_2_0_by_the_midnights_of_shanghai(kind, ordered, flow, reviewed):
    at = parse_rfc3339(ordered)
    assert flow_for(kind, at) is flow
    assert flow_for(kind, at, enablement_cloud=True) is (reviewed or flow)


@pytest.mark.parametrize(
    ("kind", "flow"),
    [
        (K.LICENSE_1_0, F.SELLER_CODE),
        (K.LICENSE_1_0_SYSTEM_CODE, F.LICENSE_1_0_BUYER_CODE),
        (K.LICENSE_1_0_HARDWARE_CODE, F.LICENSE_1_0_BUYER_CODE),
        (K.ONLINE_LICENSE, F.SELLER_CODE),
        (K.GENERAL, F.SELLER_DELIVERY),
        (K.SOFTWARE_PACKAGE, F.SOFTWARE_PACKAGE),
        (K.SAAS_HUMAN, F.SAAS_HUMAN),
        (K.HARDWARE, F.HARDWARE),
        (K.AI_ASSET, None),
    ],
)
def test_every_other_kind_has_one_flow_at_any_time(kind, flow):
    for at in (0, LAST_INSTANT):
        assert flow_for(kind, at) is flow_for(kind, at, enablement_cloud=True) is flow


def test_no_kind_is_forgotten():
    for kind in DeliveryKind:
        flow_for(kind, 0)


P, G = ProofKind, FormField
STANDARD = AcceptanceStandard(proofs=(P.REQUIREMENT, P.ACCEPTANCE), fields=(G.ENABLED_AT,))


@pytest.mark.parametrize(
    ("standard", "proofs", "fields", "needs_proof", "lacking"),
    [
        (STANDARD, [], [], True, ["requirement", "acceptance", "enabled_at"]),
        (STANDARD, [P.ACCEPTANCE], [], True, ["requirement", "enabled_at"]),
        (STANDARD, [P.REQUIREMENT, P.ACCEPTANCE, P.OTHER], [G.RESOURCE_ORDER], True, ["enabled_at"]),
        (STANDARD, [P.REQUIREMENT, P.ACCEPTANCE], [G.ENABLED_AT], True, []),
        (NO_STANDARD, [], [], True, [ANY_PROOF]),
        (NO_STANDARD, [P.OTHER], [], True, []),
        (NO_STANDARD, [], [], False, []),
        (STANDARD, [], [], False, ["requirement", "acceptance", "enabled_at"]),
        (AcceptanceStandard(fields=(G.RESOURCE_ORDER,)), [], [], True, [ANY_PROOF, "resource_order"]),
    ],
)
def test_what_is_missing_is_named_in_the_order_of_the_standard(standard, proofs, fields, needs_proof, lacking):
    assert missing(standard, proofs=proofs, fields=fields, needs_proof=needs_proof) == lacking


@pytest.mark.parametrize(
    "bad",
    [
        {"proofs": (P.OTHER, P.OTHER)},
        {"fields": (G.ENABLED_AT, G.ENABLED_AT)},
        {"delivery_days": 0},
        {"delivery_days": -1},
        {"delivery_days": MAX_DELIVERY_DAYS + 1},
    ],
)
def test_a_standard_that_cannot_be(bad):
    with pytest.raises(InvalidParameter):
        AcceptanceStandard(**bad)


def terms(zone=SHANGHAI, **more):
    return Terms(ordered_at=parse_rfc3339("2026-03-20T10:00:00Z"), calendar=zone, **more)


def at(node, entered="2026-03-20T10:00:00Z", **more):
    instants = {name: parse_rfc3339(value) for name, value in more.items() if name.endswith("_at")}
    return CaseState(node=node, entered_at=parse_rfc3339(entered), **{**more, **instants})


def when(state, given, kind, flow=FLOW):
    [due] = [due for due in deadlines(flow, state, given, 0) if due.kind is kind]
    return due


@pytest.mark.parametrize(
    ("state", "given", "kind", "due", "actor", "hard"),
    [
        # The last second of the third day after the one on which the work came to the seller, in Shanghai.
        (at(Node.DELIVERING), terms(delivery_days=3), DueKind.DELIVERY, "2026-03-23T15:59:59.999Z", Actor.SELLER, True),
        # 16:00Z is the next day in Shanghai already.
        (at(Node.DELIVERING, "2026-03-20T16:00:00Z"), terms(delivery_days=3), DueKind.DELIVERY, "2026-03-24T15:59:59.999Z", Actor.SELLER, True),
        # Berlin puts its clocks forward on 2026-03-29: the day has 23 hours, the end of the day stays midnight.
        (at(Node.DELIVERING, "2026-03-27T10:00:00Z"), terms(BERLIN, delivery_days=2), DueKind.DELIVERY, "2026-03-29T21:59:59.999Z", Actor.SELLER, True),
        (at(Node.DELIVERING, "2026-10-24T10:00:00Z"), terms(BERLIN, delivery_days=1), DueKind.DELIVERY, "2026-10-25T22:59:59.999Z", Actor.SELLER, True),
        # February and the leap year.
        (at(Node.DELIVERING, "2028-02-28T10:00:00Z"), terms(delivery_days=1), DueKind.DELIVERY, "2028-02-29T15:59:59.999Z", Actor.SELLER, True),
        (at(Node.DELIVERING, "2026-02-28T10:00:00Z"), terms(delivery_days=1), DueKind.DELIVERY, "2026-03-01T15:59:59.999Z", Actor.SELLER, True),
        (at(Node.ACCEPTED, accepted_at="2026-03-20T11:00:00Z"), terms(), DueKind.COMPLETION, "2026-03-20T14:00:00.000Z", Actor.MARKETPLACE, True),
        (at(Node.REFUNDED, refund=Refund.APPROVED, refund_at="2026-03-20T11:00:00Z"), terms(), DueKind.REFUND_PAYMENT, "2026-03-20T14:00:00.000Z", Actor.MARKETPLACE, True),
        (at(Node.DELIVERING, refund=Refund.PENDING_INSPECTION, refund_at="2026-03-20T11:00:00Z"), terms(), DueKind.INSPECTION, "2026-04-04T11:00:00.000Z", Actor.SELLER, True),
        # The same wall time 15 days later, although an hour was skipped.
        (at(Node.DELIVERING, refund=Refund.PENDING_INSPECTION, refund_at="2026-03-20T11:00:00Z"), terms(BERLIN), DueKind.INSPECTION, "2026-04-04T10:00:00.000Z", Actor.SELLER, True),
        # Friday to Wednesday: three working days.
        (at(Node.PROVING, appealed_at="2026-03-20T11:00:00Z"), terms(), DueKind.RULING, "2026-03-25T11:00:00.000Z", Actor.MARKETPLACE, False),
        (at(Node.PROVING), terms(), DueKind.REMINDER, "2026-09-16T10:00:00.000Z", Actor.SELLER, False),
        (at(Node.BUYER_CONFIRMING), terms(), DueKind.APPEAL_OFFERED, "2026-03-25T10:00:00.000Z", Actor.SELLER, False),
        (at(Node.BUYER_CONFIRMING, "2026-03-27T10:00:00Z"), terms(BERLIN), DueKind.APPEAL_OFFERED, "2026-04-01T10:00:00.000Z", Actor.SELLER, False),
        (at(Node.COMPLETED, accepted_at="2026-03-20T11:00:00Z"), terms(frozen_at=parse_rfc3339("2027-03-20T10:00:00Z")), DueKind.DATA_KEPT, "2027-04-04T10:00:00.000Z", Actor.SELLER, False),
        (at(Node.COMPLETED), terms(frozen_at=parse_rfc3339("2027-03-20T10:00:00Z"), freeze_days=7), DueKind.DATA_KEPT, "2027-03-27T10:00:00.000Z", Actor.SELLER, False),
    ],
)  # fmt: skip
def test_what_is_due_when_and_from_whom(state, given, kind, due, actor, hard):
    flow = FlowName.HARDWARE if state.refund is Refund.PENDING_INSPECTION else FLOW
    found = when(state, given, kind, flow)
    assert (found.at, found.actor, found.hard) == (parse_rfc3339(due), actor, hard)
    for now, past in ((found.at, False), (found.at + 1, True)):
        [seen] = [item for item in deadlines(flow, state, given, now) if item.kind is kind]
        assert seen.past is past
    assert due_at(flow, state, given) == (found.at if hard else None)


@pytest.mark.parametrize(
    ("state", "given", "kinds"),
    [
        (at(Node.DELIVERING), terms(), {DueKind.REMINDER}),
        (at(Node.DELIVERING, appealed_at="2026-03-20T11:00:00Z"), terms(delivery_days=3), {DueKind.RULING, DueKind.REMINDER}),
        (at(Node.DELIVERING, refund=Refund.ASKED, refund_at="2026-03-20T11:00:00Z"), terms(delivery_days=3), {DueKind.REMINDER}),
        (at(Node.BUYER_CONFIRMING, appealed_at="2026-03-20T11:00:00Z"), terms(), {DueKind.RULING, DueKind.REMINDER}),
        (at(Node.ACCEPTED, accepted_at="2026-03-20T11:00:00Z"), terms(), {DueKind.COMPLETION}),
        (at(Node.COMPLETED, accepted_at="2026-03-20T11:00:00Z"), terms(), set()),
        (at(Node.REFUNDED, refund=Refund.PAID_BACK, refund_at="2026-03-20T11:00:00Z"), terms(), set()),
    ],
)  # fmt: skip
def test_what_holds_a_case_up_stops_its_clocks(state, given, kinds):
    assert {due.kind for due in deadlines(FLOW, state, given, 0)} == kinds


def test_a_deadline_that_no_calendar_has_is_none():
    late = Terms(ordered_at=LAST_INSTANT, calendar=SHANGHAI, delivery_days=MAX_DELIVERY_DAYS, frozen_at=LAST_INSTANT)
    assert deadlines(FLOW, CaseState(node=Node.DELIVERING, entered_at=LAST_INSTANT), late, 0) == []
    assert due_at(FLOW, CaseState(node=Node.DELIVERING, entered_at=0), late) is None


def test_every_rule_has_a_text_and_a_kind_of_its_own():
    assert {rule.kind for rule in RULES} == set(DueKind)
    assert all(rule.text for rule in RULES)


@given(
    st.integers(2 * DAY, 2_000_000_000_000),
    st.integers(1, 400),
    st.sampled_from(["Asia/Shanghai", "Europe/Berlin", "America/Sao_Paulo", "Asia/Beirut", "Pacific/Apia", "UTC"]),
)
def test_a_delivery_period_ends_with_a_calendar_day(entered, days, name):
    zone = zone_of(name)
    state = CaseState(node=Node.DELIVERING, entered_at=entered)
    due = when(state, Terms(ordered_at=0, calendar=zone, delivery_days=days), DueKind.DELIVERY)
    begun, ended, after = (to_datetime(moment, zone) for moment in (entered, due.at, due.at + 1))
    assert (ended.date() - begun.date()).days == days or name == "Pacific/Apia"  # it once skipped a whole day
    assert after.date() > ended.date()
    assert abs(due.at - entered - days * DAY) <= DAY + 26 * HOUR
