"""Supervision: every flow × stand × event × actor against a table of its own (spec §6), and what a step makes of the state."""

from itertools import product

import msgspec
import pytest

from licensesvc.domain.errors import AcceptanceNotConfirmed, ForbiddenActor, IllegalTransition, InvalidParameter
from licensesvc.domain.instants import HOUR, MINUTE, SECOND
from licensesvc.domain.supervision import (
    BEFORE_ACTIVATION,
    ENDS,
    NEEDS_REASON,
    NODES,
    REFUNDS,
    Actor,
    Event,
    FlowName,
    Node,
    Refund,
    Source,
)
from licensesvc.domain.supervision_case import (
    IDLE,
    CaseState,
    Facts,
    Ground,
    Happening,
    confirm,
    grounds,
    latest,
    opened,
    possible,
    replay,
    step,
    turn,
)
from licensesvc.domain.supervision_flows import (
    FLOWS,
    IN_FORCE,
    REFUND_PROCEDURES,
    mermaid,
    moves,
    refund_mermaid,
)
from tests.support_supervision import LINES, expected, nodes_of, stands

T0 = 1_795_000_000_000
NOW = T0 + HOUR
EVERY_STAND = [(flow, stand) for flow in FlowName for stand in stands(flow)]


def state_at(node, refund=Refund.NONE, frozen=False, **more):
    accepted = T0 if node in {Node.ACCEPTED, Node.COMPLETED} else None
    return CaseState(
        node=node,
        entered_at=T0,
        refund=refund,
        refund_at=None if refund is Refund.NONE else T0,
        appealed_at=T0 if frozen else None,
        accepted_at=accepted,
        acceptance_confirmed_at=accepted,
        completed_at=T0 if node is Node.COMPLETED else None,
        **more,
    )


def happening(event, actor=Actor.OPERATOR, at=NOW, **more):
    facts = {"facts": Facts(amount=100, paid=100)} if event is Event.REFUND_ASKED else {}
    return Happening(event=event, actor=actor, source=Source.OPERATOR, at=at, **{"reason": "why", **facts, **more})


@pytest.mark.parametrize(("flow", "stand"), EVERY_STAND, ids=str)
def test_every_event_by_every_actor_wherever_a_case_can_stand(flow, stand):
    legal = expected(flow, stand)
    before = state_at(*stand)
    for event, actor in product(Event, Actor):
        if event not in legal:
            with pytest.raises(IllegalTransition) as refused:
                step(flow, before, happening(event, actor))
            assert (refused.value.code, refused.value.event) == ("ILLEGAL_TRANSITION", event)
            continue
        node, refund, frozen, actors = legal[event]
        if actor not in actors:
            with pytest.raises(ForbiddenActor) as forbidden:
                step(flow, before, happening(event, actor))
            assert (forbidden.value.code, forbidden.value.event) == ("FORBIDDEN_ACTOR", event)
            continue
        after = step(flow, before, happening(event, actor))
        assert (after.node, after.refund, after.frozen) == (node, refund, frozen), (event, actor)
    assert before == state_at(*stand)


@pytest.mark.parametrize("flow", FlowName)
def test_a_flow_has_no_node_beyond_its_own(flow):
    assert set(FLOWS[flow].cells) == nodes_of(flow)
    for node in set(Node) - nodes_of(flow):
        for refund, frozen in product(Refund, (False, True)):
            assert moves(flow, node, refund, frozen=frozen) == {}
        assert turn(flow, state_at(node)) is None


@pytest.mark.parametrize("flow", FlowName)
def test_every_stand_is_reached_and_no_other(flow):
    """Walking the table from the beginning meets exactly the stands that the text lists."""
    reached, waiting = set(), [(Node.PAID, Refund.NONE, False)]
    while waiting:
        at = waiting.pop()
        if at not in reached:
            reached.add(at)
            waiting += [move[:3] for move in moves(flow, at[0], at[1], frozen=at[2]).values()]
    assert reached == set(stands(flow))


@pytest.mark.parametrize(("flow", "stand"), EVERY_STAND, ids=str)
def test_the_one_whose_turn_it_is_may_act(flow, stand):
    state = state_at(*stand)
    whose = turn(flow, state)
    actors = {actor for move in possible(flow, state).values() for actor in move.actors}
    if whose is None:
        assert stand in {(Node.COMPLETED, Refund.NONE, False), (Node.REFUNDED, Refund.PAID_BACK, False)}
    else:
        assert whose in actors


