"""Callbacks are kept as messages, masked and bounded, and are answered in time whatever the database does."""

import asyncio
import json
import sqlite3
import time

import pytest

from licensesvc.domain.instants import MINUTE
from licensesvc.services.interface_messages import UNAUTHENTICATED_BYTES, masked
from licensesvc.storage.messages import UNAUTHENTICATED_KEPT
from licensesvc.web.callbacks import routes
from licensesvc.web.callbacks.routes import UNPROVEN_PER_MINUTE
from tests.support_edges import KEY, ask, get_license_target, notification, notify_target, rows

CANARIES = {
    "customerName": "Canary Person",
    "userName": "canary-user",
    "mobilePhone": "18600000000",
    "email": "canary@example.com",
    "saasExtendParams": "W3sibmFtZSI6ImlkZW50aWZpY2F0aW9uQ29kZSIsInZhbHVlIjoiQ0FOQVJZLUhXLTEifV0=",
    "license": "PLCANARY0001",
}


async def everything_kept(rt):
    kept = await rt.db.read(lambda tx: tx.all("SELECT * FROM messages ORDER BY id"))
    return [tuple(row) for row in kept]


async def test_an_authentic_call_is_kept_with_its_outcome_but_without_secrets(edge):
    target = get_license_target(edge.shop, edge.clock.now, **CANARIES)
    answer = await ask(edge.app, "GET", target)

    row = await edge.rt.db.read(lambda tx: tx.one("SELECT * FROM messages"))
    assert (row["direction"], row["activity"], row["order_id"], row["outcome"]) == ("in", "getLicense", "CS1", "000000")
    assert row["authenticated_at"] == edge.clock.now
    assert row["address"] == "198.51.100.7"
    shown = json.loads(row["request"])
    assert {name: shown[name] for name in (*CANARIES, "authToken")} == dict.fromkeys((*CANARIES, "authToken"), "***")
    text = repr(tuple(row))
    assert not [secret for secret in (*CANARIES.values(), answer.json["license"], KEY) if secret in text]


async def test_a_notification_is_kept_without_its_signature(edge):
    body = notification(license="PLCANARY0001", buyer={"email": "canary@example.com", "list": [{"userName": "canary"}]})
    target = notify_target(edge.shop, body, edge.clock.now)
    await ask(edge.app, "POST", target, body=body)

    text = repr(await everything_kept(edge.rt))
    assert "orderNotify" in text
    assert "CANARY" not in text.upper()
    assert target.partition("signature=")[2][:64] not in text


def test_masking_reaches_every_depth():
    assert json.loads(masked({"a": [{"license": "PL1", "b": {"email": ""}}], "authToken": "x"})) == {
        "a": [{"license": "***", "b": {"email": ""}}],
        "authToken": "***",
    }


@pytest.mark.parametrize("text", ["x" * 8_000, "中" * 2_000, "\x01" * 2_000], ids=["ascii", "chinese", "control"])
async def test_of_a_stranger_at_most_four_kib_are_kept(edge, text):
    body = json.dumps({"activity": text, "orderId": text, "x": text}, ensure_ascii=False).encode()
    await ask(edge.app, "POST", edge.shop.url, body=body)
    unread = json.dumps({"activity": "orderNotify", "x": "\\u0001" * 9_000}).encode()
    await ask(edge.app, "POST", edge.shop.url, body=unread)

    for row in await everything_kept(edge.rt):
        assert all(len(value.encode()) <= UNAUTHENTICATED_BYTES for value in row if isinstance(value, str))


async def test_of_strangers_the_newest_thousand_messages_are_kept_and_no_honest_one_goes(edge):
    await ask(edge.app, "GET", get_license_target(edge.shop, edge.clock.now))
    await edge.rt.db.write(
        lambda tx: tx.many(
            "INSERT INTO messages (public_id, direction, activity, received_at, request, response, outcome, duration_ms)"
            " VALUES ($1, 'in', '', 0, '', '', '000001', 0)",
            [(f"msg_{n}",) for n in range(UNAUTHENTICATED_KEPT + 5)],
        )
    )

    await ask(edge.app, "GET", f"{edge.shop.url}?activity=newest")

    assert await rows(edge.rt, "messages") == [UNAUTHENTICATED_KEPT + 1]
    newest = await edge.rt.db.read(lambda tx: tx.one("SELECT activity FROM messages ORDER BY id DESC LIMIT 1"))
    assert newest["activity"] == "newest"


async def kept(rt):
    """How many messages are stored once everything that waits for the writer is."""
    await rt.db.write(lambda tx: tx.one("SELECT 1"))
    return (await rows(rt, "messages"))[0]


