"""Kill -9 between any two lines of service supervision: `audit` is clean, nothing is lost, nothing happens twice.

Real processes and sockets, real deaths (`tests/mortal_server.py`); what is asserted of each stands in `tests/support_lives.py`. An acceptance, an
approved refund and a completion die before every statement, BEGIN and COMMIT among them, and behind each COMMIT before its answer; the others
around each COMMIT, before each change of a file, and before each `LICENSESVC_KILL_EVERY`-th of all steps (5 unless told; 1 with `make prove`).
"""

import os
from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec
import pytest
import pytest_asyncio

from licensesvc.domain.instants import SECOND
from tests.mortal_server import LOOK
from tests.support_buyer import PDF, PNG
from tests.support_calls import CODE
from tests.support_lives import Lane, Operation, Reply, Stage, Trial, as_stage, open_lanes, survive
from tests.support_scene import RIPE_AT, Request, make_scene
from tests.support_web import open_site

EVERY = int(os.environ.get("LICENSESVC_KILL_EVERY", "5"))

NODE = "SELECT node FROM supervision_cases WHERE public_id = '{case}'"
CONFIRMED = "SELECT acceptance_confirmed_at IS NOT NULL FROM supervision_cases WHERE public_id = '{case}'"
REFUND = "SELECT refund FROM supervision_cases WHERE public_id = '{case}'"
MONTH = "SELECT settlement_month FROM supervision_cases WHERE public_id = '{case}'"
REJECTIONS = "SELECT COUNT(*) FROM proofs p JOIN supervision_cases c ON c.id = p.case_id WHERE c.public_id = '{case}'"
STATE = "SELECT s.state FROM license_states s JOIN licenses l ON l.id = s.license_id WHERE l.public_id = '{license}'"
GIVEN_BACK = (
    "SELECT TOTAL(x.amount) FROM transactions x JOIN order_lines l ON l.id = x.line_ref WHERE l.public_id = '{line}'"
)


def replayed(again: Reply, first: Reply) -> bool:
    """The kept answer, word for word."""
    return again == msgspec.structs.replace(first, replayed=True)


def changed_meanwhile(again: Reply, _first: Reply) -> bool:
    """What the page says to a buyer whose click has been counted."""
    return again.status == 409 and "Already done, or changed" in again.body


def known_in_part(again: Reply, _first: Reply) -> bool:
    """An import that was not told what it had done does the rest."""
    report = msgspec.json.decode(again.body)
    return again.status == 200 and report["bad"] == 0 < report["known"]


FILES = [("files", ("截图.png", PNG, "image/png")), ("files", ("b.pdf", PDF, "application/pdf"))]

OPERATIONS = [
    Operation(
        name="accepted by the buyer",
        order="CS1",
        request=lambda scene: scene.clicks("CS1", "accept"),
        sql=NODE, before="BUYER_CONFIRMING", after="ACCEPTED",
        repeated=changed_meanwhile,
        whole=True,
    ),
    Operation(
        name="accepted, and confirmed, by an operator",
        order="CS1",
        request=lambda scene: scene.records("CS1", event="accepted"),
        sql=CONFIRMED, before=0, after=1,
        repeated=replayed,
    ),
    Operation(
        name="the buyer's acceptance confirmed",
        order="CS2",
        request=lambda scene: scene.confirms("CS2", event="accepted"),
        sql=CONFIRMED, before=0, after=1,
        repeated=replayed,
    ),
    Operation(
        name="accepted by a file",
        order="CS2",
        request=lambda scene: scene.imports(
            "order_id,event,time",
            "CS1,accepted,2026-11-18T11:07:00Z",
            "CS2,accepted,2026-11-18T11:07:00Z",
            "CS2,completed,2026-11-18T11:07:01Z",
        ),
        sql=NODE, before="ACCEPTED", after="COMPLETED",
        repeated=known_in_part,
        transactions=2,
    ),
    Operation(
        name="rejected with attachments",
        order="CS1",
        request=lambda scene: scene.clicks("CS1", "reject", FILES, reason="截图不对"),
        sql=REJECTIONS, before=1, after=3,
        repeated=changed_meanwhile,
    ),
    Operation(
        name="refund asked for",
        order="CS1",
        request=lambda scene: scene.records("CS1", event="refund_asked", actor="buyer", amount=1, paid=2, reason="no"),
        sql=REFUND, before="NONE", after="ASKED",
        repeated=replayed,
    ),
    Operation(
        name="refund approved",
        order="CS5",
        request=lambda scene: scene.records("CS5", event="refund_approved", actor="seller"),
        sql=STATE, before="ISSUED", after="RELEASED",
        repeated=replayed,
        whole=True,
    ),
    Operation(
        name="refund deducted",
        order="CS3",
        request=lambda scene: scene.gives_back("CS3", 2_500),
        sql=GIVEN_BACK, before=0, after=2_500,
        repeated=replayed,
    ),
    Operation(
        name="released by releaseLicenseCode",
        order="CS6",
        request=lambda scene: scene.calls(
            activity="releaseLicenseCode", license=CODE, orderId="CS9", orderLineId="CS9-000001"
        ),
        sql=NODE, before="DELIVERING", after="REFUNDED",
    ),
    Operation(
        name="released by releaseLicense",
        order="CS7",
        request=lambda scene: scene.calls_by_url("releaseLicense", orderId="CS7"),
        sql=STATE, before="ISSUED", after="RELEASED",
    ),
    Operation(
        name="completed by an operator",
        order="CS3",
        request=lambda scene: scene.records("CS3", event="completed"),
        sql=MONTH, before=None, after="2026-12",
        repeated=replayed,
        whole=True,
    ),
    Operation(
        name="completed by the clock",
        order="CS4",
        request=lambda _scene: Request(method="GET", path=LOOK),
        sql=MONTH, before=None, after="2026-12",
        now=RIPE_AT + SECOND,
        again=False,
    ),
]  # fmt: skip
NAMED = {operation.name: operation for operation in OPERATIONS}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def theater(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Stage, list[Lane]]]:
    """The stage, made once, and the lanes."""
    directory = tmp_path_factory.mktemp("theater")
    async with open_site(directory) as site:
        scene = await make_scene(site)
    stage = as_stage(directory / "data", scene)
    async with open_lanes(stage, directory) as lanes:
        yield stage, lanes


@pytest.mark.parametrize("name", NAMED)
async def test_killed_before_any_step(theater, name):
    stage, lanes = theater
    operation = NAMED[name]
    deaths = await survive(Trial(stage=stage, operation=operation), lanes, every=EVERY)
    assert not operation.whole or len(deaths) == len(deaths[-1].steps) + 1
    assert {"COMMIT", "the answer to COMMIT"} <= {death.before.partition("dies before ")[2] for death in deaths}


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [("late", "its events lead to another state"), ("unaudited", "audit_events"), ("early", "answered, and lost")],
)
async def test_the_harness_catches(theater, fault, complaint):
    """What happened to a case, or the audit event, committed in a second transaction; an answer before the commit."""
    stage, lanes = theater
    trial = Trial(stage=stage, operation=replace(NAMED["accepted by the buyer"], whole=False), fault=fault)
    with pytest.raises(AssertionError, match=complaint):
        await survive(trial, lanes, every=1_000)
