"""Connections, policies and products over the admin API."""

import pytest

from tests.support_web import START, Site, created, make_catalog, make_order


async def test_a_connection_shows_its_callback_url_and_never_its_secrets(site: Site):
    body = {
        "name": "main account",
        "site": "intl",
        "callback_key": "k-canary-1",
        "api_access_key": "AK1",
        "api_secret": "s-canary-2",
    }

    response = await site.owner.post("/admin/v1/connections", json=body)

    shown = response.json()
    assert shown["callback_url"] == f"https://licenses.example/callbacks/{shown['id']}"
    assert (shown["has_callback_key"], shown["api_access_key"], shown["has_api_secret"]) == (True, "AK1", True)
    read = await site.reader.get(f"/admin/v1/connections/{shown['id']}")
    assert read.json() == shown
    assert "canary" not in response.text + read.text


async def test_a_change_needs_the_version_that_was_read(site: Site):
    connection = await created(site, "connections", {"name": "a", "site": "cn", "callback_key": "key"})
    path = f"/admin/v1/connections/{connection['id']}"
    etag = (await site.owner.get(path)).headers["etag"]

    missing = await site.owner.patch(path, json={"name": "b"})
    nonsense = await site.owner.patch(path, json={"name": "b"}, headers={"if-match": "*"})
    first = await site.owner.patch(path, json={"name": "b", "callback_key": None}, headers={"if-match": etag})
    second = await site.owner.patch(path, json={"name": "c"}, headers={"if-match": etag})

    assert (missing.status_code, missing.json()["code"]) == (428, "PRECONDITION_REQUIRED")
    assert (nonsense.status_code, nonsense.json()["code"]) == (400, "MALFORMED_REQUEST")
    assert (second.status_code, second.json()["code"]) == (412, "STALE_VERSION")
    assert first.status_code == 200
    assert first.headers["etag"] != etag
    assert first.json() == {**connection, "name": "b", "has_callback_key": False, "version": 2}
    assert (await site.owner.get(path)).json() == first.json()


async def test_a_change_leaves_out_what_is_not_given(site: Site):
    body = {"name": "a", "site": "cn", "callback_key": "key", "api_access_key": "AK", "api_secret": "sk"}
    connection = await created(site, "connections", body)

    response = await site.owner.patch(
        f"/admin/v1/connections/{connection['id']}",
        json={"base_url": "http://127.0.0.1:8081/", "wire_zone": "Asia/Shanghai"},
        headers={"if-match": '"1"'},
    )

    expected = {**connection, "base_url": "http://127.0.0.1:8081", "wire_zone": "Asia/Shanghai", "version": 2}
    assert response.json() == expected


@pytest.mark.parametrize(
    "key", ["", " ", "a b", "a\tb", "key\n", "\r\n", "schl\u00fcssel", "\u5bc6\u94a5", "a\u00a0b", "\x7f"]
)
@pytest.mark.parametrize("field", ["callback_key", "api_access_key", "api_secret"])
async def test_a_key_is_visible_ascii(site: Site, field: str, key: str):
    connection = await created(site, "connections", {"name": "a", "site": "cn", field: "~key!"})
    path = f"/admin/v1/connections/{connection['id']}"
    rows = await site.rows()

    changed = await site.owner.patch(path, json={field: key}, headers={"if-match": '"1"'})
    made = await site.owner.post("/admin/v1/connections", json={"name": "b", "site": "cn", field: key})

    for refused in (changed, made):
        assert (refused.status_code, refused.json()["code"]) == (422, "INVALID_BODY")
        assert [fault["pointer"] for fault in refused.json()["errors"]] == [f"/{field}"]
    assert (await site.owner.get(path)).json() == connection
    assert await site.rows() == rows


@pytest.mark.parametrize(("field", "status"), [("callback_key", 201), ("api_access_key", 422), ("api_secret", 201)])
async def test_an_access_key_has_no_comma_for_it_stands_in_a_header_list(site: Site, field: str, status: int):
    response = await site.owner.post("/admin/v1/connections", json={"name": "a", "site": "cn", field: "a,b"})

    assert response.status_code == status


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "host",
        "https://",
        "http://user:pw@host",
        "http://host?x=1",
        "http://ho st",
        "http://h:99999",
        "//h",
    ],
)
async def test_a_base_url_must_be_a_plain_http_url(site: Site, url: str):
    response = await site.owner.post("/admin/v1/connections", json={"name": "a", "site": "cn", "base_url": url})

    assert (response.status_code, response.json()["code"]) == (422, "INVALID_PARAMETER")


