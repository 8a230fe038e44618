"""A full disk fails closed on every door and heals without a restart; what was acknowledged stays."""

import json

import pytest

from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.storage.port import StorageUnavailable
from tests.support_edges import ask, call, open_edge

ACTIVATE = "/api/mkp-openapi-public/global/v1/license/activate"
JSON = [("content-type", "application/json")]


async def _pages(edge, most: int | None) -> None:
    """Let the database grow no further than now (None: without bound)."""

    async def limit(tx):
        now = (await tx.one("PRAGMA page_count"))[0]
        await tx.one(f"PRAGMA max_page_count = {now if most is None else most}")

    await edge.rt.db.write(limit)


async def _seat(edge, code: str, device: str):
    body = json.dumps({"code": code, "fingerprint": device * 200}).encode()
    return await ask(edge.app, "POST", "/v1/activations", headers=JSON, body=body)


async def test_a_full_disk_is_503_and_loses_nothing_acknowledged(tmp_path):
    async with open_edge(tmp_path) as edge:
        codes = [await edge.shop.sell_code(f"CS{number}") for number in range(400)]
        await _pages(edge, None)
        acknowledged, refused = [], []
        for code in codes:
            answer = await _seat(edge, code, "d")
            (acknowledged if answer.status == 201 else refused).append((code, answer))
        assert acknowledged
        assert refused
        problem = json.loads(refused[-1][1].body)
        assert (refused[-1][1].status, problem["code"]) == (503, "UNAVAILABLE")
        assert (await ask(edge.app, "GET", "/healthz")).status == 200
        compatible = await call(edge.app, edge.pair, ACTIVATE, {"license": refused[-1][0]}, edge.clock.now)
        assert json.loads(compatible.body)["error_code"] == "92020001"

        await _pages(edge, 1_000_000)

        for code, _ in refused:
            assert (await _seat(edge, code, "d")).status == 201
        for code, _ in acknowledged:
            assert (await _seat(edge, code, "d")).status == 200
        assert (await audit_database(edge.rt)).findings == ()


async def test_the_bound_of_this_test_really_stops_growth(tmp_path):
    """The control: without free pages not even an order can be taken."""
    async with open_edge(tmp_path) as edge:
        await _pages(edge, None)
        with pytest.raises(StorageUnavailable, match="full"):
            await _sell_many(edge)


async def _sell_many(edge) -> None:
    for number in range(2_000):
        await edge.shop.sell_code(f"CS{number}")
