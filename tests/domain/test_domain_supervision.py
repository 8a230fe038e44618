"""Supervision: both flows cell by cell (spec §6.3), and every missing cell refuses."""

from itertools import pairwise, product

import pytest

from licensesvc.domain.errors import IllegalTransition
from licensesvc.domain.supervision import FLOWS, Actor, Event, FlowName, Node, actors_of, mermaid, step, waits_for

COMMON = {
    (Node.PAID, Event.STARTED): Node.DELIVERING,
    (Node.PAID, Event.ACTIVATED): Node.PROVING,
    (Node.DELIVERING, Event.DELIVERED): Node.ACTIVATING,
    (Node.DELIVERING, Event.ACTIVATED): Node.PROVING,
    (Node.ACTIVATING, Event.ACTIVATED): Node.PROVING,
    (Node.ACCEPTED, Event.COMPLETED): Node.COMPLETED,
}
LEGAL = {
    FlowName.SELLER_CODE: COMMON
    | {
        (Node.PROVING, Event.PROOF_UPLOADED): Node.BUYER_CONFIRMING,
        (Node.BUYER_CONFIRMING, Event.ACCEPTED): Node.ACCEPTED,
        (Node.BUYER_CONFIRMING, Event.REJECTED): Node.PROVING,
    },
    FlowName.LICENSE_2_0_2025_04: COMMON | {(Node.PROVING, Event.PROOF_UPLOADED): Node.ACCEPTED},
}


@pytest.mark.parametrize(("flow", "node", "event"), list(product(FlowName, Node, Event)))
def test_every_node_and_event(flow, node, event):
    leads_to = LEGAL[flow].get((node, event))
    if leads_to is not None:
        assert step(flow, node, event) is leads_to
        return
    with pytest.raises(IllegalTransition) as refused:
        step(flow, node, event)
    assert (refused.value.state, refused.value.event) == (node, event)


@pytest.mark.parametrize(
    ("flow", "path"),
    [
        (FlowName.SELLER_CODE, list(Node)),
        (FlowName.LICENSE_2_0_2025_04, [node for node in Node if node is not Node.BUYER_CONFIRMING]),
    ],
)
def test_the_straight_way_passes_every_node(flow, path):
    assert list(FLOWS[flow]) == path
    for node, following in pairwise(path):
        assert following in {cell.node for cell in FLOWS[flow][node].values()}


def test_a_rejection_returns_to_the_proof_any_number_of_times():
    node = Node.PROVING
    for _ in range(5):
        node = step(FlowName.SELLER_CODE, node, Event.PROOF_UPLOADED)
        node = step(FlowName.SELLER_CODE, node, Event.REJECTED)
    assert node is Node.PROVING


@pytest.mark.parametrize("flow", FlowName)
def test_an_operator_may_record_every_event(flow):
    assert all(Actor.OPERATOR in cell.actors for row in FLOWS[flow].values() for cell in row.values())


@pytest.mark.parametrize(
    ("flow", "node", "actors", "turn"),
    [
        (flow, *row)
        for flow in FlowName
        for row in [
            (Node.PAID, {Actor.SYSTEM, Actor.MARKETPLACE, Actor.SOFTWARE}, Actor.SYSTEM),
            (Node.DELIVERING, {Actor.SELLER, Actor.SYSTEM, Actor.MARKETPLACE, Actor.SOFTWARE}, Actor.SELLER),
            (Node.ACTIVATING, {Actor.SOFTWARE, Actor.MARKETPLACE}, Actor.SOFTWARE),
            (Node.PROVING, {Actor.SELLER}, Actor.SELLER),
            (Node.ACCEPTED, {Actor.MARKETPLACE, Actor.SYSTEM}, Actor.MARKETPLACE),
        ]
    ]
    + [(FlowName.SELLER_CODE, Node.BUYER_CONFIRMING, {Actor.BUYER}, Actor.BUYER)],
)
def test_who_may_act_and_whose_turn_it_is(flow, node, actors, turn):
    assert actors_of(flow, node) - {Actor.MARKETPLACE} == actors - {Actor.MARKETPLACE} | {Actor.OPERATOR}
    assert actors <= actors_of(flow, node)
    assert waits_for(flow, node) is turn


@pytest.mark.parametrize(
    ("flow", "node"),
    [
        (FlowName.SELLER_CODE, Node.COMPLETED),
        (FlowName.LICENSE_2_0_2025_04, Node.COMPLETED),
        (FlowName.LICENSE_2_0_2025_04, Node.BUYER_CONFIRMING),
    ],
)
def test_nobody_acts_where_the_flow_ends_or_lacks_the_node(flow, node):
    assert actors_of(flow, node) == frozenset()
    assert waits_for(flow, node) is None


@pytest.mark.parametrize("flow", FlowName)
def test_the_one_whose_turn_it_is_may_act(flow):
    assert all(waits_for(flow, node) in actors_of(flow, node) for node in FLOWS[flow] if node is not Node.COMPLETED)


def test_diagram():
    assert mermaid(FlowName.LICENSE_2_0_2025_04) == (
        "stateDiagram-v2\n"
        "    [*] --> PAID\n"
        "    PAID --> DELIVERING: started\n"
        "    PAID --> PROVING: activated\n"
        "    DELIVERING --> ACTIVATING: delivered\n"
        "    DELIVERING --> PROVING: activated\n"
        "    ACTIVATING --> PROVING: activated\n"
        "    PROVING --> ACCEPTED: proof_uploaded\n"
        "    ACCEPTED --> COMPLETED: completed\n"
        "    COMPLETED --> [*]\n"
    )


@pytest.mark.parametrize("flow", FlowName)
def test_diagram_has_one_edge_for_each_cell(flow):
    edges = [line.strip() for line in mermaid(flow).splitlines() if ": " in line]
    assert sorted(edges) == sorted(f"{node} --> {to}: {event}" for (node, event), to in LEGAL[flow].items())
