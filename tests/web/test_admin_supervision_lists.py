"""Supervision over the admin API: whose turn it is, what is due and missing, standards, confirmations, many at once, downloads."""

import json

import pytest

from licensesvc.domain.instants import DAY, HOUR
from tests.support_web import Site, created, make_catalog, make_order
from tests.web.test_admin_supervision import PDF, open_case, proving, record, upload

CASES = "/admin/v1/supervision-cases"


async def ids(site: Site, **params: object) -> list[str]:
    response = await site.reader.get(CASES, params=params)
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


def id_of(case: str) -> str:
    return case.rpartition("/")[2]


async def put_standard(site: Site, product: str, version: int, **fields: object):
    return await site.owner.put(
        f"/admin/v1/products/{product}/acceptance-standard", json=fields, headers={"if-match": f'"{version}"'}
    )


async def test_cases_are_found_by_turn_promise_confirmation_appeal_refund_and_month(site: Site):
    catalog = await make_catalog(site, delivery_kind="GENERAL")
    await put_standard(site, catalog["product"], 0, delivery_days=3)
    cases = {}
    for name in ("delivering", "confirming", "frozen", "refund", "done", "unconfirmed", "released"):
        order = await make_order(site, catalog, f"CS-{name}")
        cases[name] = f"{CASES}/{order['lines'][0]['case']}"
    for name, path in cases.items():
        if name not in {"delivering", "refund"}:
            await record(site, path, "delivered", actor="seller")
    await record(site, cases["frozen"], "appealed", actor="seller", reason="silence")
    await record(site, cases["refund"], "refund_asked", actor="buyer", reason="no need", amount=5, paid=10)
    await record(site, cases["done"], "accepted", actor="buyer")
    await record(site, cases["done"], "completed", actor="marketplace")
    await record(site, cases["unconfirmed"], "accepted", actor="buyer", confirmed=False)
    await record(site, cases["released"], "refunded", actor="marketplace")

    async def named(**params: object) -> set[str]:
        found = set(await ids(site, **params))
        return {name for name, path in cases.items() if id_of(path) in found}

    everything = set(cases)
    assert await named(waits_for="seller") == {"delivering", "refund"}
    assert await named(waits_for="buyer") == {"confirming"}
    assert await named(waits_for="marketplace") == {"frozen", "unconfirmed"}
    assert await named(waits_for="software") == await named(waits_for="operator") == set()
    assert await named(frozen="true") == {"frozen"}
    assert await named(frozen="false") == everything - {"frozen"}
    assert await named(unconfirmed="true") == {"unconfirmed"}
    assert await named(refund="ASKED") == {"refund"}
    assert await named(refund="PAID_BACK", node="REFUNDED") == {"released"}
    assert await named(settlement_month="2026-12") == {"done"}
    assert await named(settlement_month="2026-11") == set()
    assert await named(flow="seller-delivery") == everything
    assert await named(overdue="true") == set()
    site.clock.now += 3 * HOUR + 1
    assert await named(overdue="true") == {"unconfirmed"}
    site.clock.now += 4 * DAY
    assert await named(overdue="true") == {"unconfirmed", "delivering"}
    assert await named(overdue="true", waits_for="seller") == {"delivering"}
    assert await named(overdue="false") == everything - {"unconfirmed", "delivering"}


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("waits_for", "nobody"),
        ("refund", "x"),
        ("flow", "x"),
        ("settlement_month", "2026-13"),
        ("settlement_month", "2026-11\n"),
        ("settlement_month", "' OR 1=1"),
        ("overdue", "maybe"),
    ],
)
async def test_a_question_that_cannot_be_is_refused(site: Site, parameter: str, value: str):
    response = await site.reader.get(CASES, params={parameter: value})
    assert (response.status_code, response.json()["errors"][0]["parameter"]) == (400, parameter)