@pytest.mark.parametrize(
    ("node", "refund", "frozen", "whose"),
    [(node, Refund.NONE, False, whose) for node, (_, whose) in NODES.items()]
    + [(Node.DELIVERING, refund, False, REFUNDS[refund]) for refund in Refund if refund is not Refund.NONE]
    + [(Node.DELIVERING, Refund.ASKED, True, Actor.MARKETPLACE)],
)
def test_whose_turn(node, refund, frozen, whose):
    flow = next(name for name in FlowName if node in nodes_of(name))
    assert turn(flow, state_at(node, refund, frozen)) is whose


@pytest.mark.parametrize("event", sorted(NEEDS_REASON))
@pytest.mark.parametrize("reason", [None, "", "  \n"])
def test_what_needs_a_reason_is_refused_without_one(event, reason):
    found = [(flow, stand) for flow, stand in EVERY_STAND if event in expected(flow, stand)]
    assert found
    for flow, stand in found:
        with pytest.raises(InvalidParameter, match="reason"):
            step(flow, state_at(*stand), happening(event, reason=reason))


@pytest.mark.parametrize(
    ("amount", "paid", "good"),
    [(1, 1, True), (1, 100, True), (100, 100, True), (0, 100, False), (-1, 100, False), (101, 100, False),
     (None, 100, False), (100, None, False), (None, None, False), (10**15 + 1, 10**16, False)],
)  # fmt: skip
def test_a_refund_is_above_nothing_and_at_most_what_was_paid(amount, paid, good):
    asked = happening(Event.REFUND_ASKED, Actor.BUYER, facts=Facts(amount=amount, paid=paid))
    before = state_at(Node.DELIVERING)
    if not good:
        with pytest.raises(InvalidParameter):
            step(FlowName.SELLER_CODE, before, asked)
        return
    after = step(FlowName.SELLER_CODE, before, asked)
    assert (after.refund, after.refund_amount, after.refund_at) == (Refund.ASKED, amount, NOW)
    refused = step(FlowName.SELLER_CODE, after, happening(Event.REFUND_REFUSED, Actor.SELLER))
    assert (refused.refund, refused.refund_amount, refused.refund_at) == (Refund.NONE, None, None)
    approved = step(FlowName.SELLER_CODE, after, happening(Event.REFUND_APPROVED, Actor.SELLER))
    assert (approved.node, approved.refund_amount) == (Node.REFUNDED, amount)


def test_only_events_about_money_have_an_amount():
    with pytest.raises(InvalidParameter):
        step(FlowName.SELLER_CODE, state_at(Node.DELIVERING), happening(Event.DELIVERED, facts=Facts(amount=1)))


@pytest.mark.parametrize(("lead", "good"), [(5 * MINUTE, True), (5 * MINUTE + 1, False)])
def test_an_event_of_the_future_is_refused(lead, good):
    told = happening(Event.DELIVERED, at=NOW + lead)
    if good:
        assert step(FlowName.SELLER_CODE, state_at(Node.DELIVERING), told, now=NOW).entered_at == NOW + lead
    else:
        with pytest.raises(InvalidParameter):
            step(FlowName.SELLER_CODE, state_at(Node.DELIVERING), told, now=NOW)


def test_rejections_are_counted_and_every_one_returns_to_the_proof():
    state = state_at(Node.PROVING)
    for count in range(1, 5):
        state = step(FlowName.SELLER_CODE, state, happening(Event.PROOF_UPLOADED, Actor.SELLER))
        assert grounds(FlowName.SELLER_CODE, state, NOW) == ((Ground.REJECTED_OFTEN,) if count > 3 else ())
        state = step(FlowName.SELLER_CODE, state, happening(Event.REJECTED, Actor.BUYER))
        assert (state.rejections, state.node) == (count, Node.PROVING)


