"""Webhook endpoints over the admin API: what may be entered, what is shown once, what is sent again."""

import asyncio
import base64
import json

import pytest

from licensesvc.domain.instants import DAY, SECOND, rfc3339
from licensesvc.services.webhooks import manage_webhooks
from licensesvc.services.webhooks.feed_webhooks import MAX_ENDPOINTS, feed_webhooks
from licensesvc.storage import webhook_deliveries
from licensesvc.storage.port import Tx
from tests.outbound.payloads import HOSTS, URLS
from tests.support_web import Site, created, make_catalog, make_order

PATH = "/admin/v1/webhook-endpoints"
URL = "https://hooks.example/licenses"


async def endpoint(site: Site, **fields):
    return await created(site, "webhook-endpoints", {"url": URL, **fields})


async def feed(site: Site):
    """Until every event has become a delivery."""
    while True:
        before = await site.rows()
        await feed_webhooks(site.rt)
        if await site.rows() == before:
            return


async def close_all(site: Site):
    """As if every open delivery had arrived."""

    async def close(tx: Tx):
        await tx.run(
            "UPDATE webhook_deliveries SET closed_at = $1, outcome = 'delivered' WHERE closed_at IS NULL", site.clock()
        )

    await site.rt.db.write(close)


async def listed(site: Site, made, **params):
    response = await site.reader.get(f"{PATH}/{made['id']}/deliveries", params=params)
    assert response.status_code == 200, response.text
    return response.json()["items"]


async def test_an_endpoint_is_made_shown_changed_and_deleted(site: Site):
    made = await endpoint(site, events=["license.*"], description="CRM", signatures=["v1", "v1a"])
    assert made["secret"].startswith("whsec_")
    assert [key[:5] for key in made["public_keys"]] == ["whpk_"]
    shown = await site.reader.get(f"{PATH}/{made['id']}")
    assert shown.json() == {name: value for name, value in made.items() if name != "secret"}

    changed = await site.owner.patch(
        f"{PATH}/{made['id']}", json={"events": ["*"], "url": f"{URL}/2"}, headers={"if-match": shown.headers["etag"]}
    )
    assert changed.status_code == 200, changed.text
    assert (changed.json()["url"], changed.json()["events"], changed.json()["version"]) == (f"{URL}/2", ["*"], 2)
    stale = await site.owner.patch(f"{PATH}/{made['id']}", json={}, headers={"if-match": shown.headers["etag"]})
    assert (stale.status_code, stale.json()["code"]) == (412, "STALE_VERSION")

    assert (await site.owner.delete(f"{PATH}/{made['id']}")).status_code == 204
    assert (await site.owner.delete(f"{PATH}/{made['id']}")).status_code == 404
    assert (await site.reader.get(PATH)).json()["items"] == []
    assert (await site.rows())["webhook_secrets"] == 0
    kinds = [kind for kind in await site.audit_kinds() if kind.startswith("webhook")]
    assert kinds == ["webhook_endpoint.created", "webhook_endpoint.changed", "webhook_endpoint.deleted"]


async def test_the_secret_is_shown_once_and_stored_sealed(site: Site):
    made = await endpoint(site)
    secret = made["secret"]
    texts = [(await site.owner.get(path)).text for path in (PATH, f"{PATH}/{made['id']}", "/admin/v1/audit-events")]
    assert not any(secret in text or "whsec_" in text or "whsk_" in text for text in texts)
    rows = await site.rt.db.read(lambda tx: tx.all("SELECT sealed FROM webhook_secrets"))
    assert len(rows) == 2
    raw = base64.b64decode(secret.removeprefix("whsec_"))
    assert all(raw not in row["sealed"] for row in rows)


async def test_a_repeat_under_the_same_key_makes_one_endpoint(site: Site):
    headers = {"idempotency-key": "once"}
    answers = await asyncio.gather(
        *(site.owner.post(PATH, json={"url": URL}, headers=headers) for _ in range(4)), return_exceptions=False
    )
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 201}) == 1
    assert (await site.rows())["webhook_endpoints"] == 1


