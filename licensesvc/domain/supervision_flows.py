"""The supervision flows as tables: which event, by whom, leads from which node to which (spec §6.3, §§6.5–6.9).

In: a table for each version of a flow, the refund procedures, what an appeal allows, which flow an order follows, and the diagrams.
Out: guards that look at counts, amounts and times (supervision_case.py).

A new flow is a name in supervision.py, an entry of `FLOWS` and a row of `IN_FORCE`; the tests and docs/reference/supervision.md follow.
"""

import functools
from collections.abc import Mapping
from datetime import datetime
from typing import Final, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from licensesvc.domain.instants import Instant, from_datetime
from licensesvc.domain.product import DeliveryKind
from licensesvc.domain.supervision import ENDS, OPEN_REFUNDS, Actor, Event, FlowName, Node, Refund


class Cell(NamedTuple):
    """Where an event leads and who may cause it."""

    node: Node
    actors: frozenset[Actor]


class RefundCell(NamedTuple):
    """How far an event takes a refund and who may cause it."""

    refund: Refund
    actors: frozenset[Actor]


Cells: TypeAlias = Mapping[Node, Mapping[Event, Cell]]
Procedure: TypeAlias = Mapping[Refund, Mapping[Event, RefundCell]]


class Flow(NamedTuple):
    """One version of the flow.

    `submission` is the event with which the seller lays the work before whoever accepts it, so the acceptance standard must be met;
    a refund may be asked for at the `refundable` nodes; a completed case that is reopened stands at `reopens_at`.
    """

    title: str
    cells: Cells
    submission: Event | None
    refundable: frozenset[Node]
    procedure: Procedure
    reopens_at: Node


class Move(NamedTuple):
    """What one event would make of a case, and who may cause it."""

    node: Node
    refund: Refund
    frozen: bool
    actors: frozenset[Actor]


_DECIDED: Final = frozenset({Refund.APPROVED, Refund.PAID_BACK})
"""A refund that is granted ends the case."""


def _by(*actors: Actor) -> frozenset[Actor]:
    """These actors, and the operator, who records what the marketplace shows."""
    return frozenset({*actors, Actor.OPERATOR})


# What the marketplace tells of the end has happened there, wherever the case stands here (ADR 40).
_ACCEPTED_THERE: Final = {Event.ACCEPTED: Cell(Node.ACCEPTED, _by(Actor.MARKETPLACE))}
_REFUNDED_THERE: Final = {Event.REFUNDED: RefundCell(Refund.PAID_BACK, _by(Actor.MARKETPLACE))}
_STARTED_BY: Final = _by(Actor.SYSTEM, Actor.MARKETPLACE)
_DELIVERED_BY: Final = _by(Actor.SELLER, Actor.SYSTEM, Actor.MARKETPLACE)
_ENDING: Final[Cells] = {
    Node.ACCEPTED: {Event.COMPLETED: Cell(Node.COMPLETED, _by(Actor.MARKETPLACE, Actor.SYSTEM))},
    Node.COMPLETED: {},
    Node.REFUNDED: {},
}


def _activated(to: Node) -> dict[Event, Cell]:
    """The software can only have a code that was delivered: an activation passes every node before `to`."""
    return {Event.ACTIVATED: Cell(to, _by(Actor.SOFTWARE, Actor.MARKETPLACE))}


def _confirming(rejected_to: Node) -> dict[Event, Cell]:
    return {
        Event.ACCEPTED: Cell(Node.ACCEPTED, _by(Actor.BUYER, Actor.MARKETPLACE)),
        Event.REJECTED: Cell(rejected_to, _by(Actor.BUYER, Actor.MARKETPLACE)),
    }


def _code_until(to: Node, *, claim: bool) -> Cells:
    """From payment to the activation of a code, which leads `to`; with `claim` the buyer fetches the code first."""
    passes = {**_activated(to), **_ACCEPTED_THERE}
    delivered = Node.CLAIMING if claim else Node.ACTIVATING
    claiming: Cells = {
        Node.CLAIMING: {
            Event.CLAIMED: Cell(Node.ACTIVATING, _by(Actor.BUYER, Actor.MARKETPLACE)),
            **passes,
        }
    }
    return {
        Node.PAID: {Event.STARTED: Cell(Node.DELIVERING, _STARTED_BY), **passes},
        Node.DELIVERING: {Event.DELIVERED: Cell(delivered, _DELIVERED_BY), **passes},
        **(claiming if claim else {}),
        Node.ACTIVATING: passes,
    }


