"""The audit log, its verification, the statistics and the last use of tokens over the admin API."""

import pytest

from licensesvc.domain.instants import DAY, HOUR, MINUTE
from licensesvc.services.licenses.seats import take_seat
from licensesvc.storage.port import StorageUnavailable
from licensesvc.web.cursors import encode_cursor, encode_place
from tests.support_web import START, Site, created, make_catalog, make_order


async def test_every_event_is_shown_once_in_order_whatever_the_limit(site: Site):
    await make_order(site, await make_catalog(site))
    everything = (await site.reader.get("/admin/v1/audit-events?limit=200")).json()["items"]

    seen, path = [], "/admin/v1/audit-events?limit=2"
    while path:
        page = await site.reader.get(path)
        seen += page.json()["items"]
        path = page.links["next"]["url"] if "link" in page.headers else ""

    assert seen == everything
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert {event["kind"] for event in seen} >= {"connection.created", "license.issued", "supervision.started"}


async def test_events_are_found_by_subject_kind_actor_and_time(site: Site):
    catalog = await make_catalog(site)
    site.clock.now += HOUR
    order = await make_order(site, catalog)
    license_id = order["lines"][0]["license"]

    async def kinds(**filters: str) -> list[str]:
        answer = await site.reader.get("/admin/v1/audit-events", params={**filters, "limit": "200"})
        return [event["kind"] for event in answer.json()["items"]]

    assert await kinds(subject=license_id) == ["license.issued", "license.document_prepared"]
    assert await kinds(subject=license_id, kind="license.issued") == ["license.issued"]
    assert await kinds(subject=license_id, actor="system") == ["license.document_prepared"]
    assert await kinds(actor="nobody") == []
    late = await kinds(since="2026-11-18T12:00:00Z")
    early = await kinds(until="2026-11-18T12:00:00Z")
    assert ("license.issued" in late, "license.issued" in early) == (True, False)
    assert late
    assert early


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("since=yesterday", 422),
        ("until=2026-02-30T00:00:00Z", 422),
        ("subject=", 400),
        ("kind=a%20b", 400),
        ("actor=%00", 400),
        ("limit=0", 400),
        ("cursor=x", 400),
        ("cursor=" + "A" * 161, 400),
        ("cursor=" + encode_cursor("audit", 1), 400),
        ("cursor=" + encode_cursor("orders", 1), 400),
        ("cursor=" + encode_place("audit", b""), 400),
        ("cursor=" + encode_place("audit", b"\xff" * 17), 400),
        ("cursor=" + encode_place("audit", b"\x7f" * 16 + b"main\x00"), 400),
        ("cursor=" + encode_place("audit", b"\x7f" * 16 + b"main"), 200),
        ("cursor=" + encode_place("audit", b"\x80" * 16 + b"main"), 200),
    ],
)
async def test_odd_questions_to_the_audit_log(site: Site, query: str, status: int):
    assert (await site.reader.get(f"/admin/v1/audit-events?{query}")).status_code == status


@pytest.mark.parametrize("place", [b"", b"\xff" * 7, b"\xff" * 9, b"\xff" * 40])
async def test_a_forged_place_in_another_list_is_refused(site: Site, place: bytes):
    answer = await site.owner.get("/admin/v1/tokens", params={"cursor": encode_place("tokens", place)})

    assert answer.json()["code"] == "INVALID_CURSOR"


async def test_an_unbroken_log_is_clean_and_a_changed_event_is_found(site: Site):
    await make_order(site, await make_catalog(site))
    verified = (await site.reader.get("/admin/v1/audit/verification")).json()
    assert (verified["clean"], verified["chains"][0]["chain"]) == (True, "main")
    events = (await site.reader.get("/admin/v1/audit-events?limit=200")).json()["items"]
    assert (verified["chains"][0]["events"], verified["chains"][0]["head"]) == (len(events), events[-1]["hash"])

    await site.rt.db.write(lambda tx: tx.run("UPDATE audit_events SET actor = 'nobody' WHERE seq = 3"))

    broken = (await site.reader.get("/admin/v1/audit/verification")).json()
    assert (broken["clean"], broken["chains"][0]["broken_at"]) == (False, 3)


