"""Supervision through its services: effects on the license, proofs, appeals, flows, replay."""

import msgspec
import pytest

from licensesvc.domain.acceptance import FormField, ProofKind
from licensesvc.domain.errors import (
    DomainError,
    IllegalTransition,
    InvalidParameter,
    ProofMissing,
)
from licensesvc.domain.instants import DAY, HOUR, PeriodUnit, parse_rfc3339, rfc3339
from licensesvc.domain.license import LicenseState
from licensesvc.domain.policy import Term
from licensesvc.domain.product import DeliveryKind
from licensesvc.domain.supervision import Actor, Event, FlowName, Node, Refund, Source
from licensesvc.domain.supervision_case import possible, replay
from licensesvc.services.catalog.manage_catalog import PeriodFields
from licensesvc.services.licenses.activate import activate
from licensesvc.services.supervision.manage_standards import ChangeStandard, change_standard
from licensesvc.services.supervision.record_supervision import buyer_code_context, record_event, show_buyer_code
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.storage import acceptance, licenses, supervision
from tests.services.test_service_activation import activation
from tests.support_cases import (
    case_of,
    command,
    complete,
    delivered,
    license_of,
    prove,
    record,
)
from tests.support_edges import Shop, open_shop, rows


async def test_the_start_of_an_activated_license_stays_what_it_was(shop, clock):
    code = await shop.sell_code("CS1")
    case_id = (await shop.sell("CS1")).case.public_id
    started = clock.now
    await shop.rt.db.submit(activate, activation(shop, code))
    clock.now += DAY
    await prove(shop, case_id)
    await record(shop, case_id, Event.REJECTED, Actor.BUYER)
    await record(shop, case_id, Event.PROOF_UPLOADED, Actor.SELLER, enabled_at=rfc3339(clock.now))

    await complete(shop, case_id)

    view = await license_of(shop, case_id)
    assert (view.service_start, view.settled_at) == (started, clock.now)


@pytest.mark.parametrize(
    ("enabled_at", "unit", "count", "expires_at"),
    [
        ("2026-11-01T08:30:00Z", PeriodUnit.YEAR, 1, "2027-11-01T08:30:00Z"),
        # The days of Shanghai: the last of January there is still the 30th in UTC.
        ("2026-01-30T16:30:00Z", PeriodUnit.MONTH, 1, "2026-02-27T16:30:00Z"),
        ("2024-01-30T16:30:00Z", PeriodUnit.MONTH, 1, "2024-02-28T16:30:00Z"),
        ("2024-02-29T02:00:00Z", PeriodUnit.YEAR, 1, "2025-02-28T02:00:00Z"),
        ("2024-02-29T02:00:00Z", PeriodUnit.YEAR, 4, "2028-02-29T02:00:00Z"),
        ("2026-08-31T02:00:00Z", PeriodUnit.MONTH, 6, "2027-02-28T02:00:00Z"),
        ("2026-12-31T16:00:00Z", PeriodUnit.DAY, 30, "2027-01-30T16:00:00Z"),
        (None, PeriodUnit.YEAR, 1, None),
    ],
)
async def test_service_begins_as_the_proof_says_else_with_the_acceptance(
    rt, clock, enabled_at, unit, count, expires_at
):
    shop = await open_shop(rt, kind=DeliveryKind.GENERAL)
    policy = {"term": Term.PERIOD, "period": PeriodFields(unit=unit, count=count).period()}
    shop = await open_shop(rt, name="other", sold="OFFI300", kind=DeliveryKind.GENERAL) if enabled_at is None else shop
    case_id = (await shop.sell("CS1")).case.public_id
    await change_policy(shop, case_id, policy)
    await record(shop, case_id, Event.DELIVERED, Actor.SELLER, **({"enabled_at": enabled_at} if enabled_at else {}))
    clock.now += HOUR

    await complete(shop, case_id)

    view = await license_of(shop, case_id)
    start = parse_rfc3339(enabled_at) if enabled_at else clock.now
    assert (view.state, view.service_start, view.activated_at) == (LicenseState.ISSUED, start, None)
    if expires_at:
        assert rfc3339(view.expires_at) == rfc3339(parse_rfc3339(expires_at))
    # An activation behind it does not move the start.
    code = await shop.sell_code("CS1")
    clock.now += DAY
    await rt.db.submit(activate, activation(shop, code))
    view = await license_of(shop, case_id)
    assert (view.state, view.service_start) == (LicenseState.ACTIVE, start)


