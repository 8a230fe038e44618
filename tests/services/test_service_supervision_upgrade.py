"""Cases from before the eleven flows stay valid: migration 0011 leaves each as its own log rebuilds it, on both engines."""

import msgspec
import pytest

from licensesvc.domain.instants import HOUR
from licensesvc.domain.supervision import Event, Node, Source
from licensesvc.services.supervision.confirm_supervision import Confirmation, Confirmed, confirm_event
from licensesvc.services.supervision.record_supervision import RecordEvent, record_event
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.signing.privatefiles import private_directory
from licensesvc.storage import supervision
from licensesvc.storage.migrate import migrate
from tests.support_web import START, Clock, make_runtime

CASES = {
    "delivering": ("seller-code", [("started", "system", "getLicense")]),
    "proving": ("seller-code", [("started", "system", "order/query"), ("activated", "software", "software")]),
    "confirming": (
        "seller-code",
        [
            ("started", "system", "import"),
            ("activated", "software", "software"),
            ("proof_uploaded", "seller", "operator"),
        ],
    ),
    "again": (
        "seller-code",
        [
            ("started", "system", "operator"),
            ("activated", "software", "software"),
            ("proof_uploaded", "seller", "operator"),
            ("rejected", "buyer", "operator"),
            ("proof_uploaded", "seller", "operator"),
        ],
    ),
    "completed": (
        "seller-code",
        [
            ("started", "system", "getLicense"),
            ("delivered", "system", "getLicense"),
            ("activated", "software", "software"),
            ("proof_uploaded", "seller", "operator"),
            ("accepted", "buyer", "operator"),
            ("completed", "marketplace", "operator"),
        ],
    ),
    "accepted 2.0": (
        "license-2.0-2025-04",
        [
            ("started", "system", "order/query"),
            ("activated", "software", "software"),
            ("proof_uploaded", "seller", "operator"),
        ],
    ),
    "completed 2.0": (
        "license-2.0-2025-04",
        [
            ("started", "system", "order/query"),
            ("activated", "software", "software"),
            ("proof_uploaded", "seller", "operator"),
            ("completed", "marketplace", "operator"),
        ],
    ),
}
LEADS = {
    "started": "DELIVERING",
    "delivered": "ACTIVATING",
    "activated": "PROVING",
    "proof_uploaded": "BUYER_CONFIRMING",
    "rejected": "PROVING",
    "accepted": "ACCEPTED",
    "completed": "COMPLETED",
}
BASE = (
    (
        "INSERT INTO connections (public_id, name, site, wire_zone, calendar_zone, created_at)"
        " VALUES ('con_x', 'x', 'cn', 'UTC', 'Asia/Shanghai', 1)"
    ),
    "INSERT INTO policies (public_id, name, terms, created_at) VALUES ('pol_x', 'x', '{}', 1)",
    (
        "INSERT INTO products (public_id, connection_id, policy_id, name, marketplace_product_id, delivery_kind, code_prefix, created_at)"
        " VALUES ('prd_x', 1, 1, 'x', 'x', 'LICENSE_1_0', 'LS', 1)"
    ),
    "INSERT INTO orders (public_id, connection_id, order_id, order_type, source, received_at) VALUES ('ord_x', 1, 'x', 'NEW', 'x', 1)",
)


async def old_case(tx, number: int, name: str) -> None:
    flow, told = CASES[name]
    terms = {"order_id": "x", "order_type": "NEW", "line_id": name, "received_at": START}
    await tx.run(
        "INSERT INTO order_lines (public_id, order_ref, line_id, product_id, terms, created_at) VALUES ($1, 1, $1, 1, $2, 1)",
        name,
        msgspec.json.encode(terms).decode(),
    )
    node, accepted, completed, rejections, events = "PAID", None, None, 0, []
    for minute, (event, actor, source) in enumerate(told):
        at = START + minute
        to = "ACCEPTED" if (flow, event) == ("license-2.0-2025-04", "proof_uploaded") else LEADS[event]
        events.append((number, at, event, actor, source, node, to, "why" if event == "rejected" else None))
        accepted = at if to == "ACCEPTED" else accepted
        completed = at if to == "COMPLETED" else completed
        rejections += event == "rejected"
        node = to
    await tx.run(
        "INSERT INTO supervision_cases (public_id, line_ref, connection_id, flow, node, entered_at, rejections, accepted_at,"
        " completed_at, settlement_month, created_at) VALUES ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9, 1)",
        name,
        number,
        flow,
        node,
        events[-1][1],
        rejections,
        accepted,
        completed,
        "2026-12" if completed else None,
    )
    await tx.many(
        "INSERT INTO supervision_events (case_id, at, event, actor, source, from_node, to_node, reason)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        events,
    )


@pytest.fixture
def tables() -> bool:
    return False


@pytest.fixture
async def upgraded(database, tmp_path):
    """A runtime whose database held a case of every age before it was migrated."""
    await migrate(database, now=START, last=10)

    async def fill(tx) -> None:
        for statement in BASE:
            await tx.run(statement)
        for number, name in enumerate(CASES, start=1):
            await old_case(tx, number, name)

    await database.write(fill)
    return await make_runtime(database, private_directory(tmp_path / "data"), Clock(START + HOUR))


async def test_every_old_case_is_as_its_log_rebuilds_it(upgraded):
    assert (await audit_database(upgraded)).findings == ()
    found = {
        case.public_id: case for case in await upgraded.db.read(lambda tx: supervision.page(tx, after=0, limit=99))
    }
    assert set(found) == set(CASES)
    waiting = {name for name, case in found.items() if case.state.unconfirmed_since is not None}
    assert waiting == {"confirming", "again", "accepted 2.0"}
    assert found["completed"].state.acceptance_confirmed_at == START + 4
    assert found["accepted 2.0"].due_at == START + 2 + 3 * HOUR
    events = await upgraded.db.read(lambda tx: supervision.events_of(tx, found["completed"].id))
    assert [event.happening.source for event in events[:2]] == [Source.MARKETPLACE, Source.MARKETPLACE]


async def test_an_old_case_goes_on(upgraded):
    async def confirm(name: str, event: Event):
        told = Confirmation(event=event)
        return await upgraded.db.write(lambda tx: confirm_event(tx, upgraded, name, told, by="test"))

    assert (await confirm("accepted 2.0", Event.ACCEPTED)).confirmed is Confirmed.CONFIRMED
    assert (await confirm("accepted 2.0", Event.COMPLETED)).case.node is Node.COMPLETED
    assert (await confirm("confirming", Event.COMPLETED)).case.node is Node.COMPLETED
    told = RecordEvent(event=Event.REOPENED, reason="why")
    reopened = await upgraded.db.write(lambda tx: record_event(tx, upgraded, "completed", told, by="test"))
    assert reopened.node is Node.PROVING
    assert (await audit_database(upgraded)).findings == ()