@pytest.mark.parametrize("entry", ["create", "change"])
async def test_no_url_of_the_table_can_be_entered(site: Site, entry: str):
    made = await endpoint(site)
    rows = await site.rows()
    accepted = []
    for payload in [f"https://{host}:{{p}}/" for host in HOSTS] + list(URLS):
        url = payload.replace("{p}", "8443")
        if entry == "create":
            response = await site.owner.post(PATH, json={"url": url})
        else:
            response = await site.owner.patch(f"{PATH}/{made['id']}", json={"url": url}, headers={"if-match": '"1"'})
        if response.status_code < 300:
            accepted.append(payload)
        else:
            assert response.json()["code"] in {"INVALID_PARAMETER", "INVALID_BODY", "UNREADABLE_BODY"}, payload
            assert "hooks.example" not in response.json()["detail"], payload
    assert accepted == []
    assert await site.rows() == rows


@pytest.mark.parametrize(
    "fields",
    [
        {"events": []},
        {"events": ["license.invented"]},
        {"events": ["ping"]},
        {"events": ["*"] * 65},
        {"events": "*"},
        {"signatures": []},
        {"signatures": ["v2"]},
        {"signatures": ["v1", "v1a", "v1"]},
        {"description": "x" * 201},
        {"secret": "whsec_mine"},
        {"url": None},
    ],
    ids=str,
)
async def test_what_cannot_be_entered(site: Site, fields):
    rows = await site.rows()
    response = await site.owner.post(PATH, json={"url": URL, **fields})
    assert response.status_code == 422
    assert await site.rows() == rows


async def test_endpoints_are_bounded(site: Site):
    for _ in range(MAX_ENDPOINTS):
        last = await endpoint(site)
    response = await site.owner.post(PATH, json={"url": URL})
    assert (response.status_code, response.json()["code"]) == (422, "INVALID_PARAMETER")
    await site.owner.delete(f"{PATH}/{last['id']}")
    await endpoint(site)


async def test_rotation_shows_a_new_secret_and_is_bounded(site: Site):
    made = await endpoint(site)
    secrets = {made["secret"]}
    for _ in range(manage_webhooks.MOST_SECRETS - 1):
        rotated = await created(site, f"webhook-endpoints/{made['id']}/rotate-secret", {})
        secrets.add(rotated["secret"])
    assert len(secrets) == len(rotated["public_keys"]) == manage_webhooks.MOST_SECRETS
    refused = await site.owner.post(f"{PATH}/{made['id']}/rotate-secret", json={})
    assert (refused.status_code, refused.json()["code"]) == (422, "INVALID_PARAMETER")
    site.clock.now += DAY
    at_once = await created(site, f"webhook-endpoints/{made['id']}/rotate-secret", {"overlap_hours": 0})
    assert len(at_once["public_keys"]) == 1
    assert (await site.rows())["webhook_secrets"] == 2


@pytest.mark.parametrize("hours", [-1, 169, 1.5, "24", None])
async def test_odd_overlaps_are_refused(site: Site, hours):
    made = await endpoint(site)
    response = await site.owner.post(f"{PATH}/{made['id']}/rotate-secret", json={"overlap_hours": hours})
    assert (response.status_code, response.json()["code"]) == (422, "INVALID_BODY")


async def test_switching_is_repeatable_and_visible(site: Site):
    made = await endpoint(site)
    for _ in range(2):
        off = await site.operator.post(f"{PATH}/{made['id']}/disable")
        assert (off.status_code, off.json()["disabled_why"]) == (200, "operator")
    assert len((await site.reader.get(PATH, params={"disabled": "true"})).json()["items"]) == 1
    assert (await site.reader.get(PATH, params={"disabled": "false"})).json()["items"] == []
    for path in ("test", "replay"):
        response = await site.operator.post(f"{PATH}/{made['id']}/{path}", json={"since": "2026-01-01T00:00:00Z"})
        assert (response.status_code, response.json()["code"]) == (409, "ENDPOINT_DISABLED")
    for _ in range(2):
        on = await site.operator.post(f"{PATH}/{made['id']}/enable", json={})
        assert (on.status_code, on.json()["disabled_at"]) == (200, None)
    kinds = [kind for kind in await site.audit_kinds() if kind.startswith("webhook")]
    assert kinds == ["webhook_endpoint.created", "webhook_endpoint.disabled", "webhook_endpoint.enabled"]