async def change_policy(shop: Shop, case_id: str, policy: dict) -> None:
    """The license of the case as if it had been sold for another period."""
    case = await case_of(shop, case_id)
    loaded = await shop.rt.db.read(lambda tx: licenses.by_line(tx, case.line_ref))
    sources = msgspec.structs.replace(loaded.sources, period=policy["period"])
    assert await shop.rt.db.write(lambda tx: licenses.store_change(tx, loaded.view, sources))


async def test_a_granted_refund_releases_the_license_in_the_same_transaction(shop, rt):
    case_id = await delivered(shop)
    asked = await record(shop, case_id, Event.REFUND_ASKED, Actor.BUYER, amount=40, paid=100)
    assert (asked.node, asked.state.refund, asked.state.refund_amount) == (Node.ACTIVATING, Refund.ASKED, 40)

    refunded = await record(shop, case_id, Event.REFUND_APPROVED, Actor.SELLER)

    assert (refunded.node, refunded.due_at) == (Node.REFUNDED, refunded.state.refund_at + 3 * HOUR)
    assert (await license_of(shop, case_id)).state is LicenseState.RELEASED
    paid = await record(shop, case_id, Event.REFUNDED, Actor.MARKETPLACE)
    assert (paid.state.refund, paid.state.refund_amount, paid.due_at) == (Refund.PAID_BACK, 40, None)
    assert (await audit_database(rt)).findings == ()


@pytest.mark.parametrize("event", [Event.REFUNDED, Event.RULED_REFUNDED])
async def test_what_the_marketplace_refunds_releases_too(shop, event):
    case_id = await delivered(shop)
    if event is Event.RULED_REFUNDED:
        await record(shop, case_id, Event.APPEALED, Actor.BUYER)

    await record(shop, case_id, event, Actor.MARKETPLACE)

    assert (await license_of(shop, case_id)).state is LicenseState.RELEASED


async def test_a_reopened_case_is_settled_anew(shop, clock):
    case_id = await delivered(shop)
    first = await complete(shop, case_id)
    clock.now += 40 * DAY

    reopened = await record(shop, case_id, Event.REOPENED)
    assert (reopened.node, reopened.state.settlement_month, reopened.state.accepted_at) == (Node.PROVING, None, None)
    assert (await license_of(shop, case_id)).settled_at is None
    again = await complete(shop, case_id)

    assert (first.state.settlement_month, again.state.settlement_month) == ("2026-12", "2027-01")
    assert (await license_of(shop, case_id)).settled_at == clock.now


async def test_the_settlement_month_is_that_of_the_event_in_the_calendar_of_the_connection(shop, clock):
    clock.now = parse_rfc3339("2026-11-03T00:00:00Z")
    case_id = await delivered(shop)
    await record(shop, case_id, Event.ACCEPTED, at="2026-10-31T15:00:00Z")

    done = await record(shop, case_id, Event.COMPLETED, at="2026-10-31T15:59:59.999Z")
    assert done.state.settlement_month == "2026-11"
    other = await delivered(shop, "CS2")
    await record(shop, other, Event.ACCEPTED, at="2026-10-31T15:00:00Z")
    assert (await record(shop, other, Event.COMPLETED, at="2026-10-31T16:00:00Z")).state.settlement_month == "2026-12"


async def test_a_case_keeps_the_standard_it_started_with(shop, rt):
    async def standard(version: int, **fields):
        wanted = ChangeStandard(**fields)
        product_id = shop.product.public_id
        return await rt.db.write(lambda tx: change_standard(tx, rt, product_id, wanted, version=version, by="test"))

    first = await standard(0, proofs=(ProofKind.ACCEPTANCE, ProofKind.REQUIREMENT), fields=(FormField.ENABLED_AT,))
    assert (await standard(1, **msgspec.structs.asdict(first.standard))).version == 1  # the same again is no version
    case_id = await delivered(shop)
    await standard(1, proofs=(ProofKind.OTHER,))
    newer = await delivered(shop, "CS2")
    for each in (case_id, newer):
        await record(shop, each, Event.ACTIVATED, Actor.SOFTWARE)

    with pytest.raises(ProofMissing, match="missing: acceptance, requirement, enabled_at"):
        await record(shop, case_id, Event.PROOF_UPLOADED, Actor.SELLER)
    await prove(shop, case_id, ProofKind.ACCEPTANCE)
    assert (await prove(shop, case_id, ProofKind.REQUIREMENT)).node is Node.PROVING
    with pytest.raises(ProofMissing, match=r"missing: enabled_at$"):
        await record(shop, case_id, Event.PROOF_UPLOADED, Actor.SELLER)
    moved = await record(shop, case_id, Event.PROOF_UPLOADED, Actor.SELLER, enabled_at="2026-11-01T00:00:00Z")
    assert (moved.node, moved.state.enabled_at) == (Node.BUYER_CONFIRMING, parse_rfc3339("2026-11-01T00:00:00Z"))
    assert (await prove(shop, newer, ProofKind.OTHER)).node is Node.BUYER_CONFIRMING


