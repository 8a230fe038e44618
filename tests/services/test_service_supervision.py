"""Supervision through its services: every stand × event × actor, effects on the license, replay, and nothing where it is refused."""

import asyncio
from itertools import product

import msgspec
import pytest

from licensesvc.domain.acceptance import FormField, ProofKind
from licensesvc.domain.errors import (
    DomainError,
    ForbiddenActor,
    IllegalTransition,
    InvalidCodeListed,
    InvalidParameter,
    LicenseNotClaimed,
    ProofMissing,
)
from licensesvc.domain.instants import DAY, HOUR, PeriodUnit, parse_rfc3339, rfc3339
from licensesvc.domain.license import LicenseState
from licensesvc.domain.policy import Term
from licensesvc.domain.product import DeliveryKind
from licensesvc.domain.supervision import NEEDS_REASON, Actor, Event, FlowName, Node, Refund, Source
from licensesvc.domain.supervision_case import possible, replay
from licensesvc.domain.supervision_flows import FLOWS, IN_FORCE
from licensesvc.services.activate import activate
from licensesvc.services.add_proof import StoredFile, add_proof
from licensesvc.services.audit_database import audit_database
from licensesvc.services.manage_catalog import PeriodFields
from licensesvc.services.manage_standards import ChangeStandard, change_standard
from licensesvc.services.record_supervision import RecordEvent, buyer_code_context, record_event, show_buyer_code
from licensesvc.services.seats import take_seat
from licensesvc.storage import acceptance, licenses, supervision
from tests.services.test_service_activation import activation
from tests.services.test_service_batches import activated_all
from tests.support_edges import Shop, change, open_shop, rows
from tests.support_supervision import expected, stands

FILE = StoredFile(filename="a.pdf", media_type="application/pdf", size=3, sha256="ab" * 32)
WRITTEN = ["supervision_cases", "supervision_events", "proofs", "audit_events", "license_states"]


def command(event: Event, actor: Actor = Actor.OPERATOR, **more) -> RecordEvent:
    if event is Event.REFUND_ASKED:
        more = {"amount": 100, "paid": 100, **more}
    if event is Event.CODE_SUBMITTED:
        more = {"buyer_code": "AA-BB", **more}
    reason = {"reason": "why"} if event in NEEDS_REASON else {}
    return RecordEvent(event=event, actor=actor, **{**reason, **more})


async def record(shop: Shop, case_id: str, event: Event, actor: Actor = Actor.OPERATOR, **more):
    told = command(event, actor, **more)
    return await shop.rt.db.write(lambda tx: record_event(tx, shop.rt, case_id, told, by="test"))


async def case_of(shop: Shop, case_id: str):
    return await shop.rt.db.read(lambda tx: supervision.by_public_id(tx, case_id))


async def prove(shop: Shop, case_id: str, kind: ProofKind = ProofKind.OTHER):
    return await shop.rt.db.write(lambda tx: add_proof(tx, shop.rt, case_id, kind, FILE, by="test"))


def kind_and_time(flow: FlowName) -> tuple[DeliveryKind, int, bool]:
    """An order that follows this flow."""
    for kind, in_force in IN_FORCE.items():
        for row in in_force:
            if flow in {row.flow, row.reviewed}:
                return kind, row.since, flow is row.reviewed
    raise AssertionError(flow)


async def shop_of(rt, flow: FlowName) -> tuple[Shop, dict]:
    kind, since, reviewed = kind_and_time(flow)
    shop = await open_shop(rt, name=flow.value, kind=kind)
    return shop, {"order_time": since, "enablement_cloud": reviewed or None}


def way_to(flow: FlowName, stand) -> list[Event]:
    """Events that lead from DELIVERING or SUBMITTING to a stand, by the table that the tests have of their own."""
    start = (Node.SUBMITTING if flow is FlowName.LICENSE_1_0_BUYER_CODE else Node.DELIVERING, Refund.NONE, False)
    ways, waiting = {start: []}, [start]
    while stand not in ways:
        at = waiting.pop(0)
        for event, (node, refund, frozen, actors) in expected(flow, at).items():
            to = (node, refund, frozen)
            if Actor.OPERATOR in actors and to not in ways:
                ways[to] = [*ways[at], event]
                waiting.append(to)
    return ways[stand]