def _proving(to: Node) -> Cells:
    return {
        Node.PROVING: {Event.PROOF_UPLOADED: Cell(to, _by(Actor.SELLER, Actor.MARKETPLACE)), **_ACCEPTED_THERE},
    }


_REVIEWING: Final[Cells] = {
    Node.REVIEWING: {
        Event.REVIEW_APPROVED: Cell(Node.ACCEPTED, _by(Actor.MARKETPLACE)),
        Event.REVIEW_RETURNED: Cell(Node.PROVING, _by(Actor.MARKETPLACE)),
        **_ACCEPTED_THERE,
    }
}


def _license_2_0(title: str, *, claim: bool, review: bool) -> Flow:
    """The system accepts by itself once the proof is there, or once the review has passed (spec §6.3, 2.0 ending)."""
    cells: Cells = {
        **_code_until(Node.PROVING, claim=claim),
        **_proving(Node.REVIEWING if review else Node.ACCEPTED),
        **(_REVIEWING if review else {}),
        **_ENDING,
    }
    refundable = {Node.PAID, Node.DELIVERING, Node.CLAIMING} if claim else set(cells) - ENDS
    return Flow(title, cells, Event.PROOF_UPLOADED, frozenset(refundable), NEGOTIATED, Node.PROVING)


def _delivered_and_accepted(title: str, procedure: Procedure, *, buyer_code: bool = False) -> Flow:
    """The seller delivers, the buyer accepts; with `buyer_code` the buyer first says what to make the license for."""
    passes = {**_activated(Node.BUYER_CONFIRMING), **_ACCEPTED_THERE}
    submitting: Cells = {
        Node.SUBMITTING: {
            Event.CODE_SUBMITTED: Cell(Node.DELIVERING, _by(Actor.BUYER, Actor.MARKETPLACE)),
            **passes,
        }
    }
    cells: Cells = {
        Node.PAID: {Event.STARTED: Cell(Node.SUBMITTING if buyer_code else Node.DELIVERING, _STARTED_BY), **passes},
        **(submitting if buyer_code else {}),
        Node.DELIVERING: {Event.DELIVERED: Cell(Node.BUYER_CONFIRMING, _DELIVERED_BY), **passes},
        Node.BUYER_CONFIRMING: _confirming(Node.DELIVERING),
        **_ENDING,
    }
    return Flow(title, cells, Event.DELIVERED, frozenset(set(cells) - ENDS), procedure, Node.DELIVERING)


_ASKED: Final = {Event.REFUND_ASKED: RefundCell(Refund.ASKED, _by(Actor.BUYER, Actor.MARKETPLACE))}
_PAYING: Final[Procedure] = {
    Refund.APPROVED: {Event.REFUNDED: RefundCell(Refund.PAID_BACK, _by(Actor.MARKETPLACE))},
    Refund.PAID_BACK: {},
}
NEGOTIATED: Final[Procedure] = {
    Refund.NONE: {**_ASKED, **_REFUNDED_THERE},
    Refund.ASKED: {
        Event.REFUND_APPROVED: RefundCell(Refund.APPROVED, _by(Actor.SELLER, Actor.MARKETPLACE)),
        Event.REFUND_REFUSED: RefundCell(Refund.NONE, _by(Actor.SELLER, Actor.MARKETPLACE)),
        **_REFUNDED_THERE,
    },
    **_PAYING,
}
"""The buyer proposes an amount, the seller agrees or not (spec §6.8)."""
RETURN_OF_GOODS: Final[Procedure] = {
    Refund.NONE: {**_ASKED, **_REFUNDED_THERE},
    Refund.ASKED: {
        Event.REFUND_APPROVED: RefundCell(Refund.AWAITING_GOODS, _by(Actor.SELLER, Actor.MARKETPLACE)),
        Event.REFUND_REFUSED: RefundCell(Refund.NONE, _by(Actor.SELLER, Actor.MARKETPLACE)),
        **_REFUNDED_THERE,
    },
    Refund.AWAITING_GOODS: {
        Event.GOODS_SENT_BACK: RefundCell(Refund.PENDING_INSPECTION, _by(Actor.BUYER, Actor.MARKETPLACE)),
        **_REFUNDED_THERE,
    },
    Refund.PENDING_INSPECTION: {
        Event.GOODS_CONFIRMED: RefundCell(Refund.APPROVED, _by(Actor.SELLER, Actor.MARKETPLACE)),
        Event.GOODS_REFUSED: RefundCell(Refund.NONE, _by(Actor.SELLER, Actor.MARKETPLACE)),
        **_REFUNDED_THERE,
    },
    **_PAYING,
}
"""Hardware comes back and is inspected before the refund starts by itself (spec §6.9)."""
REFUND_PROCEDURES: Final = {"negotiated": NEGOTIATED, "return-of-goods": RETURN_OF_GOODS}

