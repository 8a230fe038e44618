"""The story that relay mode is for, over real sockets: the marketplace stops for an hour, and nobody who uses the software notices.

The hour is compressed by the clock. In its middle our process ends and another takes its place. Afterwards every (code, day, client)
has counted once at the marketplace. The control plants bugs that the same story must catch.
"""

import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest

from licensesvc.app import create_app
from licensesvc.domain.instants import MINUTE
from licensesvc.services.relay import relay_usage
from licensesvc.settings import Settings
from licensesvc.storage import relay as rows
from licensesvc.web.forwarded import ForwardedFor
from tests.support_edges import ROOT, exchange, listening, raw_request, signed_headers
from tests.support_relay import QUERY
from tests.support_web import started

CODES = ("PL1", "PL2", "PL3")
CLIENTS = ("ann", "bob", "设备-7")
STEP = 6 * MINUTE
TODAY = "20261118"


async def software(rig, port, code, client, step):
    """One program's heartbeat; it tells its user."""
    fields = {"license": code, "heartbeatInfo": {"thirdPartyAccount": f"{client}-{step // 4}"}}
    body = msgspec.json.encode(fields)
    headers = signed_headers(rig.pair, ROOT + QUERY, body, rig.clock.now)
    answer = await exchange(port, raw_request("POST", ROOT + QUERY, headers, body))
    return msgspec.json.decode(answer.partition(b"\r\n\r\n")[2])


async def everybody(rig, port, step):
    return await asyncio.gather(*(software(rig, port, code, client, step) for code in CODES for client in CLIENTS))


@asynccontextmanager
async def process(rig, whole):
    """The port of one process: the whole application, or only its compatible API."""
    if not whole:
        async with listening(rig.app) as port:
            yield port
        await rig.restart()
        return
    settings = Settings(data_dir=str(rig.rt.proofs_dir.parent))
    app = create_app(rig.rt, settings, outbox=False)
    async with started(app), listening(ForwardedFor(app, settings.trusted_networks)) as port:
        yield port


async def story(rig, *, whole=False):
    """Twelve steps of six minutes; the marketplace is away for ten of them. Returns all answers, by step."""
    for number, code in enumerate(CODES):
        await rig.sell(code, f"CS{number}")
        assert await rig.activate(code) == "92020000"
    told = {}
    for steps in (range(6), range(6, 12)):  # two processes, one after the other
        async with process(rig, whole) as port:
            for step in steps:
                if step == 1:
                    await rig.market.stop()
                if step == 11:
                    await rig.market.start()
                told[step] = await everybody(rig, port, step)
                rig.clock.now += STEP
                await rig.reporting.work_once()
    for _ in range(8):
        rig.clock.now += 5 * MINUTE
        await rig.reporting.work_once()
    return told


def check(rig, told):
    """What the story must have led to."""
    assert {answer["error_code"] for answers in told.values() for answer in answers} == {"92020000"}
    assert {answer["data"]["status"] for answers in told.values() for answer in answers} == {"ALIVE"}
    assert all("receipt" in answer["data"] for step in range(1, 12) for answer in told[step])
    expected = {(code, TODAY, f"{client}-{third}"): 1 for code in CODES for client in CLIENTS for third in range(3)}
    assert rig.market.sent == expected


@pytest.mark.parametrize("engine", ["sqlite", "postgres"], indirect=True)
async def test_an_hour_without_the_marketplace(rig, engine):
    check(rig, await story(rig, whole=engine == "sqlite"))
    assert await rig.rows("SELECT COUNT(*), COUNT(reported_at), COUNT(client) FROM relay_usage") == [(27, 27, 0)]
    assert rig.market.paths().count(QUERY) == len(CODES), "one query a day for each code"


async def forget_to_mark(tx, told, now):
    """A planted bug: reported, and not written down."""


async def forget_to_record(tx, commands):
    """Another: use is answered, and lost with the process."""
    return [None] * len(commands)


@pytest.mark.parametrize(
    ("where", "name", "bug"),
    [(rows, "mark_reported", forget_to_mark), (relay_usage, "record_use", forget_to_record)],
)
async def test_the_control_planted_bugs_are_caught(rig, monkeypatch, where, name, bug):
    monkeypatch.setattr(where, name, bug)

    told = await story(rig)

    with pytest.raises(AssertionError):
        check(rig, told)