async def lead(shop: Shop, case_id: str, way: list[Event]) -> None:
    for event in way:
        case = await case_of(shop, case_id)
        if event is Event.PROOF_UPLOADED:
            await prove(shop, case_id)
        else:
            await record(shop, case_id, event)
        assert (await case_of(shop, case_id)).version == case.version + 1


class Undone(Exception):
    pass


async def tried(shop: Shop, case_id: str, told: RecordEvent):
    """What an event would make of a case; it is rolled back."""
    outcome = []

    async def verb(tx):
        outcome.append(await record_event(tx, shop.rt, case_id, told, by="test"))
        raise Undone

    with pytest.raises(Undone):
        await shop.rt.db.write(verb)
    return outcome[0]


async def refuse_all(shop: Shop, case_id: str, legal) -> int:
    """Every event and actor that the table does not allow, all in one transaction that commits: a refusal has nothing to roll back."""

    async def verb(tx) -> int:
        refused = 0
        for event, actor in product(Event, Actor):
            if event not in legal or actor not in legal[event][3]:
                with pytest.raises(ForbiddenActor if event in legal else IllegalTransition):
                    await record_event(tx, shop.rt, case_id, command(event, actor), by="test")
                refused += 1
        return refused

    return await shop.rt.db.write(verb)


async def try_everything(rt, flow: FlowName, chosen) -> int:
    """Every event by every actor at these stands; counts the refusals."""
    shop, facts = await shop_of(rt, flow)
    refused = 0
    for number, stand in enumerate(chosen):
        if stand[0] is Node.PAID:
            continue  # a case leaves PAID in the transaction that opens it
        received = await shop.sell(f"CS{number}", **facts)
        case_id = received.case.public_id
        assert received.case.flow is flow
        await lead(shop, case_id, way_to(flow, stand))
        if FLOWS[flow].submission is Event.PROOF_UPLOADED and stand[0] is Node.PROVING:
            await rt.db.write(lambda tx, case_id=case_id: put_proof_row(tx, case_id))
        case, written = await case_of(shop, case_id), await rows(rt, *WRITTEN)
        assert (case.state.node, case.state.refund, case.state.frozen) == stand
        legal = expected(flow, stand)
        refused += await refuse_all(shop, case_id, legal)
        for event, (node, refund, frozen, actors) in legal.items():
            after = (await tried(shop, case_id, command(event, min(actors)))).state
            assert (after.node, after.refund, after.frozen) == (node, refund, frozen), (stand, event)
        assert (await case_of(shop, case_id), await rows(rt, *WRITTEN)) == (case, written), stand
    return refused


async def put_proof_row(tx, case_id: str) -> None:
    """A proof that is there already, so that the seller may upload."""
    case = await supervision.by_public_id(tx, case_id)
    proof = acceptance.Proof(
        id=0,
        public_id=f"prf_{case_id}",
        case_id=case.id,
        kind=ProofKind.OTHER,
        uploaded_at=1,
        **msgspec.structs.asdict(FILE),
    )
    await acceptance.insert_proof(tx, proof)


@pytest.mark.parametrize("flow", FlowName)
@pytest.mark.parametrize("engine", ["sqlite"])
async def test_every_triple_at_every_stand_leaves_what_the_table_says(rt, flow):
    assert await try_everything(rt, flow, stands(flow)) > 500
    assert (await audit_database(rt)).findings == ()