async def test_a_flood_of_strangers_is_answered_but_only_so_many_a_minute_are_kept(edge):
    async def flood():
        answers = await asyncio.gather(*(ask(edge.app, "GET", edge.shop.url) for _ in range(100)))
        assert {answer.json["resultCode"] for answer in answers} == {"000001"}
        return await kept(edge.rt)

    assert await flood() == UNPROVEN_PER_MINUTE
    honest = await ask(edge.app, "GET", get_license_target(edge.shop, edge.clock.now))
    assert honest.json["resultCode"] == "000000"
    assert await flood() == UNPROVEN_PER_MINUTE + 1
    edge.clock.now += MINUTE
    assert await flood() == 2 * UNPROVEN_PER_MINUTE + 1


@pytest.mark.parametrize("path", ["con_unknown", "", "con_unknown/x", "%00", "a" * 300], ids=lambda path: path[:12])
async def test_of_calls_to_unknown_connections_none_is_kept(edge, path):
    for method in ("GET", "POST", "PUT"):
        answer = await ask(edge.app, method, f"/callbacks/{path}?activity=getLicense", body=notification())
        assert (answer.status, answer.json["resultCode"]) == (200, "000001" if method != "PUT" else "000002")

    assert await kept(edge.rt) == 0


async def test_calls_to_unknown_connections_spend_nothing_of_the_known_ones(edge):
    await asyncio.gather(*(ask(edge.app, "GET", "/callbacks/con_unknown") for _ in range(2 * UNPROVEN_PER_MINUTE)))

    await ask(edge.app, "GET", edge.shop.url)

    assert await kept(edge.rt) == 1


@pytest.fixture
def impatient(monkeypatch):
    """The same limits, a tenth of their length."""
    monkeypatch.setattr(routes, "PATIENCE_S", 0.3)
    monkeypatch.setattr(routes, "RECORD_PATIENCE_S", 0.05)


@pytest.mark.usefixtures("impatient")
async def test_a_stuck_database_is_answered_in_time_and_the_order_is_served_later(edge):
    file = edge.rt.proofs_dir.parent / "licensesvc.db"
    now = edge.clock.now
    blocker = sqlite3.connect(file, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        started = time.monotonic()
        body = notification()
        answers = await asyncio.gather(
            ask(edge.app, "GET", get_license_target(edge.shop, now)),
            ask(edge.app, "POST", notify_target(edge.shop, body, now), body=body),
            ask(edge.app, "GET", edge.shop.url),
        )
        took = time.monotonic() - started
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()

    assert [answer.json["resultCode"] for answer in answers] == ["000004", "000004", "000001"]
    assert all(answer.header("Body-Sign") for answer in answers)
    assert took < 2
    assert (await ask(edge.app, "GET", get_license_target(edge.shop, now))).json["resultCode"] == "000000"
    assert await rows(edge.rt, "orders", "licenses") == [1, 1]
    async with asyncio.timeout(5):
        while len(kept := await everything_kept(edge.rt)) < 4:  # noqa: ASYNC110 - a message stored after its answer tells nobody
            await asyncio.sleep(0.01)
    told = sorted(outcome for message in kept for outcome in message if outcome in ("000000", "000001", "000004"))
    assert told == ["000000", "000001", "000004", "000004"]


async def test_the_limits_leave_the_marketplace_a_second():
    assert routes.PATIENCE_S + routes.RECORD_PATIENCE_S < 4


async def test_a_call_whose_message_cannot_be_stored_has_done_nothing(edge):
    before = await rows(edge.rt, "orders", "licenses", "audit_events")
    no_room = "CREATE TRIGGER no_room BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, 'no room'); END"
    await edge.rt.db.write(lambda tx: tx.run(no_room))
    target = get_license_target(edge.shop, edge.clock.now)

    assert (await ask(edge.app, "GET", target)).json["resultCode"] == "000005"
    assert await rows(edge.rt, "orders", "licenses", "audit_events") == before

    await edge.rt.db.write(lambda tx: tx.run("DROP TRIGGER no_room"))
    assert (await ask(edge.app, "GET", target)).json["resultCode"] == "000000"
    [kept] = await edge.rt.db.read(lambda tx: tx.all("SELECT outcome FROM messages"))
    assert kept["outcome"] == "000000"


async def test_a_closed_database_is_an_internal_error(edge):
    await edge.rt.db.close()

    answer = await ask(edge.app, "GET", get_license_target(edge.shop, edge.clock.now))

    assert (answer.status, answer.json["resultCode"]) == (200, "000005")


async def test_a_fault_of_ours_is_an_internal_error_and_signed(edge, monkeypatch):
    async def broken(*_args, **_options):
        raise ZeroDivisionError

    monkeypatch.setattr(routes, "receive_call", broken)

    answer = await ask(edge.app, "GET", get_license_target(edge.shop, edge.clock.now))

    assert (answer.status, answer.json["resultCode"]) == (200, "000005")
    assert answer.header("Body-Sign")
