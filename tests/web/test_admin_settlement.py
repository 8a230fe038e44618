"""Prices, transactions, totals, agreements and what is due, over the admin API; what a confused or hostile caller sends changes nothing."""

import pytest

from tests.support_web import created, make_catalog, make_order

TIME = "2026-11-18T08:00:00Z"


@pytest.fixture
async def sold(site):
    catalog = await make_catalog(site, delivery_kind="GENERAL")
    order = await make_order(site, catalog)
    return {**catalog, "order": order, "line": order["lines"][0]["id"], "case": order["lines"][0]["case"]}


async def price(site, line, amount, currency="CNY"):
    body = {"currency": currency, "price": amount, "reason": "as the list says"}
    return await site.operator.put(f"/admin/v1/settlement/lines/{line}/price", json=body)


def transaction(line, reference="T1", kind="payment", amount=100, **more):
    return {"line": line, "reference": reference, "kind": kind, "amount": amount, "currency": "CNY", "at": TIME, **more}


async def enter(site, body):
    return await site.operator.post("/admin/v1/settlement/transactions", json=body)


async def joint(site, product):
    answer = await site.owner.put(
        f"/admin/v1/products/{product}/sales-model", json={"sales_model": "joint", "reason": "联营"}
    )
    assert answer.status_code == 204


async def test_a_general_line_is_paid_with_its_order_and_a_joint_one_by_its_transactions(site, sold):
    told = (await price(site, sold["line"], 1_000)).json()
    assert (told["payment"], told["paid"], told["billed"], told["month"]) == ("paid", 1_000, 1_000, None)
    await joint(site, sold["product"])
    for number, amount in enumerate((400, 600)):
        assert (await enter(site, transaction(sold["line"], f"T{number}", amount=amount))).status_code == 201
        [line] = (await site.reader.get("/admin/v1/settlement/lines")).json()["items"]
        assert line["payment"] == ("partly_paid" if number == 0 else "paid")
    listed = (await site.reader.get(f"/admin/v1/settlement/transactions?line={sold['line']}")).json()["items"]
    assert [one["amount"] for one in listed] == [400, 600]


async def test_a_completed_case_is_billed_in_the_next_month_without_what_was_given_back(site, sold):
    await price(site, sold["line"], 1_000)
    for event, actor in (("delivered", "seller"), ("accepted", "buyer"), ("completed", "marketplace")):
        answer = await site.operator.post(
            f"/admin/v1/supervision-cases/{sold['case']}/events", json={"event": event, "actor": actor}
        )
        assert answer.status_code == 201, answer.text
    assert (await enter(site, transaction(sold["line"], kind="refund", amount=300))).status_code == 201
    [line] = (await site.reader.get("/admin/v1/settlement/lines?month=2026-12")).json()["items"]
    assert (line["billed"], line["refunded"]) == (700, 300)
    totals = (await site.reader.get("/admin/v1/settlement/totals?until=2026-12")).json()["totals"]
    assert [(one["lines"], one["price"], one["billed"]) for one in totals] == [(1, 1_000, 700)]
    assert (await site.reader.get("/admin/v1/settlement/totals?until=2026-11")).json()["totals"] == []
    exported = (await site.reader.get("/admin/v1/exports/settlement?month=2026-12")).text
    assert "2026-12,CNY,1000" in exported


async def test_the_same_transaction_again_is_one_and_another_under_its_number_is_refused(site, sold):
    await joint(site, sold["product"])
    await price(site, sold["line"], 1_000)
    first, again = [await enter(site, transaction(sold["line"])) for _ in range(2)]
    assert first.json() == again.json()
    assert (await enter(site, transaction(sold["line"], amount=101))).status_code == 409


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"amount": 1_001}, 422),
        ({"amount": 0}, 422),
        ({"amount": -1}, 422),
        ({"amount": 10**16}, 422),
        ({"amount": 1.5}, 422),
        ({"currency": "USD"}, 409),
        ({"currency": "cny"}, 422),
        ({"at": "yesterday"}, 422),
        ({"kind": "gift"}, 422),
        ({"reference": ""}, 422),
        ({"reference": "a b"}, 422),
        ({"line": "lin_" + "0" * 26}, 404),
        ({"extra": 1}, 422),
        ({"kind": "refund", "amount": 1}, 422),
    ],
)
async def test_transactions_that_are_refused_leave_nothing(site, sold, change, status):
    await joint(site, sold["product"])
    await price(site, sold["line"], 1_000)
    before = await site.rows()
    assert (await enter(site, {**transaction(sold["line"]), **change})).status_code == status
    assert await site.rows() == before


