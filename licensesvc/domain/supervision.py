"""The words of service supervision (服务监管, spec §6): flows, nodes, events, actors, sources.

In: names and the tables about nodes and events that hold in every flow. Out: which event leads where (supervision_flows.py), what it does
to a case (supervision_case.py), until when (supervision_deadlines.py), what the seller must upload (acceptance.py).

A new node is a name and a row of `NODES`; a new event is a name, and where it applies a place in `NEEDS_REASON` and `SEEN_THERE`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class FlowName(StrEnum):
    """A version of the supervision flow, fixed for a case when it opens."""

    SELLER_CODE = "seller-code"
    LICENSE_2_0_BEFORE_2024_09 = "license-2.0-before-2024-09"
    LICENSE_2_0_2024_09 = "license-2.0-2024-09"
    LICENSE_2_0_2024_09_REVIEWED = "license-2.0-2024-09-reviewed"
    LICENSE_2_0_2025_04 = "license-2.0-2025-04"
    LICENSE_2_0_2025_04_REVIEWED = "license-2.0-2025-04-reviewed"
    LICENSE_1_0_BUYER_CODE = "license-1.0-buyer-code"
    SELLER_DELIVERY = "seller-delivery"
    SOFTWARE_PACKAGE = "software-package"
    SAAS_HUMAN = "saas-human"
    HARDWARE = "hardware"


class Node(StrEnum):
    """Where a case stands."""

    PAID = "PAID"
    SUBMITTING = "SUBMITTING"
    DELIVERING = "DELIVERING"
    CLAIMING = "CLAIMING"
    ACTIVATING = "ACTIVATING"
    PROVING = "PROVING"
    REVIEWING = "REVIEWING"
    BUYER_CONFIRMING = "BUYER_CONFIRMING"
    ACCEPTED = "ACCEPTED"
    COMPLETED = "COMPLETED"
    REFUNDED = "REFUNDED"


class Refund(StrEnum):
    """How far a refund is, beside the node: most cases have none."""

    NONE = "NONE"
    ASKED = "ASKED"
    AWAITING_GOODS = "AWAITING_GOODS"
    PENDING_INSPECTION = "PENDING_INSPECTION"
    APPROVED = "APPROVED"
    PAID_BACK = "PAID_BACK"


class Event(StrEnum):
    """What happens to a case."""

    STARTED = "started"
    CODE_SUBMITTED = "code_submitted"
    DELIVERED = "delivered"
    CLAIMED = "claimed"
    ACTIVATED = "activated"
    PROOF_UPLOADED = "proof_uploaded"
    REVIEW_APPROVED = "review_approved"
    REVIEW_RETURNED = "review_returned"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    COMPLETED = "completed"
    APPEALED = "appealed"
    RULED_CONTINUE = "ruled_continue"
    RULED_ACCEPTED = "ruled_accepted"
    RULED_REFUNDED = "ruled_refunded"
    REFUND_ASKED = "refund_asked"
    REFUND_APPROVED = "refund_approved"
    REFUND_REFUSED = "refund_refused"
    GOODS_SENT_BACK = "goods_sent_back"
    GOODS_CONFIRMED = "goods_confirmed"
    GOODS_REFUSED = "goods_refused"
    REFUNDED = "refunded"
    REOPENED = "reopened"


class Actor(StrEnum):
    """Who causes an event; `system` is this program, `operator` records what the marketplace shows."""

    BUYER = "buyer"
    SELLER = "seller"
    SOFTWARE = "software"
    MARKETPLACE = "marketplace"
    SYSTEM = "system"
    OPERATOR = "operator"


class Source(StrEnum):
    """How we know of an event: by a call of the marketplace or of end-user software, by an operator, by our buyer's page, from a file, or by a documented rule.

    A rule says that something must have happened by now.
    """

    MARKETPLACE = "marketplace"
    SOFTWARE = "software"
    OPERATOR = "operator"
    BUYER_PAGE = "buyer_page"
    IMPORT = "import"
    RULE = "rule"


NODES: Final[Mapping[Node, tuple[str, Actor | None]]] = {
    Node.PAID: ("支付成功", Actor.SYSTEM),
    Node.SUBMITTING: ("用户提交识别码", Actor.BUYER),
    Node.DELIVERING: ("商家实施交付", Actor.SELLER),
    Node.CLAIMING: ("用户领取授权码", Actor.BUYER),
    Node.ACTIVATING: ("授权码激活", Actor.SOFTWARE),
    Node.PROVING: ("商家上传交付证明", Actor.SELLER),
    Node.REVIEWING: ("华为云复核", Actor.MARKETPLACE),
    Node.BUYER_CONFIRMING: ("用户确认验收", Actor.BUYER),
    Node.ACCEPTED: ("已验收", Actor.MARKETPLACE),
    Node.COMPLETED: ("完成", None),
    Node.REFUNDED: ("已退订", None),
}
"""Each node by the marketplace's name, and whose turn it is there; None where a flow ends (spec §6.3)."""

REFUNDS: Final[Mapping[Refund, Actor | None]] = {
    Refund.NONE: None,
    Refund.ASKED: Actor.SELLER,
    Refund.AWAITING_GOODS: Actor.BUYER,
    Refund.PENDING_INSPECTION: Actor.SELLER,
    Refund.APPROVED: Actor.MARKETPLACE,
    Refund.PAID_BACK: None,
}
"""Whose turn it is while a refund is under way (spec §§6.8, 6.9)."""

OPEN_REFUNDS: Final = frozenset({Refund.ASKED, Refund.AWAITING_GOODS, Refund.PENDING_INSPECTION})
"""A refund that is not decided yet: the flow waits for it."""

ENDS: Final = frozenset({Node.COMPLETED, Node.REFUNDED})
"""Where a flow ends."""

BEFORE_ACTIVATION: Final = frozenset({Node.PAID, Node.SUBMITTING, Node.DELIVERING, Node.CLAIMING, Node.ACTIVATING})
"""Where no case stays whose license was activated."""

NEEDS_REASON: Final = frozenset(
    {
        Event.REVIEW_RETURNED,
        Event.REJECTED,
        Event.APPEALED,
        Event.RULED_CONTINUE,
        Event.RULED_ACCEPTED,
        Event.RULED_REFUNDED,
        Event.REFUND_ASKED,
        Event.REFUND_REFUSED,
        Event.GOODS_REFUSED,
        Event.REOPENED,
    }
)
"""Events that nobody records without saying why."""

SEEN_THERE: Final = frozenset(
    {
        Event.CODE_SUBMITTED,
        Event.CLAIMED,
        Event.PROOF_UPLOADED,
        Event.REVIEW_APPROVED,
        Event.REVIEW_RETURNED,
        Event.ACCEPTED,
        Event.REJECTED,
        Event.REFUND_ASKED,
        Event.REFUND_APPROVED,
        Event.REFUND_REFUSED,
        Event.GOODS_SENT_BACK,
        Event.GOODS_CONFIRMED,
        Event.GOODS_REFUSED,
        Event.REFUNDED,
        Event.COMPLETED,
    }
)
"""Events that happen on the marketplace's pages: one that we only know from here waits to be confirmed there (ADR 40)."""
