"""Orders by hand, their licenses, credentials, messages: over the admin API."""

import pytest

from licensesvc.services.access.authenticate_software import secret_context
from licensesvc.storage import credentials, messages
from licensesvc.storage.messages import Message
from tests.support_web import START, Site, created, make_catalog, make_order

BUYER = {"customer_id": "cust-1", "name": "name-canary", "mobile": "13800000000"}


async def test_an_order_by_hand_is_issued_a_license(site: Site):
    catalog = await make_catalog(site)
    body = {
        "connection": catalog["connection"],
        "order_id": "CS123",
        "order_time": "2026-11-18T08:00:00Z",
        "buyer": BUYER,
        "lines": [{"product": catalog["product"], "amount": 3}],
    }

    response = await site.operator.post("/admin/v1/orders", json=body)

    order = response.json()
    line = order["lines"][0]
    assert response.status_code == 201
    assert (order["order_type"], order["source"], order["order_time"]) == (
        "NEW",
        "operator",
        "2026-11-18T08:00:00.000Z",
    )
    assert (line["line_id"], line["amount"], line["product"]) == ("CS123-000001", 3, catalog["product"])
    license_ = (await site.reader.get(f"/admin/v1/licenses/{line['license']}")).json()
    assert (license_["status"], license_["seats"], license_["order_id"]) == ("NOT_ACTIVATED", 3, "CS123")
    assert (await site.reader.get(f"/admin/v1/supervision-cases/{line['case']}")).json()["node"] == "DELIVERING"
    assert (await site.reader.get(f"/admin/v1/orders/{order['id']}")).json() == order
    assert "canary" not in response.text


async def test_the_same_order_again_changes_nothing(site: Site):
    catalog = await make_catalog(site)
    first = await make_order(site, catalog, amount=2)
    rows = await site.rows()

    assert await make_order(site, catalog, amount=2) == first
    assert await site.rows() == rows


async def test_several_lines_are_entered_together_or_not_at_all(site: Site):
    catalog = await make_catalog(site)
    lines = [{"line_id": "1", "product": catalog["product"]}, {"line_id": "2", "product": catalog["product"]}]
    body = {"connection": catalog["connection"], "order_id": "CS9", "lines": lines}
    rows = await site.rows()

    wrong = {**body, "lines": [lines[0], {**lines[1], "license_code": "PL-made-elsewhere"}]}
    refused = await site.operator.post("/admin/v1/orders", json=wrong)

    assert (refused.status_code, refused.json()["code"]) == (422, "INVALID_PARAMETER")
    assert await site.rows() == rows
    accepted = await site.operator.post("/admin/v1/orders", json=body)
    assert [line["line_id"] for line in accepted.json()["lines"]] == ["1", "2"]


@pytest.mark.parametrize("line_ids", [[None, None], ["a", None], ["a", "a"]])
async def test_several_lines_need_ids_of_their_own(site: Site, line_ids: list[str | None]):
    catalog = await make_catalog(site)
    lines = [{"line_id": line_id, "product": catalog["product"]} for line_id in line_ids]
    body = {"connection": catalog["connection"], "order_id": "CS9", "lines": lines}

    response = await site.operator.post("/admin/v1/orders", json=body)

    assert (response.status_code, response.json()["code"]) == (422, "INVALID_PARAMETER")


async def test_a_code_that_the_marketplace_made_is_learned_and_found(site: Site):
    catalog = await make_catalog(site, delivery_kind="LICENSE_2_0")
    order = await make_order(site, catalog, license_code="PLabc-0123456789-0123456789")

    found = await site.reader.get("/admin/v1/licenses", params={"code": "PLabc-0123456789-0123456789"})
    other = await site.reader.get("/admin/v1/licenses", params={"code": "plABC-0123456789-0123456789"})

    assert [item["id"] for item in found.json()["items"]] == [order["lines"][0]["license"]]
    assert other.json() == {"items": [], "next_cursor": None}


async def test_a_code_known_already_is_a_conflict(site: Site):
    catalog = await make_catalog(site, delivery_kind="LICENSE_2_0")
    await make_order(site, catalog, "CS1", license_code="PL-1")
    body = {
        "connection": catalog["connection"],
        "order_id": "CS2",
        "lines": [{"product": catalog["product"], "license_code": "PL-1"}],
    }

    response = await site.owner.post("/admin/v1/orders", json=body)

    assert (response.status_code, response.json()["code"]) == (409, "ALREADY_EXISTS")


async def test_a_line_never_changes_the_code_that_was_learned_with_it(site: Site):
    catalog = await make_catalog(site, delivery_kind="LICENSE_2_0")
    first = await make_order(site, catalog, license_code="PL-1")
    rows = await site.rows()

    body = {
        "connection": catalog["connection"],
        "order_id": "CS123",
        "lines": [{"product": catalog["product"], "license_code": "PL-2"}],
    }
    other = await site.owner.post("/admin/v1/orders", json=body)
    same = await make_order(site, catalog, license_code="PL-1")
    without = await make_order(site, catalog)

    assert (other.status_code, other.json()["code"]) == (409, "ORDER_CONFLICT")
    assert "PL-" not in other.text
    assert first == same == without
    assert await site.rows() == rows