async def test_a_case_tells_what_is_missing_who_must_act_and_by_when(site: Site):
    catalog = await make_catalog(site)
    changed = await put_standard(
        site, catalog["product"], 0, proofs=["requirement", "acceptance"], fields=["resource_order"], delivery_days=3
    )
    assert (changed.status_code, changed.headers["etag"], changed.json()["version"]) == (200, '"1"', 1)
    order = await make_order(site, catalog)
    case = f"{CASES}/{order['lines'][0]['case']}"

    shown = (await site.reader.get(case)).json()

    assert (shown["waits_for"], shown["standard_version"]) == ("seller", 1)
    assert shown["missing"] == ["requirement", "acceptance", "resource_order"]
    assert shown["due_at"] == "2026-11-21T15:59:59.999Z"
    assert [(due["kind"], due["actor"], due["hard"], due["past"]) for due in shown["due"]] == [
        ("delivery", "seller", True, False),
        ("reminder", "seller", False, False),
    ]
    assert {move["event"] for move in shown["possible"]} == {
        "delivered", "activated", "accepted", "appealed", "refund_asked", "refunded",
    }  # fmt: skip
    await record(site, case, "activated")
    assert (await upload(site, case, kind="acceptance")).json()["missing"] == ["requirement", "resource_order"]
    refused = await site.operator.post(f"{case}/events", json={"event": "proof_uploaded", "actor": "seller"})
    assert (refused.status_code, refused.json()["code"]) == (409, "PROOF_MISSING")
    assert refused.json()["detail"] == "missing: requirement, resource_order"
    assert (await upload(site, case, kind="requirement")).json()["node"] == "PROVING"
    done = await record(site, case, "proof_uploaded", actor="seller", resource_order="CS-R-1", confirmed=False)
    assert (done["node"], done["resource_order"], done["missing"]) == ("BUYER_CONFIRMING", "CS-R-1", [])
    site.clock.now += 5 * DAY + 1
    assert (await site.reader.get(case)).json()["appeal_grounds"] == ["buyer_idle"]


async def test_a_standard_is_changed_by_who_has_seen_it(site: Site):
    catalog = await make_catalog(site)
    path = f"/admin/v1/products/{catalog['product']}/acceptance-standard"

    first = await site.reader.get(path)
    assert (first.headers["etag"], first.json()["version"], first.json()["proofs"]) == ('"0"', 0, [])
    assert (await put_standard(site, catalog["product"], 0, proofs=["other"])).json()["version"] == 1
    assert (await put_standard(site, catalog["product"], 0, proofs=["other"])).status_code == 412
    assert (await put_standard(site, catalog["product"], 1, proofs=["other"])).json()["version"] == 1
    assert (await site.owner.put(path, json={})).status_code == 428
    for wrong in (
        {"proofs": ["selfie"]},
        {"proofs": ["other", "other"]},
        {"delivery_days": 0},
        {"delivery_days": 1.5},
        {"x": 1},
    ):
        response = await put_standard(site, catalog["product"], 1, **wrong)
        assert (response.status_code, response.json()["status"]) == (422, 422), wrong
    assert (await site.audit_kinds()).count("product.standard_changed") == 1


async def test_a_confirmation_over_the_api(site: Site):
    case = await proving(site)
    await upload(site, case)
    await record(site, case, "accepted", actor="buyer", confirmed=False)

    response = await site.operator.post(f"{case}/confirmations", json={"event": "accepted"})

    assert response.status_code == 201
    assert (response.json()["confirmed"], response.json()["unconfirmed_since"]) == ("confirmed", None)
    assert "supervision.confirmed" in await site.audit_kinds()
    again = await site.operator.post(f"{case}/confirmations", json={"event": "accepted"})
    assert again.json()["confirmed"] == "known"


async def test_many_cases_over_the_api(site: Site):
    catalog = await make_catalog(site)
    cases = [(await make_order(site, catalog, f"CS{n}"))["lines"][0]["case"] for n in range(3)]

    body = {"cases": [*cases, "case_" + "0" * 26], "confirm": {"event": "completed"}}
    response = await site.operator.post(f"{CASES}/bulk", json=body)

    assert (response.json()["done"], response.json()["refused"]) == (3, 1)
    assert {result["node"] for result in response.json()["results"]} == {"COMPLETED", None}
    for wrong in (
        {"cases": []},
        {"cases": cases},
        {"cases": ["1"], "confirm": {"event": "completed"}},
        {"cases": [f"case_{n:026}" for n in range(101)], "confirm": {"event": "completed"}},
        {"cases": cases * 2, "confirm": {"event": "completed"}},
    ):
        assert (await site.operator.post(f"{CASES}/bulk", json=wrong)).status_code == 422


