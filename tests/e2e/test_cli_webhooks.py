"""Commands about webhook endpoints: thin calls of the admin API."""

import asyncio
from functools import partial

import pytest

from licensesvc.app import open_database
from licensesvc.cli.admin_client import open_admin
from licensesvc.cli.program import run
from licensesvc.settings import Settings

URL = "https://hooks.example/licenses"


@pytest.fixture
def endpoint(data, command):
    return command("webhook", "create", URL, "--event", "license.*", "--event", "order.received", "--data-dir", data)[1]


async def changed(data, *statements: str) -> None:
    """Statements past every service."""
    db = await open_database(Settings(data_dir=str(data)))
    for sql in statements:
        await db.write(partial(_run, sql=sql))
    await db.close()


async def _run(tx, sql: str) -> None:
    await tx.run(sql)


def passed(data, orders: int) -> None:
    """Orders that have been told of: events, and a cursor behind them."""

    async def work() -> None:
        settings = Settings(data_dir=str(data))
        async with open_admin(settings) as client:
            connection = await client.post("/connections", {"name": "cn", "site": "cn"})
            policy = await client.post("/policies", {"name": "ever", "term": "PERPETUAL"})
            fields = {"name": "W", "marketplace_product_id": "OFFI1", "delivery_kind": "GENERAL"}
            product = await client.post("/products", {**fields, "connection": connection["id"], "policy": policy["id"]})
            for number in range(orders):
                line = {
                    "connection": connection["id"],
                    "order_id": f"CS{number}",
                    "lines": [{"product": product["id"]}],
                }
                await client.post("/orders", line)
        await changed(
            data,
            "INSERT INTO webhook_cursors VALUES (1, 'main', 0) ON CONFLICT DO NOTHING",
            "UPDATE webhook_cursors SET seq = 1000000",
        )

    asyncio.run(work())


def test_an_endpoint_is_made_stopped_started_and_told_again(data, command, endpoint, capsys, monkeypatch):
    where = ("--data-dir", data)
    assert endpoint["secret"].startswith("whsec_")
    assert (endpoint["events"], endpoint["signatures"]) == (["license.*", "order.received"], ["v1"])
    (listed,) = command("webhook", "list", *where)[1]
    assert (listed["id"], "secret" in listed) == (endpoint["id"], False)
    stopped = command("webhook", "disable", endpoint["id"], *where)[1]
    assert stopped["disabled_why"] == "operator"
    assert command("webhook", "list", "--enabled", *where)[1] == []
    assert len(command("webhook", "list", "--disabled", *where)[1]) == 1
    refused = command("webhook", "replay", endpoint["id"], "--since", "2020-01-01T00:00:00Z", *where)
    assert (refused[0], "disabled" in refused[2]) == (1, True)
    assert command("webhook", "enable", endpoint["id"], "--skip-missed", *where)[1]["disabled_at"] is None
    capsys.readouterr()
    assert run(["webhook", "list", "--data-dir", str(data)]) == 0
    assert "license.*, order.received" in capsys.readouterr().out

    passed(data, 3)
    monkeypatch.setattr("licensesvc.services.webhooks.manage_webhooks.REPLAYED_AT_ONCE", 4)
    code, told, _ = command("webhook", "replay", endpoint["id"], "--since", "2020-01-01T00:00:00Z", *where)

    assert code == 0
    assert told["queued"] >= 6  # an order and a license each; parts may overlap in one event


def test_events_of_one_moment_end_a_replay_and_a_full_queue_says_where_to_go_on(data, command, endpoint, monkeypatch):
    where = ("--data-dir", data)
    replay = ("webhook", "replay", endpoint["id"], "--since", "2020-01-01T00:00:00Z", *where)
    passed(data, 3)
    monkeypatch.setattr("licensesvc.services.webhooks.manage_webhooks.REPLAYED_AT_ONCE", 2)
    monkeypatch.setattr("licensesvc.services.webhooks.manage_webhooks.MOST_OPEN", 2)

    code, _, why = command(*replay)
    assert (code, why.count("\n")) == (1, 1)
    assert "2 queued; go on later with --since 20" in why

    monkeypatch.setattr("licensesvc.services.webhooks.manage_webhooks.MOST_OPEN", 1_000)
    asyncio.run(changed(data, "UPDATE audit_events SET at = 1795000000000"))
    code, _, why = command(*replay)
    assert (code, why.count("\n")) == (1, 1)
    assert "4 queued; more events bear the time 2026-11-18T11:06:40.000Z" in why


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("create", "http://127.0.0.1/"), 1, "url"),
        (("create", URL, "--event", "nonsense"), 1, "no type or group"),
        (("create", URL, "--signature", "v9"), 1, "signatures"),
        (("disable", "whe_" + "0" * 26), 1, "nothing here"),
        (("enable", "../tokens"), 1, "nothing here"),
        (("replay", "whe_" + "0" * 26, "--since", "yesterday"), 1, "a time must look like"),
        (("replay", "whe_" + "0" * 26), 2, "--since"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(command, data, arguments, code, why):
    outcome = command("webhook", *arguments, "--data-dir", data)

    assert outcome[0] == code
    assert why in outcome[2]
    assert outcome[2].count("\n") == 1