async def test_the_log_shows_deliveries_by_state_and_time(site: Site):
    made = await endpoint(site, events=["order.*", "license.*"])
    await make_order(site, await make_catalog(site))
    await feed(site)
    items = await listed(site, made)
    assert [item["type"] for item in items] == ["order.received", "license.issued"]
    assert {item["state"] for item in items} == {"open"}
    assert json.loads(items[0]["payload"])["data"]["order"] == "CS123"
    assert items[0]["attempts"] == []
    assert items[0]["next_attempt_at"] == rfc3339(site.clock())
    await close_all(site)
    assert await listed(site, made, state="open") == []
    assert len(await listed(site, made, state="delivered", limit=1)) == 1
    assert await listed(site, made, since=rfc3339(site.clock() + 1)) == []
    for params in ({"state": "lost"}, {"since": "yesterday"}, {"cursor": "x"}, {"limit": "0"}):
        assert (await site.reader.get(f"{PATH}/{made['id']}/deliveries", params=params)).status_code in {400, 422}


async def test_one_delivery_is_sent_again_under_the_same_id(site: Site):
    made = await endpoint(site, events=["order.*"])
    await make_order(site, await make_catalog(site))
    await feed(site)
    await close_all(site)
    (old,) = await listed(site, made)
    again = await created(site, f"webhook-deliveries/{old['id']}/replay", {})
    assert again["id"] != old["id"]
    assert (again["message"], again["payload"], again["state"]) == (old["message"], old["payload"], "open")
    assert len(await listed(site, made)) == 2


async def test_events_since_a_time_are_sent_again_in_bounded_steps(site: Site, monkeypatch):
    monkeypatch.setattr(manage_webhooks, "REPLAYED_AT_ONCE", 2)
    made = await endpoint(site, events=["order.*"])
    catalog = await make_catalog(site)
    begin = site.clock()
    for number in range(5):
        site.clock.now += SECOND
        await make_order(site, catalog, f"CS{number}")
    await feed(site)
    await close_all(site)
    first = [item["message"] for item in await listed(site, made)]
    since, queued = rfc3339(begin + 2 * SECOND), 0
    while since:
        step = await created(site, f"webhook-endpoints/{made['id']}/replay", {"since": since})
        since, queued = step["next_since"], queued + step["queued"]
    assert queued == 4
    assert [item["message"] for item in await listed(site, made, state="open")] == first[1:]
    assert all(item["type"] == "order.received" for item in await listed(site, made))


async def test_a_replay_leaves_out_what_is_sent_anyway(site: Site):
    made = await endpoint(site, events=["order.*"])
    await make_order(site, await make_catalog(site))
    step = await created(site, f"webhook-endpoints/{made['id']}/replay", {"since": "2026-01-01T00:00:00Z"})
    assert step == {"queued": 0, "next_since": None}
    await feed(site)
    assert len(await listed(site, made)) == 1


async def test_replays_stop_when_too_much_is_open(site: Site, monkeypatch):
    monkeypatch.setattr(manage_webhooks, "MOST_OPEN", 2)
    made = await endpoint(site)
    for _ in range(2):
        ping = await created(site, f"webhook-endpoints/{made['id']}/test", {})
    for path in (f"{PATH}/{made['id']}/test", f"/admin/v1/webhook-deliveries/{ping['id']}/replay"):
        response = await site.operator.post(path, json={})
        assert (response.status_code, response.json()["code"]) == (422, "INVALID_PARAMETER")


async def test_deleting_gives_up_what_is_open(site: Site):
    made = await endpoint(site)
    await created(site, f"webhook-endpoints/{made['id']}/test", {})
    await site.owner.delete(f"{PATH}/{made['id']}")
    backlog = await site.rt.db.read(webhook_deliveries.backlog)
    assert (backlog.waiting, backlog.oldest_at) == (0, None)


async def test_the_backlog_counts_what_enabled_endpoints_wait_for(site: Site):
    made, off = await endpoint(site), await endpoint(site)
    for each in (made, off):
        await created(site, f"webhook-endpoints/{each['id']}/test", {})
    await site.operator.post(f"{PATH}/{off['id']}/disable")
    backlog = await site.rt.db.read(webhook_deliveries.backlog)
    assert (backlog.waiting, backlog.oldest_at) == (1, site.clock())