async def test_a_price_below_what_was_paid_or_in_another_currency_is_refused(site, sold):
    await joint(site, sold["product"])
    await price(site, sold["line"], 1_000)
    await enter(site, transaction(sold["line"], amount=500))
    assert (await price(site, sold["line"], 499)).status_code == 422
    assert (await price(site, sold["line"], 1_000, "USD")).status_code == 409
    assert (await price(site, sold["line"], 900)).status_code == 200


async def test_a_transaction_list_is_imported_and_the_same_file_again_changes_nothing(site, sold):
    await joint(site, sold["product"])
    rows = "order_id,kind,amount,currency,reference,at\r\nCS123,price,10.00,CNY,,\r\nCS123,payment,4.5,CNY,T1," + TIME
    rows += "\r\nCS999,payment,1,CNY,T2," + TIME + "\r\nCS123,payment,1.234,CNY,T3," + TIME + "\r\n"

    async def load(dry_run):
        return (
            await site.operator.post(
                f"/admin/v1/imports/transactions?connection={sold['connection']}&dry_run={dry_run}",
                content=rows.encode(),
                headers={"content-type": "text/csv"},
            )
        ).json()

    tried = await load("true")
    assert (tried["bad"], tried["written"]) == (3, False)  # the payment has no price to lean on where nothing stays
    first, again = await load("false"), await load("false")
    assert (first["created"], first["bad"], again["created"], again["known"]) == (2, 2, 0, 2)
    [line] = (await site.reader.get("/admin/v1/settlement/lines")).json()["items"]
    assert (line["price"], line["paid"]) == (1_000, 450)


async def test_agreements_have_versions_and_buyers_accept_them(site, sold):
    body = {
        "connection": sold["connection"], "product": sold["product"], "title": "服务协议", "version": "1.0",
        "sha256": "0" * 64, "effective_at": TIME,
    }  # fmt: skip
    agreement = await created(site, "agreements", body)
    own = await created(site, "agreements", {**body, "product": None, "title": "seller agreement"})
    accepted = {"agreement": agreement["id"], "line": sold["line"], "accepted_at": TIME}
    for _ in range(2):
        assert (await site.operator.post("/admin/v1/agreement-acceptances", json=accepted)).status_code == 204
    listed = (await site.reader.get("/admin/v1/agreement-acceptances?order_id=CS123")).json()["items"]
    assert [one["agreement"] for one in listed] == [agreement["id"]]
    assert [one["id"] for one in (await site.reader.get("/admin/v1/agreements?own=true")).json()["items"]] == [
        own["id"]
    ]
    wrong = await site.operator.post("/admin/v1/agreement-acceptances", json={**accepted, "agreement": own["id"]})
    assert wrong.status_code == 422
    backward = await site.owner.post("/admin/v1/agreements", json={**body, "ends_at": "2026-01-01T00:00:00Z"})
    assert backward.status_code == 422


async def test_what_is_due_is_listed_by_who_must_act(site, sold):
    from licensesvc.services.supervision.supervision_clock import SupervisionClock

    await SupervisionClock(site.rt).look()
    far = "2027-12-31T00:00:00Z"
    listed = (await site.reader.get(f"/admin/v1/supervision-due?until={far}&actor=seller")).json()
    assert {one["case"] for one in listed["items"]} == {sold["case"]}
    assert (await site.reader.get("/admin/v1/supervision-due?until=soon")).status_code == 422
