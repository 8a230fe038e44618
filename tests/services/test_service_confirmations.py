"""Two truths: what was done here is confirmed there, by an operator, a call or a file; the same again changes nothing."""

import io

import pytest

from licensesvc.domain.errors import AcceptanceNotConfirmed, IllegalTransition, InvalidParameter
from licensesvc.domain.instants import DAY, HOUR, SECOND, format_stamp, parse_rfc3339, rfc3339, zone_of
from licensesvc.domain.license import LicenseState
from licensesvc.domain.product import DeliveryKind
from licensesvc.domain.supervision import Actor, Event, Node, Refund, Source
from licensesvc.services.calls.confirm_acceptance import acceptance_time, confirm_line
from licensesvc.services.imports.import_confirmations import MAX_ROWS, import_confirmations
from licensesvc.services.supervision.confirm_supervision import Confirmation, Confirmed, confirm_event
from licensesvc.services.supervision.supervise_many import SuperviseMany, supervise_many
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.storage import supervision
from tests.support_cases import case_of, command, delivered, license_of, prove, record
from tests.support_edges import Shop, open_shop, rows


async def confirm(shop: Shop, case_id: str, event: Event, at: str | None = None):
    told = Confirmation(event=event, at=at)
    return await shop.rt.db.write(lambda tx: confirm_event(tx, shop.rt, case_id, told, by="test"))


async def confirming(shop: Shop, order_id: str = "CS1") -> str:
    """A case whose proof was uploaded here only."""
    case_id = await delivered(shop, order_id)
    await record(shop, case_id, Event.ACTIVATED)
    await prove(shop, case_id)
    return case_id


async def shown(shop: Shop, case_id: str) -> list[tuple[Event, bool]]:
    case = await case_of(shop, case_id)
    events = await shop.rt.db.read(lambda tx: supervision.events_of(tx, case.id))
    return [(event.happening.event, event.happening.confirmed_at is not None) for event in events]


async def test_an_acceptance_of_here_completes_only_once_it_is_confirmed_there(shop, clock):
    case_id = await confirming(shop)
    here = await record(shop, case_id, Event.ACCEPTED, Actor.BUYER, confirmed=False)
    assert (here.node, here.state.acceptance_confirmed_at) == (Node.ACCEPTED, None)
    assert here.state.unconfirmed_since is not None
    with pytest.raises(AcceptanceNotConfirmed):
        await record(shop, case_id, Event.COMPLETED, Actor.SYSTEM, confirmed=False)
    clock.now += HOUR

    outcome = await confirm(shop, case_id, Event.ACCEPTED)

    assert outcome.confirmed is Confirmed.CONFIRMED
    assert outcome.case == await case_of(shop, case_id)
    assert (outcome.case.state.acceptance_confirmed_at, outcome.case.state.accepted_at) == (clock.now, clock.now - HOUR)
    assert outcome.case.state.unconfirmed_since is None
    assert all(confirmed for _, confirmed in await shown(shop, case_id))
    done = await record(shop, case_id, Event.COMPLETED, Actor.SYSTEM, confirmed=False)
    assert (done.node, done.state.settlement_month) == (Node.COMPLETED, "2026-12")
    assert (await audit_database(shop.rt)).findings == ()


async def test_a_confirmation_confirms_what_came_before_and_nothing_behind(shop):
    case_id = await confirming(shop)
    await record(shop, case_id, Event.REJECTED, Actor.BUYER, confirmed=False)

    outcome = await confirm(shop, case_id, Event.PROOF_UPLOADED)

    assert [confirmed for _, confirmed in await shown(shop, case_id)] == [True, True, True, True, False]
    assert outcome.case.state.unconfirmed_since is not None


async def test_a_proof_that_accepts_is_what_a_confirmed_acceptance_confirms(rt):
    shop = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0)
    case_id = await confirming(shop)
    assert (await case_of(shop, case_id)).state.acceptance_confirmed_at is None

    outcome = await confirm(shop, case_id, Event.ACCEPTED)

    assert (outcome.confirmed, outcome.case.state.acceptance_confirmed_at is not None) == (Confirmed.CONFIRMED, True)
    assert [event for event, _ in await shown(shop, case_id)][-1] is Event.PROOF_UPLOADED