async def test_a_file_of_confirmations_over_the_api(site: Site):
    catalog = await make_catalog(site)
    await make_order(site, catalog)
    file = "order_id,event,time\r\nCS123,completed,2026-11-01T00:00:00Z\r\n".encode("gb18030")

    async def bring(content: bytes, media_type: str = "text/csv", **params: object):
        query = {"connection": catalog["connection"], "dry_run": "false", **params}
        return await site.operator.post(
            "/admin/v1/imports/confirmations", content=content, params=query, headers={"content-type": media_type}
        )

    dry = (await bring(file, dry_run="true")).json()
    assert (dry["recorded"], dry["written"]) == (1, False)
    assert (await bring(file)).json()["recorded"] == 1
    assert (await bring(file)).json()["known"] == 1
    assert await ids(site, node="COMPLETED", settlement_month="2026-12") != []
    for content, media_type, code in (
        (b"\xff\x00", "text/csv", "INVALID_PARAMETER"),
        (b"a;b\n", "text/csv", "INVALID_PARAMETER"),
        (file, "application/json", "UNSUPPORTED_MEDIA_TYPE"),
        (b"x" * (4 * 1024 * 1024 + 1), "text/csv", "BODY_TOO_LARGE"),
    ):
        assert (await bring(content, media_type)).json()["code"] == code


async def test_a_proof_comes_back_as_an_attachment_and_nothing_else(site: Site):
    case = await proving(site)
    page = b"<html><script>alert(1)</script>"
    proof = (await upload(site, case, page, "text/plain", filename='验收 "a".html')).json()["proofs"][0]

    response = await site.operator.get(f"/admin/v1/proofs/{proof['id']}")

    assert response.content == page
    headers = response.headers
    assert headers["content-disposition"] == (
        "attachment; filename=\"proof\"; filename*=UTF-8''%E9%AA%8C%E6%94%B6%20%22a%22.html"
    )
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert (headers["cache-control"], headers["content-length"]) == ("no-store", str(len(page)))
    (site.rt.proofs_dir / proof["sha256"][:2] / proof["sha256"]).unlink()
    gone = await site.operator.get(f"/admin/v1/proofs/{proof['id']}")
    assert (gone.status_code, gone.json()["code"]) == (404, "NOT_FOUND")


async def test_a_large_proof_arrives_in_pieces_and_one_too_large_leaves_nothing(site: Site):
    case = await proving(site)

    async def pieces(count: int):
        yield PDF
        for _ in range(count):
            yield bytes(1024 * 1024)

    params = {"kind": "other", "filename": "a.pdf"}
    headers = {"content-type": "application/pdf"}
    good = await site.operator.post(f"{case}/proofs", content=pieces(19), params=params, headers=headers)
    assert good.json()["proofs"][0]["size"] == len(PDF) + 19 * 1024 * 1024
    before = await site.rows()
    bad = await site.operator.post(f"{case}/proofs", content=pieces(20), params=params, headers=headers)
    assert (bad.status_code, bad.json()["code"]) == (413, "BODY_TOO_LARGE")
    assert await site.rows() == before
    assert len([path for path in site.rt.proofs_dir.rglob("*") if path.is_file()]) == 1


async def test_the_code_of_a_buyer_over_the_api(site: Site):
    case = await open_case(site, "LICENSE_1_0_SYSTEM_CODE")

    assert (await site.operator.get(f"{case}/buyer-code")).status_code == 404
    shown = await record(site, case, "code_submitted", actor="buyer", buyer_code="SYS-CANARY-1")
    assert (shown["node"], shown["has_buyer_code"]) == ("DELIVERING", True)
    assert "CANARY" not in json.dumps(shown)
    response = await site.operator.get(f"{case}/buyer-code")
    assert (response.json(), response.headers["cache-control"]) == ({"buyer_code": "SYS-CANARY-1"}, "no-store")
    assert (await site.audit_kinds())[-1] == "supervision.buyer_code_shown"


async def test_an_order_of_the_enablement_cloud_is_reviewed(site: Site):
    catalog = await make_catalog(site, delivery_kind="LICENSE_2_0")
    body = {
        "connection": catalog["connection"],
        "order_id": "CS1",
        "lines": [{"product": catalog["product"], "enablement_cloud": True}],
    }
    order = await created(site, "orders", body)

    case = (await site.reader.get(f"{CASES}/{order['lines'][0]['case']}")).json()

    assert case["flow"] == "license-2.0-2025-04-reviewed"
