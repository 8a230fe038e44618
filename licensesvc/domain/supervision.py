"""Service supervision (服务监管): one table per version of the flow, from payment to completion (spec §6.3).

In: the tables, stepping through them, and their diagrams. Out: proofs, deadlines and appeals.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from licensesvc.domain.errors import IllegalTransition


class FlowName(StrEnum):
    """A version of the supervision flow, fixed for a case when it opens."""

    SELLER_CODE = "seller-code"
    LICENSE_2_0_2025_04 = "license-2.0-2025-04"


class Node(StrEnum):
    """Where a case stands."""

    PAID = "PAID"
    DELIVERING = "DELIVERING"
    ACTIVATING = "ACTIVATING"
    PROVING = "PROVING"
    BUYER_CONFIRMING = "BUYER_CONFIRMING"
    ACCEPTED = "ACCEPTED"
    COMPLETED = "COMPLETED"


class Event(StrEnum):
    """What moves a case."""

    STARTED = "started"
    DELIVERED = "delivered"
    ACTIVATED = "activated"
    PROOF_UPLOADED = "proof_uploaded"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    COMPLETED = "completed"


class Actor(StrEnum):
    """Who causes an event; `system` is this program, `operator` records what the marketplace shows."""

    BUYER = "buyer"
    SELLER = "seller"
    SOFTWARE = "software"
    MARKETPLACE = "marketplace"
    SYSTEM = "system"
    OPERATOR = "operator"


class Cell(NamedTuple):
    """Where an event leads and who may cause it."""

    node: Node
    actors: frozenset[Actor]


Flow: TypeAlias = Mapping[Node, Mapping[Event, Cell]]


def _cell(node: Node, *actors: Actor) -> Cell:
    return Cell(node, frozenset({*actors, Actor.OPERATOR}))


# The software can only have the code if it was delivered: an activation passes every node before PROVING.
_ACTIVATED: Final = {Event.ACTIVATED: _cell(Node.PROVING, Actor.SOFTWARE, Actor.MARKETPLACE)}
_UNTIL_PROVING: Final[Flow] = {
    Node.PAID: {Event.STARTED: _cell(Node.DELIVERING, Actor.SYSTEM, Actor.MARKETPLACE), **_ACTIVATED},
    Node.DELIVERING: {
        Event.DELIVERED: _cell(Node.ACTIVATING, Actor.SELLER, Actor.SYSTEM, Actor.MARKETPLACE),
        **_ACTIVATED,
    },
    Node.ACTIVATING: _ACTIVATED,
}
_SINCE_ACCEPTED: Final[Flow] = {
    Node.ACCEPTED: {Event.COMPLETED: _cell(Node.COMPLETED, Actor.MARKETPLACE, Actor.SYSTEM)},
    Node.COMPLETED: {},
}

FLOWS: Final[Mapping[FlowName, Flow]] = {
    FlowName.SELLER_CODE: {
        **_UNTIL_PROVING,
        Node.PROVING: {Event.PROOF_UPLOADED: _cell(Node.BUYER_CONFIRMING, Actor.SELLER)},
        Node.BUYER_CONFIRMING: {
            Event.ACCEPTED: _cell(Node.ACCEPTED, Actor.BUYER),
            Event.REJECTED: _cell(Node.PROVING, Actor.BUYER),
        },
        **_SINCE_ACCEPTED,
    },
    # The system accepts by itself once the proof is there (spec §6.3, 2.0 ending).
    FlowName.LICENSE_2_0_2025_04: {
        **_UNTIL_PROVING,
        Node.PROVING: {Event.PROOF_UPLOADED: _cell(Node.ACCEPTED, Actor.SELLER)},
        **_SINCE_ACCEPTED,
    },
}

_WAITS_FOR: Final = {
    Node.PAID: Actor.SYSTEM,
    Node.DELIVERING: Actor.SELLER,
    Node.ACTIVATING: Actor.SOFTWARE,
    Node.PROVING: Actor.SELLER,
    Node.BUYER_CONFIRMING: Actor.BUYER,
    Node.ACCEPTED: Actor.MARKETPLACE,
}


def step(flow: FlowName, node: Node, event: Event) -> Node:
    """Return the node that `event` leads to; a missing cell raises IllegalTransition."""
    try:
        return FLOWS[flow][node][event].node
    except KeyError:
        raise IllegalTransition(node, event) from None


def actors_of(flow: FlowName, node: Node) -> frozenset[Actor]:
    """Return everybody who may move a case on from `node`; nobody where it ends or the flow lacks the node."""
    return frozenset[Actor]().union(*(cell.actors for cell in FLOWS[flow].get(node, {}).values()))


def waits_for(flow: FlowName, node: Node) -> Actor | None:
    """Return the one whose turn it is at `node`, None where the flow ends or lacks the node."""
    return _WAITS_FOR.get(node) if node in FLOWS[flow] else None


def mermaid(flow: FlowName) -> str:
    """Return the flow as a Mermaid state diagram, one edge a line, for the documentation."""
    edges = [f"    {node} --> {cell.node}: {event}" for node, row in FLOWS[flow].items() for event, cell in row.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {Node.PAID}", *edges, f"    {Node.COMPLETED} --> [*]", ""])
