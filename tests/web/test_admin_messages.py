"""`/messages`, `/outbox` and `/reconciliation` over HTTP: what is shown, what is refused, and that nothing secret is shown."""

import base64
import json
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import quote

import httpx2
import pytest
from structlog.testing import capture_logs

from licensesvc.domain.instants import HOUR, rfc3339
from licensesvc.services.restarts.restart_many import MOST
from licensesvc.storage import reconciliation
from licensesvc.web.admin.access import CONTROL
from tests.services.test_service_messages import keep
from tests.services.test_service_restart import GET_LICENSE, NOTIFY
from tests.services.test_service_restart_many import given_up
from tests.support_edges import Shop, ask, change, get_license_target, notification, notify_target, open_shop, rows
from tests.support_web import Site, make_app, started

CANARY = "PLCANARY00010002"
WHY = {"reason": "ticket 4711"}
UNKNOWN = f"msg_{'0' * 26}"


@pytest.fixture
async def shop(site: Site) -> Shop:
    """A shop whose marketplace nobody answers for."""
    shop = await open_shop(site.rt, seats=10)
    await change(site.rt, "UPDATE connections SET base_url = 'http://127.0.0.1:9'")
    return shop


@asynccontextmanager
async def owner_of(app):
    """The command line, at an application that runs already."""

    async def on_the_socket(scope, receive, send):
        await app({**scope, CONTROL: True}, receive, send)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(on_the_socket), base_url="http://x") as client:
        yield client


async def listed(site, **query):
    response = await site.reader.get("/admin/v1/messages", params=query)
    assert response.status_code == 200, response.text
    return response.json()["items"]


async def test_an_order_that_failed_is_repaired_by_mapping_its_product_and_restarting(edge):
    """The whole way: the marketplace's own call fails, the seller mends the cause, the restart delivers."""
    await change(edge.rt, "UPDATE products SET marketplace_product_id = 'OTHER'")
    extended = base64.b64encode(quote(json.dumps([{"name": "identificationCode", "value": CANARY}])).encode()).decode()
    target = get_license_target(edge.shop, edge.clock.now, saasExtendParams=extended, customerName=CANARY)
    assert (await ask(edge.app, "GET", target)).json["resultCode"] == "000005"
    await change(edge.rt, "UPDATE products SET marketplace_product_id = 'OFFI100'")
    async with owner_of(edge.app) as owner:
        [failed] = (await owner.get("/admin/v1/messages?state=FAILED")).json()["items"]

        done = await owner.post(f"/admin/v1/messages/{failed['id']}/restart", json={**WHY, "without_asking": True})

        assert done.status_code == 200, done.text
        answer = done.json()
        assert (answer["result"], answer["outcome"]) == ("succeeded", "000000")
        assert "卖家中心 > 生产接口消息" in answer["notes"][0]
        shown = (await owner.get(f"/admin/v1/messages/{failed['id']}")).json()
        assert (shown["state"], shown["restarts"], shown["not_restartable"]) == ("RESTARTED", [answer["restart"]], None)
        record = await owner.get(f"/admin/v1/messages/{answer['restart']}")
        assert record.json()["restart_of"] == failed["id"]
        delivered = (await ask(edge.app, "GET", get_license_target(edge.shop, edge.clock.now))).json["license"]
        everything = await owner.get("/admin/v1/messages")
    assert await rows(edge.rt, "licenses") == [1]
    for text in (done.text, record.text, everything.text):
        assert CANARY not in text
        assert extended not in text
        assert delivered not in text


async def test_a_code_planted_in_a_call_is_in_no_view(edge):
    fields = {
        "activity": "updateLicenseCodeStatus",
        "license": CANARY,
        "status": "FREEZE",
        "list": [{"license": CANARY}],
    }
    body = json.dumps(fields).encode()
    with capture_logs() as logged:
        await _planted_and_restarted(edge, body)
    assert CANARY not in repr(logged)


