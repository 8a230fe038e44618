"""Tokens of the admin API: shown once, stored as a hash, revoked at once; the control socket, which needs none."""

import httpx2
import pytest

from licensesvc.web.admin.access import CONTROL
from tests.support_web import Site, created, make_app, make_catalog, make_order


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        "Basic {token}",
        "Bearer {token}x",
        "Bearer {other}",
        "Bearer \xff",
        "{token}",
    ],
)
async def test_a_wrong_token_is_refused(site: Site, header: str):
    token = site.tokens["owner"]
    other = token[:-1] + ("A" if token[-1] != "A" else "B")
    value = header.format(token=token, other=other).encode("latin-1")

    response = await site.stranger.get("/admin/v1/policies", headers={b"authorization": value})

    assert response.status_code == 401


async def test_a_revoked_token_is_refused_at_once(site: Site):
    new = await created(site, "tokens", {"name": "temporary", "role": "reader"})
    headers = {"authorization": f"Bearer {new['token']}"}
    assert (await site.stranger.get("/admin/v1/policies", headers=headers)).status_code == 200

    assert (await site.owner.delete(f"/admin/v1/tokens/{new['id']}")).status_code == 204

    assert (await site.stranger.get("/admin/v1/policies", headers=headers)).status_code == 401


async def test_a_token_is_shown_once_and_stored_as_a_hash(site: Site):
    new = await created(site, "tokens", {"name": "Li Wei", "role": "operator"})

    listed = await site.owner.get("/admin/v1/tokens")

    assert new["token"].startswith(new["prefix"] + "_")
    assert new["token"] not in listed.text
    assert {**new, "token": None} == {**listed.json()["items"][-1], "token": None}


async def test_the_control_socket_is_the_command_line_as_owner(site: Site):
    app = make_app(site.rt)

    async def on_the_socket(scope, receive, send):
        await app({**scope, CONTROL: True}, receive, send)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(on_the_socket), base_url="http://x") as cli:
        response = await cli.post("/admin/v1/policies", json={"name": "p", "term": "PERPETUAL"})

    assert response.status_code == 201
    actors = await site.rt.db.read(lambda tx: tx.all("SELECT actor FROM audit_events WHERE kind = 'policy.created'"))
    assert [row["actor"] for row in actors] == ["cli"]


async def test_a_header_does_not_make_a_request_one_of_the_control_socket(site: Site):
    response = await site.stranger.get("/admin/v1/policies", headers={CONTROL: "True", f"x-{CONTROL}": "1"})

    assert response.status_code == 401


async def test_who_may_only_read_does_not_see_codes(site: Site):
    order = await make_order(site, await make_catalog(site))
    path = f"/admin/v1/licenses/{order['lines'][0]['license']}/code"

    assert (await site.reader.get(path)).status_code == 403
    assert (await site.operator.get(path)).status_code == 200