@pytest.mark.parametrize(
    ("flow", "node", "idle", "found"),
    [
        (FlowName.SELLER_CODE, Node.BUYER_CONFIRMING, IDLE, ()),
        (FlowName.SELLER_CODE, Node.BUYER_CONFIRMING, IDLE + 1, (Ground.BUYER_IDLE,)),
        (FlowName.SELLER_CODE, Node.PROVING, IDLE + 1, ()),
        (FlowName.HARDWARE, Node.DELIVERING, IDLE + 1, (Ground.SELLER_IDLE,)),
        (FlowName.HARDWARE, Node.DELIVERING, IDLE, ()),
        (FlowName.SELLER_CODE, Node.COMPLETED, IDLE + 1, ()),
    ],
)
def test_documented_grounds(flow, node, idle, found):
    assert IDLE == 120 * 3_600 * SECOND
    assert grounds(flow, state_at(node), T0 + idle) == found


def test_a_frozen_case_has_no_grounds():
    frozen = state_at(Node.BUYER_CONFIRMING, frozen=True, rejections=3)
    assert grounds(FlowName.SELLER_CODE, frozen, T0 + IDLE + 1) == ()


def test_idle_time_begins_anew_after_what_held_the_case_up():
    flow, before = FlowName.SELLER_CODE, state_at(Node.BUYER_CONFIRMING)
    frozen = step(flow, before, happening(Event.APPEALED, Actor.SELLER))
    assert (frozen.entered_at, frozen.appealed_at) == (T0, NOW)
    ruled = step(flow, frozen, happening(Event.RULED_CONTINUE, at=NOW + 1))
    assert (ruled.entered_at, ruled.appealed_at, ruled.node) == (NOW + 1, None, Node.BUYER_CONFIRMING)
    asked = step(flow, before, happening(Event.REFUND_ASKED, Actor.BUYER))
    assert asked.entered_at == T0
    assert step(flow, asked, happening(Event.REFUND_REFUSED, at=NOW + 2)).entered_at == NOW + 2


def test_an_appeal_within_a_refund_leaves_it_as_it_was():
    state = state_at(Node.BUYER_CONFIRMING, Refund.ASKED, refund_amount=5)
    state = step(FlowName.SELLER_CODE, state, happening(Event.APPEALED, Actor.BUYER))
    state = step(FlowName.SELLER_CODE, state, happening(Event.RULED_CONTINUE))
    assert (state.refund, state.refund_amount, state.refund_at, state.entered_at) == (Refund.ASKED, 5, T0, T0)


CONFIRMED = {"confirmed_at": NOW}


def test_only_a_confirmed_acceptance_completes():
    flow, before = FlowName.SELLER_CODE, state_at(Node.BUYER_CONFIRMING)
    here = step(flow, before, happening(Event.ACCEPTED, Actor.BUYER))
    assert (here.accepted_at, here.acceptance_confirmed_at, here.unconfirmed_since) == (NOW, None, NOW)
    with pytest.raises(AcceptanceNotConfirmed):
        step(flow, here, happening(Event.COMPLETED, Actor.SYSTEM))
    there = step(flow, before, happening(Event.ACCEPTED, Actor.BUYER, **CONFIRMED))
    assert (there.acceptance_confirmed_at, there.unconfirmed_since) == (NOW, None)
    done = step(flow, there, happening(Event.COMPLETED, Actor.SYSTEM, facts=Facts(settlement_month="2026-12")))
    assert (done.node, done.completed_at, done.settlement_month) == (Node.COMPLETED, NOW, "2026-12")


def test_a_completion_that_the_marketplace_shows_confirms_the_acceptance():
    flow = FlowName.SELLER_CODE
    here = step(flow, state_at(Node.BUYER_CONFIRMING), happening(Event.ACCEPTED, Actor.BUYER))
    done = step(flow, here, happening(Event.COMPLETED, Actor.MARKETPLACE, **CONFIRMED))
    assert (done.node, done.acceptance_confirmed_at, done.unconfirmed_since) == (Node.COMPLETED, NOW, None)


@pytest.mark.parametrize(
    ("flow", "event", "unconfirmed"),
    [
        (FlowName.SELLER_CODE, Event.PROOF_UPLOADED, True),
        (FlowName.LICENSE_2_0_2024_09, Event.CLAIMED, True),
        (FlowName.LICENSE_2_0_BEFORE_2024_09, Event.ACTIVATED, True),  # it brings the acceptance about
        (FlowName.LICENSE_2_0_2025_04, Event.ACTIVATED, False),
        (FlowName.SELLER_CODE, Event.DELIVERED, False),
        (FlowName.SELLER_CODE, Event.APPEALED, False),
    ],
)
def test_what_was_done_here_waits_for_its_confirmation(flow, event, unconfirmed):
    stand = next(stand for stand in stands(flow) if event in expected(flow, stand))
    assert (step(flow, state_at(*stand), happening(event)).unconfirmed_since is not None) is unconfirmed
    assert step(flow, state_at(*stand), happening(event, **CONFIRMED)).unconfirmed_since is None