async def _planted_and_restarted(edge, body):
    await ask(edge.app, "POST", notify_target(edge.shop, body, edge.clock.now), body=body)
    async with owner_of(edge.app) as owner:
        [message] = (await owner.get("/admin/v1/messages")).json()["items"]
        shown = await owner.get(f"/admin/v1/messages/{message['id']}")
        restarted = await owner.post(f"/admin/v1/messages/{message['id']}/restart", json=WHY)
        everything = await owner.get("/admin/v1/messages")
        audit = await owner.get("/admin/v1/audit-events")

    assert (shown.json()["outcome"], restarted.json()["outcome"]) == ("000003", "000003")
    for answer in (shown, restarted, everything, audit):
        assert CANARY not in answer.text


async def test_a_debug_case_is_shown_as_one_and_not_restarted(edge):
    body = notification(testFlag="1")
    await ask(edge.app, "POST", notify_target(edge.shop, body, edge.clock.now), body=body)
    async with owner_of(edge.app) as owner:
        [message] = (await owner.get("/admin/v1/messages?purpose=test")).json()["items"]
        shown = (await owner.get(f"/admin/v1/messages/{message['id']}")).json()
        refused = await owner.post(f"/admin/v1/messages/{message['id']}/restart", json=WHY)

    assert "test call" in shown["not_restartable"]
    assert (refused.status_code, refused.json()["code"]) == (409, "NOT_RESTARTABLE")


async def test_messages_are_narrowed_and_read_from_either_end(site: Site, shop: Shop):
    for number in range(3):
        await keep(shop, "000000" if number else "000005", order_id=f"CS{number}")
        site.clock.now += HOUR

    assert [row["order_id"] for row in await listed(site, order="newest")] == ["CS2", "CS1", "CS0"]
    assert [row["order_id"] for row in await listed(site, state="FAILED")] == ["CS0"]
    assert [row["order_id"] for row in await listed(site, since=rfc3339(site.clock.now - HOUR))] == ["CS2"]
    assert [row["order_id"] for row in await listed(site, until=rfc3339(site.clock.now - 2 * HOUR))] == ["CS0"]
    assert len(await listed(site, activity="getLicense", connection=shop.connection.public_id)) == 3
    assert await listed(site, license=f"lic_{'0' * 26}") == []


async def test_pages_from_the_newest_end_are_followed_while_messages_come_in(site: Site, shop: Shop):
    for number in range(5):
        await keep(shop, order_id=f"CS{number}")
    first = await site.reader.get("/admin/v1/messages?order=newest&limit=2")
    await keep(shop, order_id="CS9")
    link = first.headers["link"]

    second = await site.reader.get(link[1 : link.index(">")])

    assert [row["order_id"] for row in first.json()["items"]] == ["CS4", "CS3"]
    assert [row["order_id"] for row in second.json()["items"]] == ["CS2", "CS1"]
    crossed = await site.reader.get("/admin/v1/messages", params={"cursor": first.json()["next_cursor"]})
    assert (crossed.status_code, crossed.json()["code"]) == (400, "INVALID_CURSOR")


IMPOSSIBLE_QUESTIONS = [
    "state=BROKEN",
    "state=FAILED&state=X",
    "activity=" + "x" * 65,
    "activity=a%0a",
    "outcome=%00",
    "license=PLCANARY",
    "since=yesterday",
    "until=" + "9" * 41,
    "since=2026-02-30T00:00:00Z",
    "order=random",
    "purpose=both",
    "limit=1000000",
    "order_id=" + "x" * 10_000,
]


async def test_a_question_that_cannot_be_is_refused(site: Site):
    for query in IMPOSSIBLE_QUESTIONS:
        response = await site.reader.get(f"/admin/v1/messages?{query}")

        assert response.status_code in {400, 422}, (query, response.text)
        assert response.json()["code"] in {"MALFORMED_REQUEST", "INVALID_PARAMETER"}, query


