"""Changes of licenses by hand over the admin API: reason, ETag, idempotency, and what hostile callers get."""

import asyncio

import pytest

from licensesvc.services.licenses.seats import take_seat
from tests.support_web import Site, created, make_catalog, make_order

WHY = {"reason": "ticket 4711"}
VERBS = {
    "suspend": {},
    "reinstate": {},
    "revoke": {},
    "renew": {"period": {"unit": "MONTH", "count": 1}},
    "move-expiry": {"expires_at": "2030-01-01T00:00:00Z"},
    "change-quantity": {"quantity": 5},
    "replace-code": {},
    "free-seat": {"activation": None},
    "reset-activation": {"fingerprint": "machine-1"},
}


@pytest.fixture
async def sold(site: Site) -> str:
    """An active license of two seats, both taken."""
    order = await make_order(site, await make_catalog(site), amount=2)
    license_id = order["lines"][0]["license"]
    code = (await site.operator.get(f"/admin/v1/licenses/{license_id}/code")).json()["code"]
    await take_seat(site.rt, code, "machine-1")
    await take_seat(site.rt, code, "machine-2")
    return license_id


async def etag_of(site: Site, license_id: str) -> str:
    return (await site.reader.get(f"/admin/v1/licenses/{license_id}")).headers["etag"]


async def ask(site: Site, license_id: str, verb: str, body=None, **headers: str):
    body = {**WHY, **VERBS[verb]} if body is None else body
    sent = {"if-match": await etag_of(site, license_id), **{name.replace("_", "-"): headers[name] for name in headers}}
    return await site.operator.post(f"/admin/v1/licenses/{license_id}/{verb}", json=body, headers=sent)


@pytest.mark.parametrize("verb", VERBS)
async def test_a_change_answers_with_the_license_and_its_new_tag(site: Site, sold: str, verb: str):
    if verb == "reinstate":
        await ask(site, sold, "suspend")

    answer = await ask(site, sold, verb)

    assert answer.status_code == 200, answer.text
    shown = await site.reader.get(f"/admin/v1/licenses/{sold}")
    assert answer.json() == shown.json()
    assert answer.headers["etag"] == shown.headers["etag"] == f'"{shown.json()["version"]}"'
    [event] = (await site.reader.get(f"/admin/v1/audit-events?subject={sold}&limit=200")).json()["items"][-1:]
    assert (event["detail"]["reason"], event["actor"][:4]) == ("ticket 4711", "tok_")