async def test_the_last_use_of_a_token_is_known_to_a_minute(site: Site):
    async def last_used() -> str | None:
        tokens = (await site.owner.get("/admin/v1/tokens")).json()["items"]
        return next(token["last_used_at"] for token in tokens if token["name"] == "reader")

    assert await last_used() is None
    await site.reader.get("/admin/v1/orders")
    assert await last_used() == "2026-11-18T11:06:40.000Z"
    site.clock.now += MINUTE - 1
    await site.reader.get("/admin/v1/orders")
    assert await last_used() == "2026-11-18T11:06:40.000Z"
    site.clock.now += 1
    await site.reader.get("/admin/v1/orders")
    assert await last_used() == "2026-11-18T11:07:40.000Z"
    site.clock.now -= DAY
    await site.reader.get("/admin/v1/orders")
    assert await last_used() == "2026-11-18T11:07:40.000Z"


async def test_a_wrong_token_leaves_no_trace_of_use(site: Site):
    token = site.tokens["reader"]
    wrong = token[:-1] + ("A" if token[-1] != "A" else "B")

    await site.stranger.get("/admin/v1/orders", headers={"authorization": f"Bearer {wrong}"})

    tokens = (await site.owner.get("/admin/v1/tokens")).json()["items"]
    assert [token["last_used_at"] for token in tokens if token["name"] == "reader"] == [None]


async def test_a_full_disk_does_not_lock_administrators_out(site: Site, monkeypatch: pytest.MonkeyPatch):
    async def full(_fn):
        raise StorageUnavailable("database or disk is full")

    monkeypatch.setattr(type(site.rt.db), "write", lambda _self, fn: full(fn))

    assert (await site.reader.get("/admin/v1/orders")).status_code == 200


async def test_statistics_count_what_there_is(site: Site):
    catalog = await make_catalog(site)
    order = await make_order(site, catalog, "CS1", amount=2)
    await make_order(site, catalog, "CS2")
    code = (await site.operator.get(f"/admin/v1/licenses/{order['lines'][0]['license']}/code")).json()["code"]
    await take_seat(site.rt, code, "machine-1")
    site.clock.now = START + DAY
    await take_seat(site.rt, code, "machine-2")

    counted = (await site.reader.get("/admin/v1/statistics")).json()

    assert {name: n for name, n in counted["licenses"].items() if n} == {"ALIVE": 1, "NOT_ACTIVATED": 1}
    assert len(counted["activations"]) == 30
    assert counted["activations"][-2:] == [
        {"day": "2026-11-18", "licenses": 1, "seats": 1},
        {"day": "2026-11-19", "licenses": 0, "seats": 1},
    ]
    assert {node: n for node, n in counted["cases"].items() if n} == {"DELIVERING": 1, "PROVING": 1}
    assert (counted["failing_messages"], counted["outbox"]) == ([], {"waiting": 0, "failing": 0, "given_up": 0})


@pytest.mark.parametrize(("zone", "day"), [("Asia/Shanghai", "2026-11-19"), ("UTC", "2026-11-18")])
async def test_days_are_those_of_the_zone(site: Site, zone: str, day: str):
    site.clock.now = START + 6 * HOUR  # 17:06 UTC, 01:06 in Shanghai

    counted = (await site.reader.get("/admin/v1/statistics", params={"zone": zone})).json()

    assert (counted["zone"], counted["activations"][-1]["day"]) == (zone, day)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../../etc/passwd", "%00", "", "x" * 65])
async def test_a_zone_that_is_none_is_refused(site: Site, zone: str):
    answer = await site.reader.get(f"/admin/v1/statistics?zone={zone}")

    assert answer.status_code in {400, 422}, answer.text


async def test_failing_messages_and_outbox_are_counted(site: Site):
    await created(site, "policies", {"name": "p", "term": "PERPETUAL"})

    async def fail(tx) -> None:
        for number, outcome in enumerate(("000005", "000005", "000000", "ok", "MarketplaceUnreachable")):
            await tx.run(
                "INSERT INTO messages (public_id, direction, activity, received_at, request, response, outcome,"
                " duration_ms) VALUES ($1, 'in', 'getLicense', $2, '', '', $3, 1)",
                f"msg_{number}",
                START - number * HOUR,
                outcome,
            )
        for number, (attempts, given_up) in enumerate(((0, None), (2, None), (9, START))):
            await tx.run(
                "INSERT INTO outbox (kind, subject, payload, created_at, due_at, attempts, given_up_at)"
                " VALUES ('x', $1, '', 1, 1, $2, $3)",
                str(number),
                attempts,
                given_up,
            )

    await site.rt.db.write(fail)

    counted = (await site.reader.get("/admin/v1/statistics")).json()

    assert [(kind["outcome"], kind["count"]) for kind in counted["failing_messages"]] == [
        ("000005", 2),
        ("MarketplaceUnreachable", 1),
    ]
    assert counted["outbox"] == {"waiting": 2, "failing": 1, "given_up": 1}