@pytest.mark.parametrize("engine", ["postgres"])
@pytest.mark.parametrize(
    ("flow", "stand"),
    [
        (FlowName.HARDWARE, (Node.BUYER_CONFIRMING, Refund.PENDING_INSPECTION, True)),
        (FlowName.LICENSE_2_0_2024_09_REVIEWED, (Node.REVIEWING, Refund.NONE, False)),
    ],
    ids=str,
)
async def test_a_sample_of_the_triples_on_postgresql(rt, flow, stand):
    assert await try_everything(rt, flow, [stand]) > 100
    assert (await audit_database(rt)).findings == ()


async def delivered(shop: Shop, order_id: str = "CS1", **facts) -> str:
    case_id = (await shop.sell(order_id, **facts)).case.public_id
    await record(shop, case_id, Event.DELIVERED, Actor.SELLER)
    return case_id


async def license_of(shop: Shop, case_id: str):
    case = await case_of(shop, case_id)
    return (await shop.rt.db.read(lambda tx: licenses.by_line(tx, case.line_ref))).view


async def complete(shop: Shop, case_id: str):
    await record(shop, case_id, Event.ACCEPTED)
    return await record(shop, case_id, Event.COMPLETED)


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


WAYS = {
    "single": lambda shop, code, _: shop.rt.db.submit(activate, activation(shop, code)),
    "list": lambda shop, code, new: activated_all(shop, [new, code]),
    "seat": lambda shop, code, _: take_seat(shop.rt, code, "device"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order_time", ["2024-01-01T00:00:00Z", "2025-04-24T15:59:59Z", "2025-04-24T16:00:00Z"])
async def test_an_old_code_is_activated_once_it_is_claimed(rt, order_time, way):
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0)
    code = await shop.sell_code("CS1", code="PL-1", order_time=parse_rfc3339(order_time))
    case_id = (await shop.sell("CS1")).case.public_id
    if order_time == "2025-04-24T16:00:00Z":  # nobody claims any more
        await WAYS[way](shop, code, await shop.sell_code("CS2", code="PL-2"))
        return
    new = await shop.sell_code("CS2", code="PL-2")
    for event in (Event.DELIVERED, Event.CLAIMED):
        before = await rows(rt, *WRITTEN, "activations")
        for refused in (
            lambda: rt.db.submit(activate, activation(shop, code)),
            lambda: activated_all(shop, [code]),
            lambda: activated_all(shop, [code], real_effect_time=1),  # the state goes before the parameters
            lambda: take_seat(rt, code, "device"),
        ):
            with pytest.raises(LicenseNotClaimed):
                await refused()
        with pytest.raises(InvalidCodeListed):
            await activated_all(shop, [new, code])
        assert await rows(rt, *WRITTEN, "activations") == before
        assert (await license_of(shop, case_id)).state is LicenseState.ISSUED
        await record(shop, case_id, event)

    await WAYS[way](shop, code, new)

    assert (await license_of(shop, case_id)).state is LicenseState.ACTIVE
    assert (await audit_database(rt)).findings == ()


async def test_an_unclaimed_code_in_a_batch_spoils_no_other_call(rt):
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0)
    old = await shop.sell_code("CS1", code="PL-1", order_time=parse_rfc3339("2025-01-01T00:00:00Z"))
    new = await shop.sell_code("CS2", code="PL-2")

    seats = await asyncio.gather(
        take_seat(rt, old, "device"), take_seat(rt, new, "device"), activated_all(shop, [old]), return_exceptions=True
    )

    assert [type(answer).__name__ for answer in seats] == ["LicenseNotClaimed", "Seat", "LicenseNotClaimed"]
    assert (await audit_database(rt)).findings == ()


async def test_a_code_in_service_gives_seats_whatever_its_case_says(rt):
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0)
    code = await shop.sell_code("CS1", code="PL-1", order_time=parse_rfc3339("2025-01-01T00:00:00Z"))
    await change(
        rt,
        "UPDATE license_states SET state = 'ACTIVE', activated_at = 1, service_start = 1, expires_at = $1",
        rt.clock() + DAY,
    )

    assert (await take_seat(rt, code, "device")).is_new


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
