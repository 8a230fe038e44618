"""Codes, the seller's secret and the ids of clients appear nowhere but where they belong, whatever goes wrong."""

import logging

from structlog.testing import capture_logs

from licensesvc.domain.instants import MINUTE
from licensesvc.storage.tables import tables
from tests.support_relay import QUERY, SECRET

CODE, CLIENT = "PL-canary-7c1f", "canary-device-93ab"


async def test_nothing_leaks(rig, caplog):
    await rig.sell(CODE)
    caplog.set_level(logging.DEBUG)
    said = []
    with capture_logs() as logged:
        for mishap in ("lost before", "gateway", "html", "internal", None):
            rig.market.mishap = mishap
            await rig.activate(CODE)
            await rig.activate(f"{CODE}-unknown")
            answer = await rig.call(QUERY, {"license": CODE, "heartbeatInfo": {"thirdPartyAccount": CLIENT}})
            rig.clock.now += 6 * MINUTE
            await rig.reporting.work_once()
            said.append(answer.body.decode() if answer.json["error_code"] != "92020000" else "")
        rig.market.codes[CODE].status = "RELEASED"
        rig.clock.now += MINUTE
        await rig.reporting.work_once()
    assert (CODE, "20261118", CLIENT) in rig.market.sent

    everything = [str(logged), caplog.text, *said]
    everything += [str(await rig.rows(f"SELECT * FROM {table.name}")) for table in tables(99)]  # noqa: S608
    for text in everything:
        for canary in (CODE, CLIENT, SECRET.decode()):
            assert canary not in text