IMPROPER_BODIES = [
    (b"", 400),
    (b"\xff", 400),
    (b'{"reason":"a\\u0000"}', 400),
    (b"{" * 10_000, 400),
    (b'{"reason":' + b'"' + b"x" * 70_000 + b'"}', 413),
    (b"{}", 422),
    (b'{"reason":" "}', 422),
    (b'{"reason":"x","without_asking":"true"}', 422),
    (b'{"reason":"x","other":1}', 422),
    (b'{"reason":"x","reason":"y"}', 400),
    (b'{"reason":7}', 422),
]


async def test_a_restart_without_a_proper_reason_is_refused(site: Site):
    for path in (f"messages/{UNKNOWN}/restart", "messages/restart", f"outbox/obx_{'0' * 25}1/retry"):
        for body, status in IMPROPER_BODIES:
            response = await site.operator.post(
                f"/admin/v1/{path}", content=body, headers={"content-type": "application/json"}
            )

            assert response.status_code == status, (path, body[:40], response.text)


async def test_a_marketplace_that_cannot_be_asked_is_a_problem_that_says_what_to_do(site: Site, shop: Shop):
    failed = await keep(shop, raw=GET_LICENSE)

    response = await site.operator.post(f"/admin/v1/messages/{failed.public_id}/restart", json=WHY)

    assert (response.status_code, response.json()["code"]) == (409, "MARKETPLACE_NOT_ASKED")
    assert "without_asking" in response.json()["detail"]
    [asked] = await listed(site, direction="out")
    assert (asked["activity"], asked["outcome"]) == ("order/query", "MarketplaceUnreachable")


SENSELESS = [
    {"ids": []},
    {"ids": [UNKNOWN] * (MOST + 1)},
    {"ids": [f"msg_{n:026}" for n in range(1_000_000)]},
    {"ids": ["x"]},
    {"ids": [None]},
    {"ids": "all"},
    {"filter": {"state": "SUCCEEDED"}},
    {"filter": {"order_id": "x" * 10_000}},
    {"filter": {"order_id": {"$ne": 1}}},
    {"filter": {"direction": "sideways"}},
    {"filter": {}, "limit": 1_000_000},
    {"filter": {}, "limit": 0},
    {"filter": {}, "after": "x"},
    {"filter": {}, "ids": [UNKNOWN]},
    {},
]


async def test_a_bulk_without_bounds_or_sense_is_refused(site: Site, shop: Shop):
    await keep(shop, raw=GET_LICENSE)
    for wish in SENSELESS:
        response = await site.operator.post("/admin/v1/messages/restart", json={**WHY, "without_asking": True, **wish})

        assert response.status_code in {413, 422}, (str(wish)[:80], response.text)
    assert await rows(site.rt, "licenses") == [0]


async def test_a_bulk_tells_of_each_message_what_became_of_it(site: Site, shop: Shop):
    good = await keep(shop, raw=GET_LICENSE)
    unproven = await keep(shop, "000001", authenticated_at=None, order_id="CS2")
    wish = {**WHY, "without_asking": True, "ids": [unproven.public_id, UNKNOWN, good.public_id]}

    response = await site.operator.post("/admin/v1/messages/restart", json=wish)

    told = {item["message"]: (item["result"], item["code"]) for item in response.json()["items"]}
    assert told == {
        good.public_id: ("succeeded", None),
        unproven.public_id: ("refused", "NOT_RESTARTABLE"),
        UNKNOWN: ("refused", "NOT_FOUND"),
    }
    kinds = await site.audit_kinds()
    assert kinds.count("message.restart_begun") == kinds.count("message.restarted") == 1


async def test_given_up_work_is_listed_and_tried_again(site: Site, shop: Shop):
    name = await given_up(shop)

    [item] = (await site.reader.get("/admin/v1/outbox?state=given_up&kind=order_query&about=CS1")).json()["items"]
    assert (item["id"], item["state"], item["attempts"]) == (name, "given_up", 1)
    again = await site.operator.post(f"/admin/v1/outbox/{name}/retry", json=WHY)
    assert (again.status_code, again.json()["state"]) == (200, "waiting")
    twice = await site.operator.post(f"/admin/v1/outbox/{name}/retry", json=WHY)

    assert (twice.status_code, twice.json()["code"]) == (409, "NOT_RESTARTABLE")
    assert (await site.reader.get("/admin/v1/outbox?state=given_up")).json()["items"] == []


