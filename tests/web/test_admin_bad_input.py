"""Hostile, confused and unlucky callers of every admin route that takes something: the documented error, nothing written."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensesvc.web.cursors import MAX_LIMIT, encode_cursor
from tests.support_web import Site, make_catalog, make_order, open_site

CASE = "/admin/v1/supervision-cases/case_" + "0" * 26
CONNECTION = "/admin/v1/connections/con_" + "0" * 26
ENDPOINT = "/admin/v1/webhook-endpoints/whe_" + "0" * 26
LICENSE = "/admin/v1/licenses/lic_" + "0" * 26
GUARD = "/admin/v1/delisting-guard/con_" + "0" * 26
CHANNEL = "/admin/v1/alert-channels/chn_" + "0" * 26
PRODUCT = "/admin/v1/products/prd_" + "0" * 26
ENTRIES = [
    ("POST", "/admin/v1/connections"),
    ("PATCH", CONNECTION),
    ("POST", "/admin/v1/policies"),
    ("POST", "/admin/v1/products"),
    ("POST", "/admin/v1/orders"),
    ("POST", "/admin/v1/credentials"),
    ("POST", f"{CASE}/events"),
    ("POST", f"{CASE}/confirmations"),
    ("POST", f"{CASE}/buyer-links"),
    ("POST", f"{CASE}/buyer-links/mail"),
    ("POST", "/admin/v1/supervision-cases/bulk"),
    ("PUT", f"{PRODUCT}/acceptance-standard"),
    ("POST", "/admin/v1/tokens"),
    ("POST", f"{LICENSE}/suspend"),
    ("POST", f"{LICENSE}/renew"),
    ("POST", f"{LICENSE}/move-expiry"),
    ("POST", f"{LICENSE}/change-quantity"),
    ("POST", f"{LICENSE}/free-seat"),
    ("POST", f"{LICENSE}/reset-activation"),
    ("POST", f"{LICENSE}/send-code"),
    ("PUT", f"{GUARD}/failed-orders"),
    ("PUT", f"{GUARD}/on-sale"),
    ("POST", "/admin/v1/alert-channels"),
    ("PATCH", CHANNEL),
    ("POST", "/admin/v1/webhook-endpoints"),
    ("PATCH", ENDPOINT),
    ("POST", f"{ENDPOINT}/enable"),
    ("POST", f"{ENDPOINT}/rotate-secret"),
    ("POST", f"{ENDPOINT}/replay"),
]
LISTS = [
    "connections",
    "policies",
    "products",
    "orders",
    "licenses",
    "credentials",
    "supervision-cases",
    "messages",
    "tokens",
    "audit-events",
    "delisting-guard",
    "alerts",
    "alert-channels",
    "webhook-endpoints",
]

UNREADABLE: dict[str, bytes] = {
    "empty": b"",
    "half": b'{"name":',
    "no JSON": b"hello",
    "invalid UTF-8": b'{"name":"\xff"}',
    "BOM": b"\xef\xbb\xbf{}",
    "UTF-16": '{"name":"a"}'.encode("utf-16"),
    "NUL": rb'{"name":"a\u0000b"}',
    "lone surrogate": rb'{"name":"\ud800"}',
    "key twice": b'{"name":"a","name":"b"}',
    "array": b"[]",
    "null": b"null",
    "string": b'"name"',
    "NaN": b'{"name":NaN}',
    "huge integer": b'{"name":' + b"9" * 5_000 + b"}",
    "10,000 nested arrays": b'{"name":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "10,000 open arrays": b"[" * 10_000,
}
ODD: list[object] = [None, True, 0, -1, 1.5, 10**17, "", "x" * 20_000, "\u202e<script>", [], [[]], {}, {"a": 1}]


@pytest.mark.parametrize("fault", UNREADABLE)
async def test_an_unreadable_body_is_told_so(site: Site, fault: str):
    rows = await site.rows()

    for method, path in ENTRIES:
        headers = {"content-type": "application/json", "if-match": '"1"'}
        response = await site.owner.request(method, path, content=UNREADABLE[fault], headers=headers)
        assert (response.status_code, response.json()["code"]) == (400, "UNREADABLE_BODY"), (path, response.text)

    assert await site.rows() == rows


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "x", "\xff"]
)
async def test_another_content_type_is_refused(site: Site, media_type: str):
    for method, path in ENTRIES:
        headers = {b"content-type": media_type.encode("latin-1"), b"if-match": b'"1"'}
        response = await site.owner.request(method, path, content=b"{}", headers=headers)
        assert (response.status_code, response.json()["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE"), (path, media_type)


async def test_a_body_above_64_kib_is_refused_announced_or_not(site: Site):
    body = json.dumps({"name": "x" * 65_536}).encode()

    async def in_chunks():
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    for method, path in ENTRIES:
        for content in (body, in_chunks()):
            headers = {"content-type": "application/json"}
            response = await site.owner.request(method, path, content=content, headers=headers)
            assert (response.status_code, response.json()["code"]) == (413, "BODY_TOO_LARGE"), path


async def test_an_unknown_field_is_refused_with_its_pointer(site: Site):
    for method, path in ENTRIES:
        response = await site.owner.request(method, path, json={"a/b~c": 1}, headers={"if-match": '"1"'})
        assert (response.status_code, response.json()["code"]) == (422, "INVALID_BODY"), path
        # a missing field may be reported first
        assert response.json()["errors"][0]["pointer"].startswith("/"), path


async def test_a_fault_deep_inside_is_pointed_at(site: Site):
    lines = [{"product": "prd_1"}, {"product": "prd_2", "period": {"unit": "YEAR", "count": "1"}}]
    body = {"connection": "con_1", "order_id": "CS1", "lines": lines}

    response = await site.operator.post("/admin/v1/orders", json=body)

    assert response.json()["errors"] == [{"detail": "Expected `int`, got `str`", "pointer": "/lines/1/period/count"}]


async def test_odd_values_in_every_field_never_break_anything(site: Site):
    catalog = await make_catalog(site)
    order = await make_order(site, catalog)
    case = f"/admin/v1/supervision-cases/{order['lines'][0]['case']}"
    connection = f"/admin/v1/connections/{catalog['connection']}"
    bodies = {
        ("POST", "/admin/v1/connections"): {"name": "n", "site": "cn", "base_url": None, "wire_zone": "UTC", "callback_key": "k"},
        ("PATCH", connection): {"name": "n", "base_url": "http://h", "calendar_zone": "UTC", "api_secret": "s"},
        ("POST", "/admin/v1/policies"): {
            "name": "n", "term": "PERIOD", "period": {}, "grace_days": 0, "freeze_days": 0, "seats": 1, "binding": "NONE",
            "lease_seconds": None, "offline_days": 1, "entitlements": [], "license_field": "CODE",
        },
        ("POST", "/admin/v1/products"): {
            "connection": catalog["connection"], "policy": catalog["policy"], "name": "n", "marketplace_product_id": "m",
            "sku_code": "s", "delivery_kind": "GENERAL", "code_prefix": "LS",
        },
        ("POST", "/admin/v1/orders"): {
            "connection": catalog["connection"], "order_id": "o", "order_type": "NEW", "order_time": None,
            "buyer": {"customer_id": "c"}, "lines": [{"product": catalog["product"]}],
        },
        ("POST", "/admin/v1/credentials"): {
            "connection": catalog["connection"], "scope": "device", "product": catalog["product"], "name": "n",
        },
        ("POST", f"{case}/events"): {
            "event": "refund_asked", "actor": "buyer", "reason": "r", "at": "2026-01-01T00:00:00Z", "confirmed": True,
            "amount": 1, "paid": 2, "enabled_at": None, "resource_order": None, "buyer_code": None,
        },
        ("POST", f"{case}/confirmations"): {"event": "rejected", "at": "2026-01-01T00:00:00Z", "reason": "r"},
        ("POST", "/admin/v1/supervision-cases/bulk"): {
            "cases": [case.rpartition("/")[2]], "confirm": {"event": "claimed"}, "record": None,
        },
        ("PUT", f"/admin/v1/products/{catalog['product']}/acceptance-standard"): {
            "proofs": [], "fields": [], "delivery_days": 1,
        },
        ("POST", "/admin/v1/tokens"): {"name": "n", "role": "reader"},
        ("POST", "/admin/v1/alert-channels"): {
            "name": "n", "kind": "mail", "address": "a@b.example", "language": "en", "least_level": "warn",
        },
        ("PUT", f"/admin/v1/delisting-guard/{catalog['connection']}/failed-orders"): {"month": "2026-11", "failed_orders": 1},
        ("PUT", f"/admin/v1/delisting-guard/{catalog['connection']}/on-sale"): {"on_sale": "yes"},
        ("POST", "/admin/v1/webhook-endpoints"): {"url": "https://h.example", "events": ["*"], "description": "", "signatures": ["v1"]},
    }  # fmt: skip

    for (method, path), body in bodies.items():
        for name in body:
            for odd in ODD:
                response = await site.owner.request(method, path, json={**body, name: odd}, headers={"if-match": '"1"'})
                assert response.status_code < 500, (path, name, odd, response.text)
                assert response.status_code < 300 or response.json()["code"], (path, name, odd)


@pytest.mark.parametrize("field", ["amount", "expires_at", "line_id", "license_code", "period", "product"])
async def test_odd_values_in_a_line_never_break_anything(site: Site, field: str):
    catalog = await make_catalog(site)

    for odd in [*ODD, "2026-02-30T00:00:00Z", "9999-12-31T23:59:59-12:00", "PL\n", {"unit": "YEAR", "count": 36_500}]:
        body = {
            "connection": catalog["connection"],
            "order_id": "o",
            "lines": [{"product": catalog["product"], field: odd}],
        }
        response = await site.owner.post("/admin/v1/orders", json=body)
        assert response.status_code < 500, (odd, response.text)


@pytest.mark.parametrize(
    "query",
    ["limit=0", f"limit={MAX_LIMIT + 1}", "limit=x", "limit=", "limit=1e3", "limit=99999999999999999999", "cursor=", "cursor=x",
     "cursor=%00", "cursor=%ff", "cursor=" + "A" * 16, "cursor=" + "A" * 65],
)  # fmt: skip
async def test_a_page_that_cannot_be_is_refused(site: Site, query: str):
    for kind in LISTS:
        response = await site.owner.get(f"/admin/v1/{kind}?{query}")
        assert (response.status_code, response.json()["status"]) == (400, 400), (kind, query)


async def test_a_cursor_of_another_list_is_refused(site: Site):
    response = await site.owner.get("/admin/v1/tokens", params={"cursor": encode_cursor("policies", 1)})

    assert response.json()["code"] == "INVALID_CURSOR"


@pytest.mark.parametrize("place", [2**63 - 1, -(2**63), 0, -1])
async def test_a_forged_cursor_reads_an_ordinary_page(site: Site, place: int):
    response = await site.owner.get("/admin/v1/tokens", params={"cursor": encode_cursor("tokens", place)})

    assert response.status_code == 200


@pytest.mark.parametrize(
    "query", ["order_id=%00", "order_id=", "order_id=a%20b", "order_id=" + "a" * 65, "order_id=%ff", "order_id=a%0a"]
)
async def test_an_order_id_that_cannot_be_is_refused(site: Site, query: str):
    for kind in ("orders", "licenses", "messages"):
        response = await site.owner.get(f"/admin/v1/{kind}?{query}")
        assert (response.status_code, response.json()["errors"][0]["parameter"]) == (400, "order_id"), query


@pytest.mark.parametrize("code", ["%00", "%ff", "%ed%a0%80", "x", "' OR 1=1 --"])
async def test_a_code_that_cannot_be_finds_nothing_and_is_not_quoted(site: Site, code: str):
    response = await site.owner.get(f"/admin/v1/licenses?code={code}")

    assert (response.status_code, response.json()["items"]) == (200, [])


async def test_a_refusal_does_not_quote_a_license_code(site: Site):
    response = await site.owner.get("/admin/v1/licenses?code=LS-CANARY-12345&limit=0")

    assert response.status_code == 400
    assert "CANARY" not in response.text


@pytest.mark.parametrize(
    "public_id", ["1", "pol_", "%00", "pol_" + "0" * 25 + "%0a", "POL_" + "0" * 26, "%ff", "a" * 5_000]
)
async def test_an_id_that_cannot_be_is_refused(site: Site, public_id: str):
    response = await site.owner.get(f"/admin/v1/policies/{public_id}")

    assert response.status_code in {400, 404}, response.text


async def test_random_bodies_are_never_an_internal_error(tmp_path: Path):
    """Hypothesis draws inside one event loop and on one database."""
    documents = st.dictionaries(st.sampled_from(["name", "site", "term", "role", "period", "lines"]), JSON, max_size=4)
    drawn: list[bytes] = []
    collect(st.one_of(st.binary(max_size=100), documents.map(lambda document: json.dumps(document).encode())), drawn)
    async with open_site(tmp_path) as site:
        for body in drawn:
            for method, path in ENTRIES:
                headers = {"content-type": "application/json", "if-match": '"1"'}
                response = await site.owner.request(method, path, content=body, headers=headers)
                assert response.status_code < 500, (path, body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def collect(strategy: st.SearchStrategy[bytes], into: list[bytes]) -> None:
    @settings(max_examples=100, database=None)
    @given(strategy)
    def draw(body: bytes) -> None:
        into.append(body)

    draw()
