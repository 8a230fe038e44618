"""newInstance with `acceptanceTime` (spec §2.3): the one call by which the marketplace tells that a buyer has accepted."""

import json

import pytest

from licensesvc.domain.instants import DAY, to_datetime
from licensesvc.domain.product import DeliveryKind
from licensesvc.domain.supervision import Node
from licensesvc.storage import supervision
from tests.support_calls import Sender
from tests.support_edges import open_shop


def stamp(at: int) -> str:
    return to_datetime(at).strftime("%Y%m%d%H%M%S") + f"{at % 1000:03}"


@pytest.fixture
async def sold(edge):
    """A shop of SaaS with human work, one line of it, and the marketplace that calls it."""
    shop = await open_shop(edge.rt, name="saas", sold="OFFI300", kind=DeliveryKind.SAAS_HUMAN)
    received = await shop.sell("CS7")
    return Sender(edge, shop), received.line


def call(line_id: str = "CS7-000001", **changes: str) -> dict[str, str]:
    return {"activity": "newInstance", "orderId": "CS7", "orderLineId": line_id, "businessId": "b-7", **changes}


async def case_of(edge, line):
    return (await edge.rt.db.read(lambda tx: supervision.of_lines(tx, [line.id])))[line.id]


async def test_acceptance_is_recorded_once_and_answered_with_the_instance(edge, sold):
    sender, line = sold
    at = edge.clock.now - DAY

    first, second = [await sender.post(call(acceptanceTime=stamp(at))) for _ in range(2)]

    assert json.loads(first.body) == {
        "resultCode": "000000",
        "resultMsg": "success.",
        "instanceId": line.instance_id or line.public_id,
    }
    assert second.body == first.body
    case = await case_of(edge, line)
    assert (case.node, case.state.accepted_at, case.state.acceptance_confirmed_at) == (
        Node.ACCEPTED,
        at,
        edge.clock.now,
    )
    events = await edge.rt.db.read(lambda tx: supervision.events_of(tx, case.id))
    assert [event.happening.event for event in events].count("accepted") == 1


async def test_without_acceptance_nothing_changes(edge, sold):
    sender, line = sold
    before = await case_of(edge, line)
    assert (await sender.post(call())).json["instanceId"]
    assert await case_of(edge, line) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"orderId": "CS8"}, "opens no instances"),
        ({"orderLineId": "CS7-000002"}, "opens no instances"),
        ({"acceptanceTime": "yesterday"}, "acceptanceTime"),
        ({"acceptanceTime": "20991231235959000"}, "future"),
        ({"acceptanceTime": "2" * 21}, "acceptanceTime"),
        ({"businessId": ""}, "businessId"),
        ({"orderLineId": "x" * 65}, "orderLineId"),
    ],
)
async def test_what_it_cannot_take_is_refused_and_changes_nothing(edge, sold, changes, said):
    sender, line = sold
    before = await case_of(edge, line)
    answer = await sender.post(call(**changes))
    assert answer.json["resultCode"] == "000002"
    assert said in answer.json["resultMsg"]
    assert await case_of(edge, line) == before


async def test_a_line_of_another_connection_is_unknown(edge, sold):
    _, line = sold
    other = Sender(edge, await open_shop(edge.rt, name="other", sold="OFFI400"))
    answer = await other.post(call(acceptanceTime=stamp(edge.clock.now - DAY)))
    assert answer.json["resultCode"] == "000002"
    assert (await case_of(edge, line)).node is not Node.ACCEPTED


async def test_a_replay_is_refused_and_a_debug_case_touches_nothing(edge, sold):
    sender, line = sold
    before = await case_of(edge, line)
    debug = [await sender.post(call(testFlag="1", acceptanceTime=stamp(edge.clock.now))) for _ in range(2)]
    assert debug[0].json["instanceId"].startswith("test-")
    assert debug[0].body == debug[1].body
    assert await case_of(edge, line) == before
    body = json.dumps(call(acceptanceTime=stamp(edge.clock.now))).encode()
    target = sender.target(body)
    assert (await sender.post(body, target=target)).json["resultCode"] == "000000"
    assert (await sender.post(body, target=target)).json["resultCode"] == "000001"