@pytest.mark.parametrize("again", [1, 3])
async def test_what_had_not_happened_here_is_recorded_once(shop, again):
    case_id = await delivered(shop)

    outcomes = [(await confirm(shop, case_id, Event.ACCEPTED)).confirmed for _ in range(again)]

    assert outcomes == [Confirmed.RECORDED, *[Confirmed.KNOWN] * (again - 1)]
    assert (await case_of(shop, case_id)).node is Node.ACCEPTED


async def test_a_completion_that_is_news_brings_its_acceptance(shop):
    case_id = await delivered(shop)

    outcome = await confirm(shop, case_id, Event.COMPLETED, "2026-11-17T00:00:00Z")

    assert (outcome.case.node, outcome.case.state.settlement_month) == (Node.COMPLETED, "2026-12")
    assert [event for event, _ in await shown(shop, case_id)][-2:] == [Event.ACCEPTED, Event.COMPLETED]
    assert (await confirm(shop, case_id, Event.COMPLETED)).confirmed is Confirmed.KNOWN


@pytest.mark.parametrize(
    ("event", "node", "ruling"),
    [
        (Event.ACCEPTED, Node.ACCEPTED, Event.RULED_ACCEPTED),
        (Event.COMPLETED, Node.COMPLETED, Event.RULED_ACCEPTED),
        (Event.REFUNDED, Node.REFUNDED, Event.RULED_REFUNDED),
    ],
)
async def test_an_end_that_the_marketplace_shows_while_an_appeal_runs_was_ruled(shop, event, node, ruling):
    case_id = await delivered(shop)
    await record(shop, case_id, Event.APPEALED, Actor.BUYER)

    outcome = await confirm(shop, case_id, event)

    assert (outcome.case.node, outcome.case.state.frozen) == (node, False)
    assert ruling in [told for told, _ in await shown(shop, case_id)]


async def test_an_acceptance_there_ends_a_refund_that_was_asked_for(shop):
    case_id = await confirming(shop)
    await record(shop, case_id, Event.REFUND_ASKED, Actor.BUYER)

    outcome = await confirm(shop, case_id, Event.ACCEPTED)

    assert (outcome.case.node, outcome.case.state.refund) == (Node.ACCEPTED, Refund.NONE)


async def test_a_second_round_is_news_and_its_repeat_is_not(shop, clock):
    case_id = await confirming(shop)
    at = [rfc3339(clock.now + hour * HOUR) for hour in range(3)]
    clock.now += DAY
    await confirm(shop, case_id, Event.PROOF_UPLOADED, at[0])
    told = Confirmation(event=Event.REJECTED, at=at[1], reason="no")
    for expected in (Confirmed.RECORDED, Confirmed.KNOWN):
        outcome = await shop.rt.db.write(lambda tx: confirm_event(tx, shop.rt, case_id, told, by="test"))
        assert outcome.confirmed is expected

    assert (await confirm(shop, case_id, Event.PROOF_UPLOADED, at[0])).confirmed is Confirmed.KNOWN
    assert (await confirm(shop, case_id, Event.PROOF_UPLOADED, at[2])).confirmed is Confirmed.RECORDED
    assert (await case_of(shop, case_id)).state.rejections == 1


@pytest.mark.parametrize(
    ("event", "error"),
    [(Event.CLAIMED, IllegalTransition), (Event.REFUND_ASKED, InvalidParameter), (Event.APPEALED, InvalidParameter)],
)
async def test_what_cannot_have_happened_is_refused_and_leaves_nothing(shop, event, error):
    case_id = await delivered(shop)
    before = await rows(shop.rt, "supervision_events", "audit_events")

    with pytest.raises(error):
        await confirm(shop, case_id, event)

    assert await rows(shop.rt, "supervision_events", "audit_events") == before


# acceptanceTime (spec §2.3)


