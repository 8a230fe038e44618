"""`message`, `outbox` and `reconcile`: thin calls of the admin API, without a running server."""

import asyncio

import pytest

from licensesvc.app import create_app, open_runtime
from licensesvc.cli import messages as commands
from licensesvc.settings import Settings
from tests.services.test_service_messages import keep
from tests.services.test_service_restart import GET_LICENSE
from tests.services.test_service_restart_many import given_up
from tests.support_edges import change, open_shop

WHY = ("--reason", "ticket")


@pytest.fixture(autouse=True)
def brisk(monkeypatch):
    """Nobody waits for the pace of the night."""
    monkeypatch.setenv("LICENSESVC_RECONCILE_PER_MINUTE", "6000")


@pytest.fixture
def filled(data):
    """A shop with failed messages, work that was given up, and a marketplace that nobody answers for."""

    async def fill():
        async with open_runtime(Settings(data_dir=str(data))) as rt:
            shop = await open_shop(rt)
            await change(rt, "UPDATE connections SET base_url = 'http://127.0.0.1:9'")
            made = [
                (await keep(shop, order_id=f"CS{n}", raw=GET_LICENSE.replace(b"CS1", b"CS%d" % n))).public_id
                for n in range(5)
            ]
            await keep(shop, purpose="test", order_id="CS8", raw=GET_LICENSE)
            await shop.sell("CS9")
            return made, await given_up(shop, "CS7")

    return asyncio.run(fill())


def test_messages_are_listed_shown_and_restarted(data, filled, command, monkeypatch):
    monkeypatch.setattr(commands, "PART", 2)
    made, _ = filled
    at = ("--data-dir", data)

    code, rows, _ = command("message", "list", "--state", "FAILED", "--purpose", "live", "--limit", 3, *at)
    assert (code, [row["id"] for row in rows]) == (0, made[:1:-1])
    code, done, err = command("message", "restart", made[1], *WHY, *at)
    assert (code, done[0]["code"], err) == (1, "MARKETPLACE_NOT_ASKED", "")
    code, done, _ = command("message", "restart", "--all", "--without-asking", *WHY, *at)
    assert (code, [(row["message"], row["result"]) for row in done]) == (0, [(one, "succeeded") for one in made])
    assert command("message", "restart", "--all", "--without-asking", *WHY, *at)[:2] == (0, [])
    code, shown, _ = command("message", "show", made[0], *at)
    assert (code, shown["state"], shown["restarts"]) == (0, "RESTARTED", [done[0]["restart"]])


def test_a_silent_marketplace_ends_a_bulk_and_says_which_were_not_tried(data, filled, command):
    made, _ = filled

    code, done, _ = command("message", "restart", "--activity", "getLicense", *WHY, "--data-dir", data)

    assert (code, [row["message"] for row in done]) == (1, made)
    assert {row["code"] for row in done} == {"MARKETPLACE_NOT_ASKED"}
    assert "was not tried" in done[-1]["detail"]


def test_what_is_meant_must_be_said(data, filled, licensesvc):
    made, _ = filled
    for arguments in ((made[0],), (*WHY,), (made[0], "--all", *WHY)):
        done = licensesvc("message", "restart", *arguments, "--data-dir", data)
        assert done.returncode == 2, arguments
        assert done.stderr.count("\n") == 1


def test_a_restart_tells_people_what_to_do_next(data, filled, licensesvc):
    made, _ = filled
    done = licensesvc("message", "restart", made[0], "--without-asking", *WHY, "--data-dir", data)

    assert done.returncode == 0, done.stderr
    assert f"{made[0]}: succeeded\n" in done.stdout
    assert "卖家中心 > 生产接口消息" in done.stdout
    assert "1 restarted" in done.stdout


def test_given_up_work_is_listed_and_tried_again(data, filled, command):
    _, name = filled
    at = ("--data-dir", data)

    assert [row["id"] for row in command("outbox", "list", "--state", "given_up", *at)[1]] == [name]
    code, rows, _ = command("outbox", "retry", name, *WHY, *at)
    assert (code, rows[0]["state"]) == (0, "waiting")
    code, _, err = command("outbox", "retry", name, *WHY, *at)
    assert (code, "not given up" in err) == (1, True)
    assert command("outbox", "list", "--state", "given_up", *at)[1] == []


def test_orders_are_compared_at_once(data, filled, command, serving_sandbox):
    at = ("--data-dir", data)
    assert command("reconcile", *at)[:2] == (0, [])
    serving_sandbox(data)

    code, rows, err = command("reconcile", "--now", *at)

    assert (code, [(row["order_id"], row["kind"]) for row in rows]) == (1, [("CS9", "UNKNOWN_THERE")])
    assert err == ""
    finding = rows[0]["id"]
    assert "person" in command("reconcile", "--repair", finding, *WHY, *at)[2]
    assert command("reconcile", "--dismiss", finding, *WHY, *at)[1]["how"] == "dismissed"
    assert command("reconcile", *at)[:2] == (0, [])
    assert "--reason" in command("reconcile", "--dismiss", finding, *at)[2]


def test_a_marketplace_that_does_not_answer_is_said(data, filled, command):
    code, rows, err = command("reconcile", "--now", "--data-dir", data)

    assert (code, rows) == (0, [])
    assert "without an answer" in err
    assert "MarketplaceUnreachable" in err


@pytest.fixture
def serving_sandbox(start):
    """Start a sandbox beside a data directory and let the connection ask it."""

    def serve(data):
        running = start("sandbox", "--port", "0", "--data-dir", data)

        async def tell():
            from licensesvc.sandbox.state import State, sandbox_file
            from licensesvc.services.catalog.marketplace_account import api_secret_context

            state = State.open(sandbox_file(data))
            async with open_runtime(Settings(data_dir=str(data))) as rt:
                row = await rt.db.read(lambda tx: tx.one("SELECT public_id FROM connections"))
                sealed = rt.vault.seal(state.api_secret.encode(), api_secret_context(row["public_id"]))
                await change(
                    rt,
                    "UPDATE connections SET base_url = $1, api_access_key = $2, api_secret = $3",
                    running.url,
                    state.api_access_key,
                    sealed,
                )

        asyncio.run(tell())

    return serve


def test_the_server_looks_by_itself_in_the_background(data):
    async def names():
        async with open_runtime(Settings(data_dir=str(data))) as rt:
            app = create_app(rt, Settings(data_dir=str(data)))
            async with app.lifespan():
                return {task.get_name() for task in asyncio.all_tasks()}

    assert "reconciliation" in asyncio.run(names())