async def test_a_notification_is_queued_by_its_restart(site: Site, shop: Shop):
    failed = await keep(shop, activity="orderNotify", raw=NOTIFY)

    response = await site.operator.post(
        f"/admin/v1/messages/{failed.public_id}/restart", json={**WHY, "without_asking": True}
    )

    assert response.json()["result"] == "succeeded"
    [item] = (await site.reader.get("/admin/v1/outbox?state=waiting")).json()["items"]
    assert (item["kind"], item["about"]) == ("order_query", "CS1")


async def test_a_comparison_that_the_marketplace_does_not_answer_says_so(site: Site, shop: Shop):
    await shop.sell("CS1")

    response = await site.operator.post("/admin/v1/reconciliation/runs", json={"connection": shop.connection.public_id})

    assert response.status_code == 200, response.text
    run = response.json()
    assert (run["asked"], run["unanswered"]) == (1, 1)
    assert "MarketplaceUnreachable" in run["last_error"]
    assert (await site.reader.get("/admin/v1/reconciliation/runs")).json()["items"] == [run]


async def test_a_comparison_of_no_connection_is_refused(site: Site):
    for body, status in (
        ({"connection": f"con_{'0' * 26}"}, 404),
        ({"connection": "x"}, 422),
        ({"connection": f"con_{'0' * 26}", "begin": "yes"}, 422),
        ({}, 422),
    ):
        assert (await site.operator.post("/admin/v1/reconciliation/runs", json=body)).status_code == status


async def test_going_on_with_what_nobody_began_is_not_found(site: Site, shop: Shop):
    body = {"connection": shop.connection.public_id, "begin": False}

    assert (await site.operator.post("/admin/v1/reconciliation/runs", json=body)).status_code == 404


async def test_findings_are_listed_dismissed_and_not_found_again(site: Site, shop: Shop):
    from tests.services.test_service_reconcile import Book, night

    await shop.sell("CS1", amount=7)
    book = Book(CS1=["NEW"])
    await night(replace(shop, rt=site.rt), book)
    [finding] = (await site.reader.get("/admin/v1/reconciliation/findings?resolved=false&kind=AMOUNT")).json()["items"]
    assert (finding["ours"], finding["theirs"], finding["repair"]) == ("7", "5", "take_amount")
    path = f"/admin/v1/reconciliation/findings/{finding['id']}"

    unasked = await site.operator.post(f"{path}/repair", json=WHY)
    assert (unasked.status_code, unasked.json()["code"]) == (409, "MARKETPLACE_NOT_ASKED")
    dismissed = await site.operator.post(f"{path}/dismiss", json=WHY)
    assert (dismissed.status_code, dismissed.json()["how"]) == (200, "dismissed")
    assert dismissed.json()["resolved_by"].startswith("tok_")
    again = await site.operator.post(f"{path}/dismiss", json=WHY)
    assert (again.status_code, again.json()["code"]) == (409, "NOT_REPAIRABLE")
    assert (await site.reader.get("/admin/v1/reconciliation/findings?resolved=false")).json()["items"] == []
    assert len((await site.reader.get("/admin/v1/reconciliation/findings?resolved=true")).json()["items"]) == 1


async def test_a_repair_asks_through_the_servers_own_client(site: Site, shop: Shop):
    from tests.services.test_service_reconcile import Book, night

    await shop.sell("CS1")
    book = Book(CS1=["UNSUBSCRIBE"])
    await night(shop, book)
    [finding] = await site.rt.db.read(lambda tx: reconciliation.page(tx, after=0, limit=9))
    app = make_app(site.rt, client=book)

    async with started(app), owner_of(app) as owner:
        response = await owner.post(f"/admin/v1/reconciliation/findings/{finding.public_id}/repair", json=WHY)

    assert (response.status_code, response.json()["how"]) == (200, "repaired")
