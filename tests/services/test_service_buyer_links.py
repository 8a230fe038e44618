"""Buyers' links, their actions and delivery packs on both engines: hashes only, told in the audit, once for callers at the same time."""

import asyncio

import pytest

from licensesvc.domain.errors import IllegalTransition, InvalidParameter, NotFound, StaleVersion
from licensesvc.domain.instants import DAY, rfc3339
from licensesvc.domain.supervision import Actor, FlowName, Node, Refund, Source
from licensesvc.domain.supervision_flows import FLOWS
from licensesvc.services.buyer.buyer_links import (
    CreateBuyerLink,
    create_buyer_link,
    follow_link,
    revoke_buyer_link,
)
from licensesvc.services.buyer.buyer_page import Action, BuyerAction, act, buyer_case
from licensesvc.services.buyer.delivery_pack import delivery_pack, verify_pack
from licensesvc.services.licenses.issue_license import open_code
from licensesvc.services.licenses.seats import take_seat
from licensesvc.services.supervision.add_proof import StoredFile
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.signing.tokens import token_hash
from licensesvc.storage import buyer_links
from tests.support_cases import lead, shop_of, way_to
from tests.support_edges import Shop, rows
from tests.support_web import Clock

FILE = StoredFile(filename="a.pdf", media_type="application/pdf", size=3, sha256="ab" * 32)


async def standing(rt, flow: FlowName, node: Node) -> tuple[Shop, str, str]:
    """A shop, a case that stands at a node, and the token of a link to it."""
    shop, facts = await shop_of(rt, flow)
    code = {"code": "PL-1"} if flow.startswith("license-2.0") else {}
    received = await shop.sell(**facts, **code)
    case_id = received.case.public_id
    await lead(shop, case_id, way_to(flow, (node, Refund.NONE, False)))
    _, token = await rt.db.write(lambda tx: create_buyer_link(tx, rt, case_id, CreateBuyerLink(days=7), by="op"))
    return shop, case_id, token


async def do(rt, token: str, action: Action, version: int, files=(), **more):
    command = BuyerAction(action=action, version=version, **more)
    return await rt.db.write(lambda tx: act(tx, rt, token, command, files))


async def seen(rt, token: str):
    return await rt.db.read(lambda tx: buyer_case(tx, rt, token))


BUYER_NODES = {
    Node.SUBMITTING: (Action.SUBMIT_CODE, {"buyer_code": "AA"}),
    Node.CLAIMING: (Action.CLAIM, {}),
    Node.BUYER_CONFIRMING: (Action.ACCEPT, {}),
}


TURNS = [(flow, node) for flow in FlowName for node in BUYER_NODES if node in FLOWS[flow].cells]


@pytest.mark.parametrize(("flow", "node"), TURNS)
async def test_the_buyer_of_every_flow_can_do_what_is_the_buyers_turn(rt, flow: FlowName, node: Node):
    _, _, token = await standing(rt, flow, node)
    view = await seen(rt, token)
    action, more = BUYER_NODES[node]

    done = await do(rt, token, action, view.case.version, **more)

    last = done.view.events[-1].happening
    assert (view.turn, action in view.actions) == (Actor.BUYER, True)
    assert (last.actor, last.source, last.confirmed_at) == (Actor.BUYER, Source.BUYER_PAGE, None)
    assert done.view.case.node is not node