@pytest.mark.parametrize(
    ("stamp", "zone", "at"),
    [
        ("20261118100000123", "UTC", "2026-11-18T10:00:00.123Z"),
        ("202611181000007", "UTC", "2026-11-18T10:00:00.007Z"),
        ("20261118180000123", "Asia/Shanghai", "2026-11-18T10:00:00.123Z"),
        ("20261118100000", "UTC", "2026-11-18T10:00:00Z"),
        (None, "UTC", None),
        ("", "UTC", None),
    ],
)
def test_acceptance_time_is_read_in_the_zone_of_the_connection(stamp, zone, at):
    assert acceptance_time(stamp, zone_of(zone)) == (None if at is None else parse_rfc3339(at))


@pytest.mark.parametrize(
    "stamp", ["2026", "20261332000000000", "x" * 17, "20261118 100000", "９" * 17, "2026111810000012345"]
)
def test_a_stamp_that_is_none_is_named(stamp):
    with pytest.raises(InvalidParameter, match="acceptanceTime"):
        acceptance_time(stamp, zone_of("UTC"))


async def accept(shop: Shop, line_ref: int, at: int):
    return await shop.rt.db.write(lambda tx: confirm_line(tx, shop.rt, line_ref, at, by="con_x"))


async def test_a_call_with_acceptance_time_accepts_once(shop, clock):
    received = await shop.sell("CS1")
    at = clock.now - DAY

    first, second = [await accept(shop, received.line.id, at) for _ in range(2)]

    assert (first.confirmed, second.confirmed) == (Confirmed.RECORDED, Confirmed.KNOWN)
    state = second.case.state
    assert (state.node, state.accepted_at, state.acceptance_confirmed_at) == (Node.ACCEPTED, at, clock.now)
    events = await shop.rt.db.read(lambda tx: supervision.events_of(tx, first.case.id))
    assert (events[-1].happening.source, events[-1].happening.actor) == (Source.MARKETPLACE, Actor.MARKETPLACE)
    assert format_stamp(at, zone_of("UTC")) == "20261117110640"
    with pytest.raises(InvalidParameter):
        await accept(shop, (await shop.sell("CS2")).line.id, clock.now + DAY)


async def test_a_call_about_a_case_that_ended_or_never_was_changes_nothing(shop, rt):
    refunded = await delivered(shop)
    await record(shop, refunded, Event.REFUNDED)
    asset = await open_shop(rt, name="ai", sold="OFFI900", kind=DeliveryKind.AI_ASSET)
    line = (await asset.sell("CS9")).line
    before = await rows(rt, "supervision_events", "audit_events")

    assert (await accept(shop, 1, 1)).confirmed is Confirmed.KNOWN
    assert await accept(asset, line.id, 1) is None

    assert await rows(rt, "supervision_events", "audit_events") == before
    assert (await license_of(shop, refunded)).state is LicenseState.RELEASED


# CSV


async def bring(shop: Shop, text: str, **options):
    file = io.BytesIO(text.encode())
    options = {"dry_run": False, "all_or_nothing": False, **options}
    return await import_confirmations(shop.rt, file, shop.connection.public_id, by="test", **options)


async def test_a_file_confirms_records_and_repeats_safely(shop, clock):
    here = await confirming(shop, "CS1")
    await record(shop, here, Event.ACCEPTED, Actor.BUYER, confirmed=False)
    await delivered(shop, "CS2")
    yesterday = rfc3339(clock.now - DAY)
    clock.now += DAY
    file = (
        "order_id,line_id,event,time\r\n"
        f"CS1,CS1-000001,accepted,{yesterday}\r\n"
        f"CS2,,proof_uploaded,{yesterday}\r\n"  # no: it stands at ACTIVATING
        f"CS2,,activated,{yesterday}\r\n"
        f"CS2,,completed,{rfc3339(clock.now)}\r\n"
        f"CS404,,accepted,{yesterday}\r\n"
        f"CS1,,exploded,{yesterday}\r\n"
        "CS1,,completed,yesterday\r\n"
        f"CS1,,completed,{rfc3339(clock.now + DAY)}\r\n"
    )
    before = await rows(shop.rt, "supervision_events", "audit_events")

    dry = await bring(shop, file, dry_run=True)
    assert await rows(shop.rt, "supervision_events", "audit_events") == before
    whole = await bring(shop, file, all_or_nothing=True)
    assert await rows(shop.rt, "supervision_events", "audit_events") == before
    real = await bring(shop, file)
    again = await bring(shop, file)

    assert [(report.recorded, report.confirmed, report.known, report.bad) for report in (dry, whole, real, again)] == [
        (2, 1, 0, 5), (2, 1, 0, 5), (2, 1, 0, 5), (0, 0, 3, 5)
    ]  # fmt: skip
    assert [report.written for report in (dry, whole, real)] == [False, False, True]
    assert [(bad.row, bad.code) for bad in real.bad_rows] == [
        (2, "ILLEGAL_TRANSITION"), (5, "NOT_FOUND"), (6, "INVALID_BODY"), (7, "INVALID_PARAMETER"), (8, "INVALID_PARAMETER"),
    ]  # fmt: skip
    assert (await case_of(shop, here)).state.acceptance_confirmed_at == clock.now
    assert (await audit_database(shop.rt)).findings == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "order_id,event\r\nCS1,accepted\r\n",
        "order_id,event,time,nonsense\r\n",
        'order_id,event,time\r\n"CS1',
        "order_id,event,time\r\n" + "CS1,accepted,2026-01-01T00:00:00Z\r\n" * (MAX_ROWS + 1),
    ],
    ids=["empty", "no time", "unknown column", "open quote", "too many"],
)
async def test_a_file_that_cannot_be_read_writes_nothing(shop, text):
    with pytest.raises(InvalidParameter):
        await bring(shop, text)


