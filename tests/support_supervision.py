"""What supervision must do, written down a second time and apart from the program: every flow as the lines of a text (spec §6).

`expected` says for one stand of a case everything that may happen, by whom, and what it leads to; what it does not say is illegal.
"""

from itertools import product

from licensesvc.domain.supervision import Actor, Event, FlowName, Node, Refund

# Actors: b buyer, s seller, w software, m marketplace, y system; the operator may record everything.
_LETTERS = {"b": "buyer", "s": "seller", "w": "software", "m": "marketplace", "y": "system"}

_SELLER_CODE = """
PAID              started         ym   DELIVERING
PAID              activated       wm   PROVING
PAID              accepted        m    ACCEPTED
DELIVERING        delivered       sym  ACTIVATING
DELIVERING        activated       wm   PROVING
DELIVERING        accepted        m    ACCEPTED
ACTIVATING        activated       wm   PROVING
ACTIVATING        accepted        m    ACCEPTED
PROVING           proof_uploaded  sm   BUYER_CONFIRMING
PROVING           accepted        m    ACCEPTED
BUYER_CONFIRMING  accepted        bm   ACCEPTED
BUYER_CONFIRMING  rejected        bm   PROVING
ACCEPTED          completed       my   COMPLETED
"""
_BEFORE_2024_09 = """
PAID              started         ym   DELIVERING
PAID              activated       wm   ACCEPTED
PAID              accepted        m    ACCEPTED
DELIVERING        delivered       sym  CLAIMING
DELIVERING        activated       wm   ACCEPTED
DELIVERING        accepted        m    ACCEPTED
CLAIMING          claimed         bm   ACTIVATING
CLAIMING          activated       wm   ACCEPTED
CLAIMING          accepted        m    ACCEPTED
ACTIVATING        activated       wm   ACCEPTED
ACTIVATING        accepted        m    ACCEPTED
ACCEPTED          completed       my   COMPLETED
"""
_2024_09 = """
PAID              started         ym   DELIVERING
PAID              activated       wm   PROVING
PAID              accepted        m    ACCEPTED
DELIVERING        delivered       sym  CLAIMING
DELIVERING        activated       wm   PROVING
DELIVERING        accepted        m    ACCEPTED
CLAIMING          claimed         bm   ACTIVATING
CLAIMING          activated       wm   PROVING
CLAIMING          accepted        m    ACCEPTED
ACTIVATING        activated       wm   PROVING
ACTIVATING        accepted        m    ACCEPTED
PROVING           proof_uploaded  sm   ACCEPTED
PROVING           accepted        m    ACCEPTED
ACCEPTED          completed       my   COMPLETED
"""
_REVIEW = """
REVIEWING         review_approved m    ACCEPTED
REVIEWING         review_returned m    PROVING
REVIEWING         accepted        m    ACCEPTED
"""
_DELIVERY = """
PAID              started         ym   DELIVERING
PAID              activated       wm   BUYER_CONFIRMING
PAID              accepted        m    ACCEPTED
DELIVERING        delivered       sym  BUYER_CONFIRMING
DELIVERING        activated       wm   BUYER_CONFIRMING
DELIVERING        accepted        m    ACCEPTED
BUYER_CONFIRMING  accepted        bm   ACCEPTED
BUYER_CONFIRMING  rejected        bm   DELIVERING
ACCEPTED          completed       my   COMPLETED
"""
_SUBMITTING = """
SUBMITTING        code_submitted  bm   DELIVERING
SUBMITTING        activated       wm   BUYER_CONFIRMING
SUBMITTING        accepted        m    ACCEPTED
"""


def _changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


def _without_claim(text: str) -> str:
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("CLAIMING"))
    return _changed(kept, "sym  CLAIMING", "sym  ACTIVATING")


_REVIEWED = _changed(_2024_09, "proof_uploaded  sm   ACCEPTED", "proof_uploaded  sm   REVIEWING") + _REVIEW
FLOW_TEXTS = {
    FlowName.SELLER_CODE: _SELLER_CODE,
    FlowName.LICENSE_2_0_BEFORE_2024_09: _BEFORE_2024_09,
    FlowName.LICENSE_2_0_2024_09: _2024_09,
    FlowName.LICENSE_2_0_2024_09_REVIEWED: _REVIEWED,
    FlowName.LICENSE_2_0_2025_04: _without_claim(_2024_09),
    FlowName.LICENSE_2_0_2025_04_REVIEWED: _without_claim(_REVIEWED),
    FlowName.LICENSE_1_0_BUYER_CODE: _changed(
        _DELIVERY, "started         ym   DELIVERING", "started         ym   SUBMITTING"
    )
    + _SUBMITTING,
    FlowName.SELLER_DELIVERY: _DELIVERY,
    FlowName.SOFTWARE_PACKAGE: _DELIVERY,
    FlowName.SAAS_HUMAN: _DELIVERY,
    FlowName.HARDWARE: _DELIVERY,
}
# After the claim of the 2024-09 flow there is no negotiated refund, before it a license could not be returned at all (§6.8).
_NOT_REFUNDABLE = {
    FlowName.LICENSE_2_0_BEFORE_2024_09: set(Node),
    FlowName.LICENSE_2_0_2024_09: {Node.ACTIVATING, Node.PROVING, Node.ACCEPTED},
    FlowName.LICENSE_2_0_2024_09_REVIEWED: {Node.ACTIVATING, Node.PROVING, Node.REVIEWING, Node.ACCEPTED},
}
_REOPENED = {
    FlowName.LICENSE_2_0_BEFORE_2024_09: Node.ACTIVATING,
    FlowName.SELLER_CODE: Node.PROVING,
    FlowName.LICENSE_2_0_2024_09: Node.PROVING,
    FlowName.LICENSE_2_0_2024_09_REVIEWED: Node.PROVING,
    FlowName.LICENSE_2_0_2025_04: Node.PROVING,
    FlowName.LICENSE_2_0_2025_04_REVIEWED: Node.PROVING,
}