async def test_an_unknown_zone_is_refused(site: Site):
    response = await site.owner.post(
        "/admin/v1/connections", json={"name": "a", "site": "cn", "wire_zone": "Mars/Base"}
    )

    assert (response.status_code, response.json()["code"]) == (422, "INVALID_PARAMETER")


@pytest.mark.parametrize("kind", ["connections", "policies", "products"])
async def test_the_same_name_or_mapping_twice_is_a_conflict(site: Site, kind: str):
    ids = await make_catalog(site)
    bodies = {
        "connections": {"name": "cn LICENSE_1_0", "site": "cn"},
        "policies": {"name": "year LICENSE_1_0", "term": "PERPETUAL"},
        "products": {
            "connection": ids["connection"],
            "policy": ids["policy"],
            "name": "Again",
            "marketplace_product_id": "OFFI100",
            "delivery_kind": "GENERAL",
        },
    }
    before = await site.rows()

    response = await site.owner.post(f"/admin/v1/{kind}", json=bodies[kind])

    assert (response.status_code, response.json()["code"]) == (409, "ALREADY_EXISTS")
    assert await site.rows() == before


async def test_a_policy_is_shown_as_it_was_made(site: Site):
    body = {
        "name": "half a year",
        "term": "PERIOD",
        "period": {"unit": "MONTH", "count": 6},
        "seats": 5,
        "binding": "NODE_LOCKED",
        "entitlements": ["export", "api"],
        "license_field": "DOCUMENT",
    }

    policy = await created(site, "policies", body)

    assert policy.items() >= body.items()
    assert (await site.reader.get(f"/admin/v1/policies/{policy['id']}")).json() == policy


@pytest.mark.parametrize(
    "change",
    [
        {"term": "PERPETUAL", "period": {"unit": "DAY", "count": 1}},
        {"term": "PERIOD"},
        {"term": "PERPETUAL", "seats": 0},
        {"term": "PERPETUAL", "binding": "FLOATING"},
        {"term": "PERPETUAL", "binding": "FLOATING", "lease_seconds": 600},
        {"term": "PERPETUAL", "grace_days": 7},
        {"term": "PERPETUAL", "entitlements": ["A"]},
        {"term": "PERIOD", "period": {"unit": "YEAR", "count": 101}},
    ],
)
async def test_a_policy_that_contradicts_itself_or_promises_what_no_door_serves_is_refused(
    site: Site, change: dict[str, object]
):
    response = await site.owner.post("/admin/v1/policies", json={"name": "p", **change})

    assert (response.status_code, response.json()["code"]) == (422, "INVALID_PARAMETER")


@pytest.mark.parametrize(
    "wrong", [{"code_prefix": "PL"}, {"code_prefix": "ls"}, {"connection": "con_0"}, {"policy": "no"}]
)
async def test_a_product_needs_known_ids_and_a_prefix_of_ours(site: Site, wrong: dict[str, str]):
    ids = await make_catalog(site)
    body = {
        "connection": ids["connection"],
        "policy": ids["policy"],
        "name": "Other",
        "marketplace_product_id": "OFFI200",
        "delivery_kind": "GENERAL",
    }

    response = await site.owner.post("/admin/v1/products", json={**body, **wrong})

    assert (response.status_code, response.json()["code"]) == (422, "INVALID_PARAMETER")


async def test_every_change_leaves_an_audit_event_of_the_token(site: Site):
    ids = await make_catalog(site)
    await site.owner.patch(
        f"/admin/v1/connections/{ids['connection']}", json={"name": "z"}, headers={"if-match": '"1"'}
    )
    await make_order(site, ids)

    kinds = await site.audit_kinds()

    assert kinds[3:7] == ["connection.created", "policy.created", "product.created", "connection.changed"]
    assert set(kinds[7:]) == {"order.received", "supervision.started", "license.issued", "license.document_prepared"}
    assert site.rt.clock() == START
