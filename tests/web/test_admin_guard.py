"""`/delisting-guard`, `/alerts` and `/alert-channels` over HTTP."""

import asyncio

import pytest

from licensesvc.domain.delisting import Gauge
from licensesvc.domain.instants import HOUR, MINUTE
from licensesvc.services.guard import watch_delisting
from licensesvc.services.guard.watch_delisting import DelistingWatch
from tests.support_web import Site, created, make_catalog

OPS = {"name": "ops", "kind": "mail", "address": "ops@seller.example"}


async def reported(site: Site, connection: str, count: object, month: object = "2026-11"):
    return await site.operator.put(
        f"/admin/v1/delisting-guard/{connection}/failed-orders", json={"month": month, "failed_orders": count}
    )


async def test_the_guard_shows_every_gauge_with_words_in_both_languages(site: Site):
    connection = (await make_catalog(site))["connection"]

    listed = (await site.reader.get("/admin/v1/delisting-guard")).json()["items"]
    alone = await site.reader.get(f"/admin/v1/delisting-guard/{connection}")

    assert listed == [alone.json()]
    shown = alone.json()
    assert (shown["connection"], shown["month"], shown["level"], shown["on_sale"]) == (
        connection,
        "2026-11",
        "ok",
        "unknown",
    )
    assert [gauge["gauge"] for gauge in shown["gauges"]] == list(Gauge)
    for gauge in shown["gauges"]:
        assert set(gauge["words"]) == {"en", "zh-CN"}
        assert all(words[part] for words in gauge["words"].values() for part in ("title", "meaning", "action"))


async def test_a_figure_is_entered_shown_and_counts_at_once(site: Site):
    connection = (await make_catalog(site))["connection"]
    await site.reader.get("/admin/v1/delisting-guard")  # kept for a minute

    shown = (await reported(site, connection, 4)).json()
    told = shown["failed_orders_reported"]
    assert (told["month"], told["failed_orders"], told["at"]) == ("2026-11", 4, "2026-11-18T11:06:40.000Z")
    assert told["by"].startswith("tok_")
    assert (shown["failed_orders_at_least"], shown["level"]) == (0, "critical")
    (listed,) = (await site.reader.get("/admin/v1/delisting-guard")).json()["items"]
    assert listed == shown


@pytest.mark.parametrize(
    ("count", "month", "code"),
    [
        (-1, "2026-11", "INVALID_BODY"),
        ("4", "2026-11", "INVALID_BODY"),
        (10**9, "2026-11", "INVALID_BODY"),
        (1, "2026-12", "INVALID_PARAMETER"),
        (1, "2026-00", "INVALID_PARAMETER"),
        (1, "26-11", "INVALID_PARAMETER"),
        (1, "2026-11-1", "INVALID_BODY"),
        (1, None, "INVALID_BODY"),
    ],
)
async def test_a_figure_that_cannot_be_is_refused(site: Site, count: object, month: object, code: str):
    connection = (await make_catalog(site))["connection"]
    rows = await site.rows()

    response = await reported(site, connection, count, month)

    assert (response.status_code, response.json()["code"]) == (422, code)
    assert await site.rows() == rows


async def test_sales_are_declared_with_who_and_when(site: Site):
    connection = (await make_catalog(site))["connection"]
    path = f"/admin/v1/delisting-guard/{connection}/on-sale"

    for said in ("yes", "yes", "no"):
        shown = (await site.operator.put(path, json={"on_sale": said})).json()
        assert (shown["on_sale"], shown["on_sale_declared_by"][:4]) == (said, "tok_")
    silence = next(gauge for gauge in shown["gauges"] if gauge["gauge"] == "probe_silence")
    assert silence["value"] is None
    assert (await site.audit_kinds()).count("delisting.sale_declared") == 2


async def test_sixteen_who_report_at_once_all_get_an_answer_and_the_audit_has_each_change(site: Site):
    connection = (await make_catalog(site))["connection"]

    answers = await asyncio.gather(*(reported(site, connection, count % 4) for count in range(16)))

    assert {answer.status_code for answer in answers} == {200}
    assert 1 <= (await site.audit_kinds()).count("delisting.figure_reported") <= 16


