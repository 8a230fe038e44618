"""Texts that PostgreSQL cannot store are refused before it sees them: no 5xx from a NUL in a path."""

import pytest

from licensesvc.app import create_app
from licensesvc.settings import Settings
from tests.support_edges import ask, get_license_target, open_shop, rows
from tests.support_web import started


@pytest.mark.parametrize(
    "path", ["/callbacks/%00", "/callbacks/con_%00x", "/v1/activations/%00", "/v1/activations/a%00"]
)
async def test_a_nul_in_a_path_names_nothing(rt, path):
    app = create_app(rt, Settings())
    async with started(app):
        answer = await ask(app, "DELETE" if path.startswith("/v1") else "GET", path)

    assert answer.status == (404 if path.startswith("/v1") else 200)
    assert answer.json.get("resultCode", "000001") == "000001"


@pytest.mark.parametrize("name", ["customerName", "orderId", "unknown"])
async def test_a_nul_in_a_parameter_changes_nothing_and_is_kept_escaped(rt, name):
    shop = await open_shop(rt)
    app = create_app(rt, Settings())
    async with started(app):
        answer = await ask(app, "GET", get_license_target(shop, rt.clock(), **{name: "a\0b"}))

    assert answer.json["resultCode"] == ("000000" if name == "unknown" else "000002")
    assert await rows(rt, "messages") == [1]