FLOWS: Final[Mapping[FlowName, Flow]] = {
    FlowName.SELLER_CODE: Flow(
        "License whose code the seller makes (License 1.0 interface, 在线开通License)",
        {
            **_code_until(Node.PROVING, claim=False),
            **_proving(Node.BUYER_CONFIRMING),
            Node.BUYER_CONFIRMING: _confirming(Node.PROVING),
            **_ENDING,
        },
        Event.PROOF_UPLOADED,
        frozenset(set(_code_until(Node.PROVING, claim=False)) | {Node.PROVING, Node.BUYER_CONFIRMING, Node.ACCEPTED}),
        NEGOTIATED,
        Node.PROVING,
    ),
    # Claiming and activating counts as acceptance; a license could not be unsubscribed then (spec §6.3, §6.8 older rule).
    FlowName.LICENSE_2_0_BEFORE_2024_09: Flow(
        "License 2.0 (线上授权码), orders before 2024-09-14",
        {**_code_until(Node.ACCEPTED, claim=True), **_ENDING},
        None,
        frozenset(),
        NEGOTIATED,
        Node.ACTIVATING,
    ),
    FlowName.LICENSE_2_0_2024_09: _license_2_0(
        "License 2.0 (线上授权码), orders from 2024-09-14 to 2025-04-24", claim=True, review=False
    ),
    FlowName.LICENSE_2_0_2024_09_REVIEWED: _license_2_0(
        "License 2.0 (线上授权码), 赋能云 orders from 2024-09-14 to 2025-04-24", claim=True, review=True
    ),
    FlowName.LICENSE_2_0_2025_04: _license_2_0(
        "License 2.0 (线上授权码), orders from 2025-04-25", claim=False, review=False
    ),
    FlowName.LICENSE_2_0_2025_04_REVIEWED: _license_2_0(
        "License 2.0 (线上授权码), 赋能云 orders from 2025-04-25", claim=False, review=True
    ),
    FlowName.LICENSE_1_0_BUYER_CODE: _delivered_and_accepted(
        "License 1.0 (线上系统识别码/硬件识别码)", NEGOTIATED, buyer_code=True
    ),
    FlowName.SELLER_DELIVERY: _delivered_and_accepted("General License (商家线下交付)", NEGOTIATED),
    FlowName.SOFTWARE_PACKAGE: _delivered_and_accepted("Software package (软件包部署)", NEGOTIATED),
    FlowName.SAAS_HUMAN: _delivered_and_accepted("SaaS with human work", NEGOTIATED),
    FlowName.HARDWARE: _delivered_and_accepted("Hardware", RETURN_OF_GOODS),
}

_RULING: Final = _by(Actor.MARKETPLACE)


@functools.cache
def moves(name: FlowName, node: Node, refund: Refund, *, frozen: bool) -> Mapping[Event, Move]:
    """Return everything that may happen to a case that stands so, by whom, and what it leads to.

    While an appeal runs nobody acts until it is ruled on; while a refund is asked for, the flow waits (spec §6.5, §6.8), unless the
    marketplace shows that the case has ended otherwise. Only the software is stopped by neither: an activation is a fact, not an act.
    """
    flow = FLOWS[name]
    if node not in flow.cells:
        return {}
    here = {event: Move(cell.node, refund, False, cell.actors) for event, cell in flow.cells[node].items()}
    facts: dict[Event, Move] = {
        event: move._replace(frozen=frozen) for event, move in here.items() if event is Event.ACTIVATED
    }
    appeal = {Event.APPEALED: Move(node, refund, True, _by(Actor.SELLER, Actor.BUYER, Actor.MARKETPLACE))}
    refunds = {
        event: Move(Node.REFUNDED if cell.refund in _DECIDED else node, cell.refund, False, cell.actors)
        for event, cell in flow.procedure.get(refund, {}).items()
    }
    if frozen:
        return {
            **facts,
            Event.RULED_CONTINUE: Move(node, refund, False, _RULING),
            Event.RULED_ACCEPTED: Move(Node.ACCEPTED, Refund.NONE, False, _RULING),
            Event.RULED_REFUNDED: Move(Node.REFUNDED, Refund.APPROVED, False, _RULING),
        }
    if refund in OPEN_REFUNDS:
        ended: dict[Event, Move] = {
            event: Move(here[event].node, Refund.NONE, False, _by(Actor.MARKETPLACE))
            for event in (Event.ACCEPTED, Event.COMPLETED)
            if event in here
        }
        return {**facts, **ended, **appeal, **refunds}
    if node is Node.REFUNDED:
        return refunds
    if node is Node.COMPLETED:
        return {Event.REOPENED: Move(flow.reopens_at, refund, False, frozenset({Actor.OPERATOR}))}
    if node not in flow.refundable:
        refunds.pop(Event.REFUND_ASKED, None)
    return {**here, **appeal, **refunds}