Stand = tuple[Node, Refund, bool]
Expected = dict[Event, tuple[Node, Refund, bool, set[Actor]]]


def _by(letters: str) -> set[Actor]:
    return {Actor(_LETTERS[letter]) for letter in letters} | {Actor.OPERATOR}


def _lines(flow: FlowName) -> dict[Node, dict[Event, tuple[Node, set[Actor]]]]:
    table: dict[Node, dict[Event, tuple[Node, set[Actor]]]] = {}
    for line in FLOW_TEXTS[flow].split("\n"):
        if line.strip():
            at, event, who, to = line.split()
            table.setdefault(Node(at), {})[Event(event)] = (Node(to), _by(who))
    return table


LINES = {flow: _lines(flow) for flow in FlowName}


def nodes_of(flow: FlowName) -> set[Node]:
    """The nodes where a case of this flow can stand."""
    return set(LINES[flow]) | {Node.COMPLETED, Node.REFUNDED}


def stands(flow: FlowName) -> list[Stand]:
    """Every stand that a case of this flow can have."""
    open_refunds = [Refund.ASKED]
    if flow is FlowName.HARDWARE:
        open_refunds += [Refund.AWAITING_GOODS, Refund.PENDING_INSPECTION]
    found: list[Stand] = [(Node.COMPLETED, Refund.NONE, False)]
    found += [(Node.REFUNDED, refund, False) for refund in (Refund.APPROVED, Refund.PAID_BACK)]
    for node, frozen in product(LINES[flow], (False, True)):
        found.append((node, Refund.NONE, frozen))
        if node not in _NOT_REFUNDABLE.get(flow, set()):
            found += [(node, refund, frozen) for refund in open_refunds]
        elif node is Node.PROVING and flow in _NOT_REFUNDABLE:
            # The software was started while a refund was asked for: it is decided all the same.
            found.append((node, Refund.ASKED, frozen))
    return found


def expected(flow: FlowName, stand: Stand) -> Expected:
    """Everything that may happen to a case that stands so."""
    node, refund, frozen = stand
    here: Expected = {event: (to, refund, False, who) for event, (to, who) in LINES[flow].get(node, {}).items()}
    activated: Expected = {
        event: (to, refund, frozen, who) for event, (to, _, _, who) in here.items() if event is Event.ACTIVATED
    }
    if frozen:
        return activated | {
            Event.RULED_CONTINUE: (node, refund, False, _by("m")),
            Event.RULED_ACCEPTED: (Node.ACCEPTED, Refund.NONE, False, _by("m")),
            Event.RULED_REFUNDED: (Node.REFUNDED, Refund.APPROVED, False, _by("m")),
        }
    appeal: Expected = {Event.APPEALED: (node, refund, True, _by("sbm"))}
    paid_back: Expected = {Event.REFUNDED: (Node.REFUNDED, Refund.PAID_BACK, False, _by("m"))}
    if refund is Refund.PAID_BACK:
        return {}
    if refund is Refund.APPROVED:
        return paid_back
    hardware = flow is FlowName.HARDWARE
    if refund is not Refund.NONE:  # the marketplace shows that it ended otherwise
        for event in (Event.ACCEPTED, Event.COMPLETED):
            if event in here:
                paid_back[event] = (here[event][0], Refund.NONE, False, _by("m"))
    if refund is Refund.ASKED:
        agreed = (node, Refund.AWAITING_GOODS) if hardware else (Node.REFUNDED, Refund.APPROVED)
        return activated | appeal | paid_back | {
            Event.REFUND_APPROVED: (*agreed, False, _by("sm")),
            Event.REFUND_REFUSED: (node, Refund.NONE, False, _by("sm")),
        }  # fmt: skip
    if refund is Refund.AWAITING_GOODS:
        sent = (node, Refund.PENDING_INSPECTION, False, _by("bm"))
        return activated | appeal | paid_back | {Event.GOODS_SENT_BACK: sent}
    if refund is Refund.PENDING_INSPECTION:
        return activated | appeal | paid_back | {
            Event.GOODS_CONFIRMED: (Node.REFUNDED, Refund.APPROVED, False, _by("sm")),
            Event.GOODS_REFUSED: (node, Refund.NONE, False, _by("sm")),
        }  # fmt: skip
    if node is Node.COMPLETED:
        return {Event.REOPENED: (_REOPENED.get(flow, Node.DELIVERING), Refund.NONE, False, {Actor.OPERATOR})}
    asked: Expected = {Event.REFUND_ASKED: (node, Refund.ASKED, False, _by("bm"))}
    if node in _NOT_REFUNDABLE.get(flow, set()):
        asked = {}
    return here | appeal | paid_back | asked
