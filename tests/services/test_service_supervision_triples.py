"""Supervision through its services: every stand × event × actor, and nothing where it is refused."""

from itertools import product

import msgspec
import pytest

from licensesvc.domain.acceptance import ProofKind
from licensesvc.domain.errors import (
    ForbiddenActor,
    IllegalTransition,
)
from licensesvc.domain.supervision import Actor, Event, FlowName, Node, Refund
from licensesvc.domain.supervision_flows import FLOWS
from licensesvc.services.supervision.record_supervision import RecordEvent, record_event
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.storage import acceptance, supervision
from tests.support_cases import FILE, WRITTEN, case_of, command, lead, shop_of, way_to
from tests.support_edges import Shop, rows
from tests.support_supervision import expected, stands


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