async def test_an_alert_is_listed_acknowledged_and_over(site: Site):
    connection = (await make_catalog(site))["connection"]
    await reported(site, connection, 4)
    watch = DelistingWatch(site.rt)
    await watch.look()
    (alert,) = (await site.reader.get("/admin/v1/alerts?open=true")).json()["items"]
    assert (alert["gauge"], alert["level"], alert["worst"], alert["value"], alert["limit"], alert["period"]) == (
        "failed_orders", "critical", "critical", 4, 5, "2026-11"
    )  # fmt: skip
    path = f"/admin/v1/alerts/{alert['id']}"
    tag = (await site.reader.get(path)).headers["etag"]

    assert (await site.operator.post(f"{path}/acknowledge")).json()["code"] == "PRECONDITION_REQUIRED"
    answer = await site.operator.post(f"{path}/acknowledge", headers={"if-match": tag})
    assert (answer.status_code, answer.json()["acknowledged_by"][:4]) == (200, "tok_")
    stale = await site.operator.post(f"{path}/acknowledge", headers={"if-match": tag})
    assert (stale.status_code, stale.json()["code"]) == (412, "STALE_VERSION")
    again = await site.operator.post(f"{path}/acknowledge", headers={"if-match": answer.headers["etag"]})
    assert again.json() == answer.json()

    site.clock.now += HOUR
    await reported(site, connection, 0)
    await watch.look()
    assert (await site.reader.get("/admin/v1/alerts?open=true")).json()["items"] == []
    (over,) = (await site.reader.get("/admin/v1/alerts?open=false&gauge=failed_orders")).json()["items"]
    assert (over["level"], over["cleared_at"] is not None) == ("ok", True)
    for query in ("gauge=retry_window", f"connection=con_{'0' * 26}"):
        assert (await site.reader.get(f"/admin/v1/alerts?{query}")).json()["items"] == []
    for query in ("gauge=x", "open=maybe", "connection=x"):
        assert (await site.reader.get(f"/admin/v1/alerts?{query}")).status_code == 400


async def test_channels_are_managed_and_whoever_only_reads_sees_no_address(site: Site):
    new = await created(site, "alert-channels", OPS)
    path = f"/admin/v1/alert-channels/{new['id']}"

    assert (await site.operator.get("/admin/v1/alert-channels?name=ops")).json()["items"] == [new]
    assert (await site.reader.get(path)).status_code == 403
    twice = await site.owner.post("/admin/v1/alert-channels", json=OPS)
    assert (twice.status_code, twice.json()["code"]) == (409, "ALREADY_EXISTS")
    tag = (await site.owner.get(path)).headers["etag"]
    changed = await site.owner.patch(path, json={"least_level": "critical"}, headers={"if-match": tag})
    assert (changed.json()["least_level"], changed.json()["version"]) == ("critical", 2)
    stale = await site.owner.patch(path, json={"name": "x"}, headers={"if-match": tag})
    assert stale.status_code == 412
    no_server = await site.operator.post(f"{path}/test")
    assert (no_server.status_code, no_server.json()["code"]) == (409, "MAIL_NOT_CONFIGURED")
    hook = await created(
        site, "alert-channels", {"name": "hook", "kind": "webhook", "address": "https://hook.example/"}
    )
    assert (await site.operator.post(f"/admin/v1/alert-channels/{hook['id']}/test")).status_code == 202
    assert (await site.rows())["outbox"] == 1
    assert (await site.owner.delete(path)).status_code == 204
    assert (await site.owner.delete(path)).status_code == 404


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "pigeon"},
        {"language": "fr"},
        {"least_level": "ok"},
        {"address": "not an address"},
        {"address": "a@b.example\nBcc: c@d.example"},
        {"address": "x" * 400},
        {"name": ""},
        {"secret": "x"},
        {"recipient": "x"},
        {"template": {}},
        {"kind": "webhook"},
        {"kind": "webhook", "address": "http://gateway.example/"},
        {"kind": "webhook", "address": "https://10.0.0.1/", "secret": "x"},
        {"unknown": 1},
    ],
)
async def test_a_channel_that_cannot_be_is_refused_and_not_quoted(site: Site, changes: dict[str, str]):
    response = await site.owner.post("/admin/v1/alert-channels", json={**OPS, **changes})

    assert response.status_code == 422
    assert "seller.example" not in response.text
    assert "not an address" not in response.text
    assert (await site.rows())["alert_channels"] == 0


async def test_a_list_is_read_anew_after_a_minute_and_not_before(site: Site, monkeypatch: pytest.MonkeyPatch):
    await make_catalog(site)
    asked = []
    read = watch_delisting.read_report

    async def counted(*args):
        asked.append(args)
        return await read(*args)

    monkeypatch.setattr(watch_delisting, "read_report", counted)
    for elapsed in (0, MINUTE - 1, 1, -MINUTE):
        site.clock.now += elapsed
        await asyncio.gather(*(site.reader.get("/admin/v1/delisting-guard") for _ in range(5)))

    assert len(asked) == 3
