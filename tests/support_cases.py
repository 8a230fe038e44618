"""Cases of supervision in a shop, led to where a test wants them through the services."""

from licensesvc.domain.acceptance import ProofKind
from licensesvc.domain.product import DeliveryKind
from licensesvc.domain.supervision import NEEDS_REASON, Actor, Event, FlowName, Node, Refund
from licensesvc.domain.supervision_flows import IN_FORCE
from licensesvc.services.supervision.add_proof import StoredFile, add_proof
from licensesvc.services.supervision.record_supervision import RecordEvent, record_event
from licensesvc.storage import licenses, supervision
from tests.support_edges import Shop, open_shop
from tests.support_supervision import expected

WRITTEN = ["supervision_cases", "supervision_events", "proofs", "audit_events", "license_states"]
"""Tables that steps of a case write."""
FILE = StoredFile(filename="a.pdf", media_type="application/pdf", size=3, sha256="ab" * 32)


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