@pytest.mark.parametrize("known", [False, True], ids=["new order", "known order"])
@pytest.mark.parametrize("kind", ["LICENSE_1_0", "ONLINE_LICENSE", "GENERAL"])
async def test_a_code_for_a_product_whose_codes_we_make_is_refused(site: Site, kind: str, *, known: bool):
    catalog = await make_catalog(site, delivery_kind=kind)
    if known:
        await make_order(site, catalog)
    rows = await site.rows()
    line = {"product": catalog["product"], "license_code": "PL-1"}

    response = await site.owner.post(
        "/admin/v1/orders", json={"connection": catalog["connection"], "order_id": "CS123", "lines": [line]}
    )

    assert (response.status_code, response.json()["code"]) == (422, "INVALID_PARAMETER")
    assert await site.rows() == rows


async def test_a_shown_code_finds_its_license_and_leaves_an_audit_event(site: Site):
    order = await make_order(site, await make_catalog(site))
    license_id = order["lines"][0]["license"]

    shown = await site.operator.get(f"/admin/v1/licenses/{license_id}/code")

    code = shown.json()["code"]
    assert shown.headers["cache-control"] == "no-store"
    assert (await site.audit_kinds())[-1] == "license.code_shown"
    for typed in (code, code.lower().replace("-", " ")):
        found = await site.reader.get("/admin/v1/licenses", params={"code": typed})
        assert [item["id"] for item in found.json()["items"]] == [license_id]
        assert code not in found.text


async def test_lists_are_narrowed_by_order(site: Site):
    catalog = await make_catalog(site)
    for order_id in ("CS1", "CS2"):
        await make_order(site, catalog, order_id)
    await site.rt.db.write(lambda tx: messages.insert(tx, a_message("CS2")))
    await site.rt.db.write(lambda tx: messages.insert(tx, a_message("CS1")))

    for kind in ("orders", "licenses", "messages"):
        response = await site.reader.get(f"/admin/v1/{kind}", params={"order_id": "CS2"})
        assert [item["order_id"] for item in response.json()["items"]] == ["CS2"]


async def test_a_message_is_shown_with_its_outcome(site: Site):
    await site.rt.db.write(lambda tx: messages.insert(tx, a_message("CS1")))

    items = (await site.reader.get("/admin/v1/messages")).json()["items"]

    assert items[0]["authenticated_at"] == "2026-11-18T11:06:40.000Z"
    assert (items[0]["connection"], items[0]["outcome"], items[0]["duration_ms"]) == (None, "000000", 12)


async def test_a_secret_key_is_shown_once_and_opens_from_the_vault(site: Site):
    catalog = await make_catalog(site)
    new = await created(
        site,
        "credentials",
        {"connection": catalog["connection"], "scope": "device", "product": catalog["product"], "name": "desktop"},
    )

    listed = await site.reader.get("/admin/v1/credentials")

    assert (len(new["access_key"]), new["access_key"][:2], len(new["secret_key"])) == (20, "AK", 40)
    assert new["secret_key"] not in listed.text
    stored = await site.rt.db.read(lambda tx: credentials.by_access_key(tx, new["access_key"]))
    assert stored is not None
    assert site.rt.vault.open(stored.secret, secret_context(new["id"])).decode() == new["secret_key"]


async def test_a_revoked_credential_stays_revoked(site: Site):
    catalog = await make_catalog(site)
    body = {"connection": catalog["connection"], "scope": "seller", "name": "erp"}
    new = await created(site, "credentials", body)

    first = await site.owner.delete(f"/admin/v1/credentials/{new['id']}")
    site.clock.now += 1_000
    second = await site.owner.delete(f"/admin/v1/credentials/{new['id']}")

    assert (first.status_code, second.status_code) == (204, 204)
    assert (await site.reader.get("/admin/v1/credentials")).json()["items"][0][
        "revoked_at"
    ] == "2026-11-18T11:06:40.000Z"


@pytest.mark.parametrize(("scope", "with_product"), [("device", False), ("seller", True)])
async def test_a_product_belongs_exactly_to_scope_device(site: Site, scope: str, with_product: bool):
    catalog = await make_catalog(site)
    body = {"connection": catalog["connection"], "scope": scope, "name": "x"}

    response = await site.owner.post(
        "/admin/v1/credentials", json={**body, "product": catalog["product"] if with_product else None}
    )

    assert (response.status_code, response.json()["code"]) == (422, "INVALID_PARAMETER")


def a_message(order_id: str) -> Message:
    return Message(
        public_id=f"msg_{order_id}",
        connection_id=None,
        direction="in",
        activity="getLicense",
        order_id=order_id,
        authenticated_at=START,
        received_at=START,
        request="…",
        response="…",
        outcome="000000",
        detail=None,
        address="192.0.2.1",
        duration_ms=12,
    )