def test_a_reopened_case_is_neither_accepted_nor_settled():
    done = msgspec.structs.replace(state_at(Node.COMPLETED), settlement_month="2026-12", rejections=2)
    again = step(FlowName.SELLER_CODE, done, happening(Event.REOPENED))
    assert again == CaseState(node=Node.PROVING, entered_at=NOW, rejections=2)


def story(*events):
    return [happening(event, actor, at=T0 + minute * MINUTE) for minute, (event, actor) in enumerate(events)]


STORY = story(
    (Event.STARTED, Actor.SYSTEM),
    (Event.DELIVERED, Actor.SELLER),
    (Event.ACTIVATED, Actor.SOFTWARE),
    (Event.PROOF_UPLOADED, Actor.SELLER),
    (Event.REJECTED, Actor.BUYER),
    (Event.PROOF_UPLOADED, Actor.SELLER),
    (Event.APPEALED, Actor.SELLER),
    (Event.RULED_ACCEPTED, Actor.MARKETPLACE),
)


def test_the_log_rebuilds_the_state_step_by_step():
    state = opened(T0)
    for number, told in enumerate(STORY, start=1):
        state = step(FlowName.SELLER_CODE, state, told)
        assert replay(FlowName.SELLER_CODE, STORY[:number]) == state
    assert (state.node, state.rejections, state.unconfirmed_since) == (Node.ACCEPTED, 1, T0 + 3 * MINUTE)


def test_confirming_an_event_confirms_all_before_it():
    place = latest(STORY, Event.PROOF_UPLOADED)
    assert place == 5
    log = confirm(STORY, place, NOW)
    assert [told.confirmed_at is not None for told in log] == [True] * 6 + [False] * 2
    assert confirm(log, 2, NOW + 1) == log
    state = replay(FlowName.SELLER_CODE, log)
    assert (state.unconfirmed_since, state.acceptance_confirmed_at) == (STORY[7].at, None)
    state = replay(FlowName.SELLER_CODE, confirm(log, 7, NOW + 2))
    assert (state.unconfirmed_since, state.acceptance_confirmed_at) == (None, NOW + 2)


def test_what_happened_before_a_reopening_is_not_the_latest():
    log = [*STORY, happening(Event.COMPLETED, **CONFIRMED), happening(Event.REOPENED)]
    assert latest(log, Event.PROOF_UPLOADED) is None
    assert latest(log, Event.REOPENED) == 9
    assert latest([], Event.STARTED) is None


def test_a_log_with_a_gap_is_refused():
    with pytest.raises(IllegalTransition):
        replay(FlowName.SELLER_CODE, STORY[:2] + STORY[3:])


def test_an_activation_passes_every_node_before_the_proof_in_every_flow():
    for flow, table in LINES.items():
        for node in BEFORE_ACTIVATION & set(table):
            after = step(flow, state_at(node, frozen=True), happening(Event.ACTIVATED, Actor.SOFTWARE))
            assert after.node not in BEFORE_ACTIVATION
            assert after.appealed_at == T0


@pytest.mark.parametrize("flow", FlowName)
def test_a_diagram_has_one_edge_for_each_cell(flow):
    edges = {line.strip() for line in mermaid(flow).splitlines() if ": " in line}
    told = {f"{node} --> {to}: {event}" for node, row in LINES[flow].items() for event, (to, _) in row.items()}
    assert edges == told | {f"COMPLETED --> {FLOWS[flow].reopens_at}: reopened"}


@pytest.mark.parametrize("name", REFUND_PROCEDURES)
def test_a_refund_diagram_has_one_edge_for_each_cell(name):
    procedure = REFUND_PROCEDURES[name]
    edges = [line for line in refund_mermaid(procedure).splitlines() if ": " in line]
    assert len(edges) == sum(len(row) for row in procedure.values())


@pytest.mark.parametrize("flow", FlowName)
def test_every_flow_is_chosen_by_some_order(flow):
    assert any(flow in row for rows in IN_FORCE.values() for row in rows)
    assert set(ENDS) <= set(FLOWS[flow].cells)