@pytest.mark.parametrize("verb", VERBS)
async def test_without_or_with_an_old_tag_nothing_is_changed(site: Site, sold: str, verb: str):
    path = f"/admin/v1/licenses/{sold}/{verb}"
    body = {**WHY, **VERBS[verb]}
    old = await etag_of(site, sold)
    await ask(site, sold, "suspend")
    rows, before = await site.rows(), (await site.reader.get(f"/admin/v1/licenses/{sold}")).json()

    for headers, status, code in (
        ({}, 428, "PRECONDITION_REQUIRED"),
        ({"if-match": old}, 412, "STALE_VERSION"),
        ({"if-match": "*"}, 400, "MALFORMED_REQUEST"),
        ({"if-match": 'W/"1"'}, 400, "MALFORMED_REQUEST"),
        ({"if-match": '"' + "9" * 18 + '"'}, 412, "STALE_VERSION"),
        ({"if-match": '"' + "9" * 19 + '"'}, 400, "MALFORMED_REQUEST"),
    ):
        answer = await site.operator.post(path, json=body, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (status, code)

    assert await site.rows() == rows
    assert (await site.reader.get(f"/admin/v1/licenses/{sold}")).json() == before


@pytest.mark.parametrize("verb", VERBS)
async def test_under_a_key_a_change_happens_once_though_the_tag_is_old_by_then(site: Site, sold: str, verb: str):
    headers = {"if-match": await etag_of(site, sold), "idempotency-key": "k1"}
    path, body = f"/admin/v1/licenses/{sold}/{verb}", {**WHY, **VERBS[verb]}
    first = await site.operator.post(path, json=body, headers=headers)
    rows = await site.rows()

    second = await site.operator.post(path, json=body, headers=headers)

    assert (first.status_code, second.status_code) == (200, 200)
    assert (second.content, second.headers["etag"]) == (first.content, first.headers["etag"])
    assert second.headers["idempotency-replayed"] == "true"
    assert await site.rows() == rows


async def test_twenty_renewals_at_once_under_one_key_renew_once(site: Site, sold: str):
    before = (await site.reader.get(f"/admin/v1/licenses/{sold}")).json()["expires_at"]
    headers = {"if-match": await etag_of(site, sold), "idempotency-key": "k1"}
    body = {**WHY, "period": {"unit": "YEAR", "count": 1}}

    answers = await asyncio.gather(
        *(site.operator.post(f"/admin/v1/licenses/{sold}/renew", json=body, headers=headers) for _ in range(20))
    )

    assert {answer.status_code for answer in answers} == {200}
    after = (await site.reader.get(f"/admin/v1/licenses/{sold}")).json()["expires_at"]
    assert (before[:4], after[:4]) == ("2027", "2028")


@pytest.mark.parametrize("reason", [None, "", "   ", "\t\n", "x" * 501, 7, "a\x00b"])
@pytest.mark.parametrize("verb", VERBS)
async def test_a_change_needs_a_reason(site: Site, sold: str, verb: str, reason):
    body = {**VERBS[verb], **({} if reason is None else {"reason": reason})}

    answer = await ask(site, sold, verb, body)

    assert (answer.status_code, answer.json()["code"]) in {(422, "INVALID_BODY"), (400, "UNREADABLE_BODY")}


@pytest.mark.parametrize(
    ("verb", "values"),
    [
        ("renew", [{"period": p} for p in ({}, {"unit": "YEAR", "count": 0}, {"unit": "YEAR", "count": 36_500}, 5)]),
        ("move-expiry", [{}, *({"expires_at": at} for at in ("", "tomorrow", "2030-02-30T00:00:00Z", "2030", 1, [], "9" * 41))]),
        ("change-quantity", [{}, *({"quantity": n} for n in (0, -1, 1, 1.5, "3", 10**17, 1_000_001, None))]),
        ("free-seat", [{"activation": a} for a in ("", "act_x", 7, "x" * 41)]),
        ("reset-activation", [{}, *({"fingerprint": f} for f in ("", "unknown", "x" * 1025, None))]),
        ("suspend", [{"unknown": 1}]),
    ],
)  # fmt: skip
async def test_values_that_cannot_be_are_refused_and_change_nothing(site: Site, sold: str, verb: str, values):
    rows, before = await site.rows(), (await site.reader.get(f"/admin/v1/licenses/{sold}")).json()

    for value in values:
        answer = await ask(site, sold, verb, {**WHY, **value})
        assert answer.status_code in {404, 409, 422}, (value, answer.text)

    assert await site.rows() == rows
    assert (await site.reader.get(f"/admin/v1/licenses/{sold}")).json() == before


async def test_a_leaked_code_finds_nothing_and_stands_nowhere(site: Site, sold: str):
    old = (await site.operator.get(f"/admin/v1/licenses/{sold}/code")).json()["code"]

    answer = await ask(site, sold, "replace-code")

    new = (await site.operator.get(f"/admin/v1/licenses/{sold}/code")).json()["code"]
    assert new != old
    assert old not in answer.text
    assert new not in answer.text
    assert (await site.reader.get("/admin/v1/licenses", params={"code": old})).json()["items"] == []
    events = await site.reader.get("/admin/v1/audit-events", params={"subject": sold})
    assert old not in events.text
    assert new not in events.text


async def test_seats_are_listed_page_by_page_and_disappear_when_freed(site: Site, sold: str):
    first = await site.reader.get(f"/admin/v1/licenses/{sold}/activations?limit=1")
    second = await site.reader.get(first.links["next"]["url"])

    taken = [*first.json()["items"], *second.json()["items"]]
    assert [len(item) for item in (taken, second.json()["items"])] == [2, 1]
    assert set(taken[0]) == {"id", "created_at"}
    await ask(site, sold, "free-seat", {**WHY, "activation": taken[1]["id"]})
    left = (await site.reader.get(f"/admin/v1/licenses/{sold}/activations")).json()["items"]
    assert left == taken[:1]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, True),
        ({"status": "ALIVE"}, True),
        ({"state": "ACTIVE", "status": "ALIVE", "order_id": "CS123"}, True),
        ({"status": "EXPIRED"}, False),
        ({"state": "ISSUED"}, False),
        ({"customer_id": "nobody"}, False),
        ({"buyer": "buy_" + "0" * 26}, False),
        ({"product": "prd_" + "0" * 26}, False),
        ({"connection": "con_" + "0" * 26}, False),
    ],
)
async def test_filters_of_licenses_are_combined(site: Site, sold: str, filters: dict[str, str], found: bool):
    listed = await site.reader.get("/admin/v1/licenses", params=filters)

    assert [item["id"] for item in listed.json()["items"]] == ([sold] if found else [])