async def test_the_same_click_many_times_at_once_is_one_event(rt):
    _, _, token = await standing(rt, FlowName.SELLER_DELIVERY, Node.BUYER_CONFIRMING)
    version = (await seen(rt, token)).case.version

    clicks = [do(rt, token, Action.ACCEPT, version) for _ in range(10)]
    clicks += [do(rt, token, Action.REJECT, version, reason="no", files=[FILE]) for _ in range(10)]
    outcomes = await asyncio.gather(*clicks, return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert len(refused) == 19
    assert {type(error) for error in refused} == {StaleVersion}
    assert (await audit_database(rt)).clean
    events = (await seen(rt, token)).events
    assert sum(event.happening.source is Source.BUYER_PAGE for event in events) == 1


async def test_a_refused_rejection_keeps_no_attachment(rt):
    _, _, token = await standing(rt, FlowName.SELLER_DELIVERY, Node.BUYER_CONFIRMING)
    version = (await seen(rt, token)).case.version
    before = await rows(rt, "proofs", "supervision_events", "audit_events")

    for files, more, error in [
        ([FILE] * 6, {"reason": "no"}, InvalidParameter),
        ([FILE], {}, InvalidParameter),
    ]:
        with pytest.raises(error):
            await do(rt, token, Action.REJECT, version, files, **more)
    with pytest.raises(StaleVersion):
        await do(rt, token, Action.REJECT, version - 1, [FILE], reason="no")
    with pytest.raises(InvalidParameter):
        await do(rt, token, Action.ACCEPT, version, [FILE])
    with pytest.raises(IllegalTransition):
        await do(rt, token, Action.CLAIM, version)

    assert await rows(rt, "proofs", "supervision_events", "audit_events") == before


async def test_a_link_is_a_hash_with_an_end(rt, clock: Clock):
    _, case_id, token = await standing(rt, FlowName.SELLER_DELIVERY, Node.DELIVERING)

    link, case = await rt.db.read(lambda tx: follow_link(tx, rt, token))
    assert (link.token_hash, case.public_id) == (token_hash(token), case_id)
    assert token not in repr(link)
    clock.now = link.expires_at - 1
    await seen(rt, token)
    clock.now = link.expires_at
    with pytest.raises(NotFound):
        await seen(rt, token)
    clock.now -= DAY
    await rt.db.write(lambda tx: revoke_buyer_link(tx, rt, link.public_id, by="op"))
    with pytest.raises(NotFound):
        await seen(rt, token)
    told = await rows(rt, "audit_events")
    await rt.db.write(lambda tx: revoke_buyer_link(tx, rt, link.public_id, by="op"))
    assert await rows(rt, "audit_events") == told
    with pytest.raises(NotFound):
        await rt.db.write(lambda tx: revoke_buyer_link(tx, rt, case_id, by="op"))
    (stored,) = await rt.db.read(lambda tx: buyer_links.of_case(tx, case.id))
    assert stored.revoked_at == clock.now


async def test_a_pack_is_verified_until_its_license_changes(rt):
    _, case_id, _ = await standing(rt, FlowName.SELLER_CODE, Node.BUYER_CONFIRMING)
    pack = await rt.db.read(lambda tx: delivery_pack(tx, rt, case_id))

    verified = await rt.db.read(lambda tx: verify_pack(tx, rt, pack.statement))
    await rt.db.write(lambda tx: tx.run("UPDATE license_states SET seats = seats + 1"))
    changed = await rt.db.read(lambda tx: verify_pack(tx, rt, pack.statement))

    assert (verified.same, changed.same) == (True, False)
    assert verified.facts == pack.facts


async def test_a_pack_names_the_audit_event_that_proves_the_activation(rt):
    shop, facts = await shop_of(rt, FlowName.SELLER_CODE)
    received = await shop.sell(**facts)
    code = await rt.db.read(lambda tx: open_code(tx, rt, received.license))
    await take_seat(rt, code, "machine-1")

    pack = await rt.db.read(lambda tx: delivery_pack(tx, rt, received.case.public_id))

    (row,) = await rt.db.read(
        lambda tx: tx.all("SELECT chain, seq, at, hash FROM audit_events WHERE kind = 'license.activated'")
    )
    proof = pack.facts.license.activation
    assert (proof.chain, proof.seq, proof.hash) == (row["chain"], row["seq"], bytes(row["hash"]).hex())
    assert proof.at == rfc3339(row["at"])
    assert code not in str(pack)