async def test_where_the_delivery_is_the_submission_it_waits_for_the_standard(rt, clock):
    shop = await open_shop(rt, kind=DeliveryKind.SOFTWARE_PACKAGE)
    wanted = ChangeStandard(proofs=(ProofKind.DEPLOYMENT_SCREENSHOT,), delivery_days=10)
    await rt.db.write(lambda tx: change_standard(tx, rt, shop.product.public_id, wanted, version=0, by="test"))
    case = (await shop.sell("CS1")).case
    assert rfc3339(case.due_at) == "2026-11-28T15:59:59.999Z"  # sold on the 18th, Shanghai

    with pytest.raises(ProofMissing):
        await record(shop, case.public_id, Event.DELIVERED, Actor.SELLER)
    assert (await prove(shop, case.public_id, ProofKind.DEPLOYMENT_SCREENSHOT)).node is Node.DELIVERING
    moved = await record(shop, case.public_id, Event.DELIVERED, Actor.SELLER)
    assert (moved.node, moved.due_at) == (Node.BUYER_CONFIRMING, None)


async def test_a_proof_is_taken_while_an_appeal_runs_and_moves_nobody(shop):
    case_id = await delivered(shop)
    await record(shop, case_id, Event.ACTIVATED)
    await record(shop, case_id, Event.APPEALED, Actor.SELLER)

    assert (await prove(shop, case_id)).node is Node.PROVING
    assert len(await shop.rt.db.read(lambda tx: acceptance.proofs_of(tx, 1))) == 1
    early = await delivered(shop, "CS2")
    with pytest.raises(IllegalTransition):
        await prove(shop, early)
    await record(shop, early, Event.APPEALED, Actor.BUYER)
    assert (await prove(shop, early)).node is Node.ACTIVATING  # what an appeal is founded on may be shown anywhere


async def test_the_grounds_of_an_appeal_are_recorded(shop, clock):
    case_id = await delivered(shop)
    await record(shop, case_id, Event.ACTIVATED)
    await prove(shop, case_id)
    clock.now += 5 * DAY + 1

    await record(shop, case_id, Event.APPEALED, Actor.SELLER)

    events = await shop.rt.db.read(lambda tx: supervision.events_of(tx, 1))
    assert events[-1].happening.facts.grounds == ("buyer_idle",)


async def test_the_code_of_a_buyer_is_sealed_and_shown_to_those_who_ask(rt):
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_1_0_HARDWARE_CODE)
    case_id = (await shop.sell("CS1")).case.public_id

    moved = await record(shop, case_id, Event.CODE_SUBMITTED, Actor.BUYER, buyer_code="MAC 00:16:3E")

    assert moved.node is Node.DELIVERING
    sealed = await rt.db.read(lambda tx: supervision.buyer_code(tx, 1))
    assert b"00:16:3E" not in sealed
    assert rt.vault.open(sealed, buyer_code_context(case_id)) == b"MAC 00:16:3E"
    assert await rt.db.write(lambda tx: show_buyer_code(tx, rt, case_id, by="test")) == "MAC 00:16:3E"
    told = await rt.db.read(lambda tx: tx.all("SELECT detail, kind FROM audit_events"))
    assert not any("00:16:3E" in row["detail"] for row in told)
    assert told[-1]["kind"] == "supervision.buyer_code_shown"
    assert repr(command(Event.CODE_SUBMITTED)) == "RecordEvent(code_submitted)"
    for absent in ({"buyer_code": None}, {}):
        with pytest.raises(InvalidParameter):
            await record(
                shop,
                case_id,
                Event.DELIVERED if not absent else Event.CODE_SUBMITTED,
                **(absent or {"buyer_code": "x"}),
            )