async def test_a_file_of_a_strange_connection_touches_nothing(shop, rt):
    case_id = await delivered(shop)
    other = await open_shop(rt, name="other")

    report = await bring(other, "order_id,event,time\r\nCS1,accepted,2026-01-01T00:00:00Z\r\n")

    assert [bad.code for bad in report.bad_rows] == ["NOT_FOUND"]
    assert (await case_of(shop, case_id)).node is Node.ACTIVATING


# many at once


async def test_each_of_many_has_its_own_result(shop, clock):
    ready, early = await confirming(shop, "CS1"), await delivered(shop, "CS2")
    missing = "case_" + "0" * 26
    told = SuperviseMany(cases=(ready, early, missing), record=command(Event.REJECTED, Actor.BUYER))

    results = await supervise_many(shop.rt, told, by="test")

    assert (results.done, results.refused) == (1, 2)
    assert [(result.node, result.code) for result in results.results] == [
        (Node.PROVING, None),
        (None, "ILLEGAL_TRANSITION"),
        (None, "NOT_FOUND"),
    ]
    completed = SuperviseMany(cases=(ready, early), confirm=Confirmation(event=Event.COMPLETED))
    for expected in (Confirmed.RECORDED, Confirmed.KNOWN):
        clock.now += SECOND
        results = await supervise_many(shop.rt, completed, by="test")
        assert [result.confirmed for result in results.results] == [expected, expected]


async def test_a_request_whose_time_is_over_leaves_the_rest_for_another(shop, monkeypatch):
    ready = tuple([await confirming(shop, f"CS{number}") for number in range(3)])
    monkeypatch.setattr("licensesvc.services.supervision.supervise_many.BULK_S", 0.0)
    confirm = Confirmation(event=Event.ACCEPTED)

    first = await supervise_many(shop.rt, SuperviseMany(cases=ready, confirm=confirm), by="test")
    second = await supervise_many(shop.rt, SuperviseMany(cases=tuple(first.left), confirm=confirm), by="test")

    assert ([result.case for result in first.results], first.left) == ([ready[0]], list(ready[1:]))
    assert ([result.case for result in second.results], second.left) == ([ready[1]], [ready[2]])
    assert (await case_of(shop, ready[2])).node is Node.BUYER_CONFIRMING


@pytest.mark.parametrize(
    "wrong",
    [
        {"cases": ("case_1",)},
        {"cases": ("case_1",), "confirm": Confirmation(event=Event.ACCEPTED), "record": command(Event.ACCEPTED)},
        {"cases": ("case_1", "case_1"), "confirm": Confirmation(event=Event.ACCEPTED)},
    ],
)
async def test_a_request_about_many_that_cannot_be_meant(shop, wrong):
    with pytest.raises(InvalidParameter):
        await supervise_many(shop.rt, SuperviseMany(**wrong), by="test")