_SHANGHAI: Final = ZoneInfo("Asia/Shanghai")


def _midnight(year: int, month: int, day: int) -> Instant:
    return from_datetime(datetime(year, month, day, tzinfo=_SHANGHAI))


REVIEW_SINCE: Final = _midnight(2024, 9, 14)
CLAIM_UNTIL: Final = _midnight(2025, 4, 25)
"""From this instant on codes go to buyer and seller at once, and nobody claims (spec §6.3)."""


class InForce(NamedTuple):
    """From when a flow holds for orders of a kind; `reviewed` is the one for 赋能云 orders, if they have their own."""

    since: Instant
    flow: FlowName
    reviewed: FlowName | None = None


IN_FORCE: Final[Mapping[DeliveryKind, tuple[InForce, ...]]] = {
    DeliveryKind.LICENSE_2_0: (
        InForce(CLAIM_UNTIL, FlowName.LICENSE_2_0_2025_04, FlowName.LICENSE_2_0_2025_04_REVIEWED),
        InForce(REVIEW_SINCE, FlowName.LICENSE_2_0_2024_09, FlowName.LICENSE_2_0_2024_09_REVIEWED),
        InForce(0, FlowName.LICENSE_2_0_BEFORE_2024_09),
    ),
    DeliveryKind.LICENSE_1_0: (InForce(0, FlowName.SELLER_CODE),),
    DeliveryKind.LICENSE_1_0_SYSTEM_CODE: (InForce(0, FlowName.LICENSE_1_0_BUYER_CODE),),
    DeliveryKind.LICENSE_1_0_HARDWARE_CODE: (InForce(0, FlowName.LICENSE_1_0_BUYER_CODE),),
    DeliveryKind.ONLINE_LICENSE: (InForce(0, FlowName.SELLER_CODE),),
    DeliveryKind.GENERAL: (InForce(0, FlowName.SELLER_DELIVERY),),
    DeliveryKind.SOFTWARE_PACKAGE: (InForce(0, FlowName.SOFTWARE_PACKAGE),),
    DeliveryKind.SAAS_HUMAN: (InForce(0, FlowName.SAAS_HUMAN),),
    DeliveryKind.HARDWARE: (InForce(0, FlowName.HARDWARE),),
    DeliveryKind.AI_ASSET: (),
}
"""Per kind, the flows by the order time from which each is in force, newest first; a kind without a flow is never supervised."""


def flow_for(kind: DeliveryKind, order_time: Instant, *, enablement_cloud: bool = False) -> FlowName | None:
    """Return the flow of an order of this kind placed at `order_time`; None = no supervision.

    `enablement_cloud` marks a 赋能云 order, whose acceptance papers the marketplace reviews.
    """
    for row in IN_FORCE[kind]:
        if row.since <= order_time:
            return row.reviewed if enablement_cloud and row.reviewed else row.flow
    return None


def mermaid(name: FlowName) -> str:
    """Return the flow as a Mermaid state diagram, one edge a line, for the documentation."""
    flow = FLOWS[name]
    edges = [f"    {node} --> {cell.node}: {event}" for node, row in flow.cells.items() for event, cell in row.items()]
    edges.append(f"    {Node.COMPLETED} --> {flow.reopens_at}: {Event.REOPENED}")
    return "\n".join(["stateDiagram-v2", f"    [*] --> {Node.PAID}", *edges, f"    {Node.COMPLETED} --> [*]", ""])


def refund_mermaid(procedure: Procedure) -> str:
    """Return a refund procedure as a Mermaid state diagram, one edge a line."""
    edges = [
        f"    {refund} --> {cell.refund}: {event}" for refund, row in procedure.items() for event, cell in row.items()
    ]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {Refund.NONE}", *edges, f"    {Refund.PAID_BACK} --> [*]", ""])