@pytest.mark.parametrize(
    "query",
    [
        "status=alive",
        "state=ALIVE",
        "buyer=1",
        "buyer=' OR 1=1",
        "product=%00",
        "customer_id=",
        "customer_id=%00",
        "connection=" + "a" * 50,
    ],
)
async def test_a_filter_that_cannot_be_is_refused(site: Site, query: str):
    answer = await site.reader.get(f"/admin/v1/licenses?{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, "MALFORMED_REQUEST")


async def test_other_lists_are_narrowed_too(site: Site):
    catalog = await make_catalog(site)
    body = {"connection": catalog["connection"], "order_id": "CS1", "buyer": {"customer_id": "c-1"},
            "lines": [{"product": catalog["product"]}]}  # fmt: skip
    order = (await site.operator.post("/admin/v1/orders", json=body)).json()
    await make_order(site, catalog, "CS2")
    await created(site, "credentials", {"connection": catalog["connection"], "scope": "seller", "name": "erp"})

    for path, filters, count in (
        ("orders", {"buyer": order["buyer"]}, 1),
        ("orders", {"connection": catalog["connection"]}, 2),
        ("orders", {"order_type": "TRIAL"}, 0),
        ("connections", {"name": "cn LICENSE_1_0", "site": "cn"}, 1),
        ("connections", {"site": "eu"}, 0),
        ("policies", {"name": "year LICENSE_1_0"}, 1),
        ("policies", {"name": "year"}, 0),
        ("products", {"connection": catalog["connection"], "policy": catalog["policy"]}, 1),
        ("products", {"policy": "pol_" + "0" * 26}, 0),
        ("credentials", {"connection": catalog["connection"], "live": "true"}, 1),
        ("credentials", {"live": "false", "product": catalog["product"]}, 0),
        ("tokens", {"role": "reader", "live": "true"}, 1),
        ("tokens", {"live": "false"}, 0),
        ("licenses", {"buyer": order["buyer"]}, 1),
        ("licenses", {"customer_id": "c-1"}, 1),
        ("licenses", {"product": catalog["product"]}, 2),
        ("supervision-cases", {"order_id": "CS2"}, 1),
        ("supervision-cases", {"connection": catalog["connection"], "node": "DELIVERING"}, 2),
        ("messages", {"direction": "in", "outcome": "000000", "connection": catalog["connection"]}, 0),
    ):
        found = await site.owner.get(f"/admin/v1/{path}", params=filters)
        assert len(found.json()["items"]) == count, (path, filters)
