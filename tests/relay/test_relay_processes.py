"""Two processes on one PostgreSQL relay the same codes at once: nothing is lost, nothing is done twice."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from licensesvc.domain.instants import MINUTE
from tests.support_edges import call
from tests.support_relay import ACTIVATE, QUERY, ROOT, USAGE, Code, Rig, begin
from tests.support_storage import open_at

OK, ILLEGAL = "92020000", "92020003"
CODES = [f"PL{number}" for number in range(12)]

pytestmark = pytest.mark.parametrize("engine", ["postgres"], indirect=True)


@pytest.fixture
async def processes(rig: Rig, place: str) -> AsyncIterator[list[Rig]]:
    """The rig and a second process with a database connection and a chain of its own."""
    database = await open_at(place, chain="second")
    rt = replace(rig.rt, db=database)
    app, reporting, life = await begin(rt)
    yield [rig, replace(rig, rt=rt, app=app, reporting=reporting)]
    await life.aclose()
    await database.close()


@pytest.mark.parametrize("known", [True, False])
async def test_both_activate_every_code_at_once(processes, known):
    rig, _ = processes
    for number, code in enumerate(CODES):
        rig.market.codes[code] = Code(f"CS{number}")
        if known:
            await rig.shop.sell(f"CS{number}", code=code)

    async def activate(process: Rig, code: str, number: int) -> str:
        peer = f"198.51.100.{number}"  # else the limit of look-ups stops the crowd
        answer = await call(process.app, rig.pair, ROOT + ACTIVATE, {"license": code}, rig.clock.now, peer=peer)
        return answer.json["error_code"]

    told = await asyncio.gather(
        *(activate(process, code, number) for number, code in enumerate(CODES) for process in processes)
    )

    assert set(told) <= {OK, ILLEGAL}
    assert all(OK in told[2 * number : 2 * number + 2] for number in range(len(CODES)))
    assert {code.status for code in rig.market.codes.values()} == {"ALIVE"}
    rows = await rig.rows(
        "SELECT c.code_index, s.state FROM license_codes c JOIN license_states s ON s.license_id = c.license_id"
    )
    assert [state for _, state in rows] == ["ACTIVE"] * len(CODES)
    assert (await rig.rows("SELECT COUNT(*) FROM audit_events WHERE kind = 'license.activated'"))[0][0] == len(CODES)


async def test_both_ask_and_report_at_once(processes):
    rig, _ = processes
    for number, code in enumerate(CODES):
        await rig.sell(code, f"CS{number}")
        assert await rig.activate(code) == OK

    async def use(process: Rig, code: str, account: str) -> str:
        fields = {"license": code, "heartbeatInfo": {"thirdPartyAccount": account}}
        answer = await call(process.app, rig.pair, ROOT + QUERY, fields, rig.clock.now)
        return answer.json["error_code"]

    told = await asyncio.gather(
        *(use(process, code, who) for code in CODES for who in ("ann", "bob") for process in processes)
    )
    rig.clock.now += MINUTE
    await asyncio.gather(*(process.reporting.work_once() for process in processes))

    assert set(told) == {OK}
    assert {(code, who) for code, _, who in rig.market.sent} == {
        (code, who) for code in CODES for who in ("ann", "bob")
    }
    marked = await rig.rows("SELECT COUNT(*), COUNT(reported_at) FROM relay_usage")
    assert marked == [(2 * len(CODES), 2 * len(CODES))]
    assert rig.market.paths().count(USAGE) <= 2
    assert rig.market.paths().count(QUERY) <= 2 * len(CODES), "each process asks for a code at most once a day"