async def test_an_ai_asset_is_delivered_without_a_case(rt):
    shop = await open_shop(rt, kind=DeliveryKind.AI_ASSET)

    received = await shop.sell("CS1")

    assert (received.case, received.license) == (None, None)
    assert await rows(rt, "orders", "supervision_cases", "licenses") == [1, 0, 0]
    with pytest.raises(InvalidParameter):
        await shop.sell("CS2", code="PL-1")


@pytest.mark.parametrize(
    ("facts", "flow"),
    [
        ({"enablement_cloud": True}, FlowName.LICENSE_2_0_2025_04_REVIEWED),
        ({"order_time": parse_rfc3339("2025-01-01T00:00:00Z")}, FlowName.LICENSE_2_0_2024_09),
        ({"order_time": 1}, FlowName.LICENSE_2_0_BEFORE_2024_09),
        ({}, FlowName.LICENSE_2_0_2025_04),
    ],
)
async def test_a_case_follows_the_flow_that_its_order_turns_out_to_have(rt, facts, flow):
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0)
    assert (await shop.sell("CS1")).case.flow is FlowName.LICENSE_2_0_2025_04

    assert (await shop.sell("CS1", **facts)).case.flow is flow
    kept = (await shop.sell("CS1", **facts)).case
    assert kept == await case_of(shop, kept.public_id)
    assert (await audit_database(rt)).findings == ()


async def test_a_case_does_not_follow_where_what_has_happened_does_not_fit(rt):
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0)
    case_id = (await shop.sell("CS1")).case.public_id
    await record(shop, case_id, Event.DELIVERED)
    await record(shop, case_id, Event.ACTIVATED)
    await prove(shop, case_id)

    received = await shop.sell("CS1", enablement_cloud=True)

    assert (received.case.flow, received.case.node) == (FlowName.LICENSE_2_0_2025_04, Node.ACCEPTED)


async def test_an_activation_is_recorded_while_an_appeal_runs(shop, rt):
    code = await shop.sell_code("CS1")
    case_id = (await shop.sell("CS1")).case.public_id
    await record(shop, case_id, Event.APPEALED, Actor.BUYER)

    await rt.db.submit(activate, activation(shop, code))

    case = await case_of(shop, case_id)
    assert (case.node, case.state.frozen) == (Node.PROVING, True)
    assert (await audit_database(rt)).findings == ()


async def test_the_log_rebuilds_every_case_of_a_shop(shop, rt):
    code = await shop.sell_code("CS1")
    first = (await shop.sell("CS1")).case.public_id
    await rt.db.submit(activate, activation(shop, code))
    await prove(shop, first)
    await record(shop, first, Event.ACCEPTED, Actor.BUYER, confirmed=False)
    second = await delivered(shop, "CS2")
    await record(shop, second, Event.REFUND_ASKED, Actor.BUYER)

    for case_id in (first, second):
        case = await case_of(shop, case_id)
        events = await rt.db.read(lambda tx, case=case: supervision.events_of(tx, case.id))
        assert replay(case.flow, [event.happening for event in events]) == case.state
    assert (await case_of(shop, first)).state.unconfirmed_since is not None


async def test_nobody_acts_for_a_source_that_is_none(shop):
    case_id = await delivered(shop)
    told = command(Event.ACTIVATED)
    await shop.rt.db.write(
        lambda tx: record_event(tx, shop.rt, case_id, told, by="buyer page", source=Source.BUYER_PAGE)
    )
    events = await shop.rt.db.read(lambda tx: supervision.events_of(tx, 1))
    assert [event.happening.source for event in events] == [Source.MARKETPLACE, Source.OPERATOR, Source.BUYER_PAGE]


async def test_two_operators_at_once_and_one_is_refused(shop):
    case_id = await delivered(shop)
    await record(shop, case_id, Event.ACTIVATED)
    await prove(shop, case_id)

    results = []
    for event in (Event.ACCEPTED, Event.REJECTED):
        try:
            results.append((await record(shop, case_id, event, Actor.BUYER)).node)
        except DomainError as refused:
            results.append(refused.code)

    assert results == [Node.ACCEPTED, "ILLEGAL_TRANSITION"]
    case = await case_of(shop, case_id)
    assert Event.REJECTED not in possible(case.flow, case.state)
