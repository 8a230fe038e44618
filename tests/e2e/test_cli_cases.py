"""Commands about supervision cases: thin calls of the admin API."""

import asyncio

import pytest

from licensesvc.cli.admin_client import open_admin
from licensesvc.cli.program import run
from licensesvc.settings import Settings


@pytest.fixture
def shop(data):
    """The ids of a connection and of a case that stands at DELIVERING."""

    async def make():
        async with open_admin(Settings(data_dir=str(data))) as client:
            made = await client.post("/connections", {"name": "cn", "site": "cn"})
            policy = await client.post("/policies", {"name": "ever", "term": "PERPETUAL"})
            product = await client.post(
                "/products",
                {
                    "connection": made["id"],
                    "policy": policy["id"],
                    "name": "Widget",
                    "marketplace_product_id": "OFFI100",
                    "delivery_kind": "GENERAL",
                },
            )
            order = {"connection": made["id"], "order_id": "CS1", "lines": [{"product": product["id"]}]}
            return made["id"], (await client.post("/orders", order))["lines"][0]["case"]

    return asyncio.run(make())


@pytest.fixture
def said(capsys):
    """Run a command in this process: exit code and what it prints for people."""

    def call(*arguments):
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        return code, capsys.readouterr().out

    return call


def test_a_case_is_found_recorded_and_confirmed(command, said, data, shop):
    _, case = shop
    where = ("--data-dir", data)

    assert [row["id"] for row in command("case", "list", "--waits-for", "seller", *where)[1]] == [case]
    assert command("case", "record", case, "delivered", "--actor", "seller", *where)[0] == 0
    code, shown, _ = command(
        "case",
        "record",
        case,
        "accepted",
        "--actor",
        "buyer",
        "--here-only",
        "--at",
        "2026-01-02T00:00:00Z",
        *where,
        "--json",
    )
    assert (code, shown["node"], shown["acceptance_confirmed_at"]) == (0, "ACCEPTED", None)
    listed = command("case", "list", "--unconfirmed", "--overdue", "--order-id", "CS1", *where)[1]
    assert [row["id"] for row in listed] == [case]
    assert command("case", "list", "--frozen", *where)[1] == []
    assert command("case", "confirm", case, "accepted", *where)[1]["confirmed"] == "confirmed"
    assert command("case", "show", case, *where)[1]["node"] == "ACCEPTED"
    assert "waits for: marketplace" in said("case", "show", case, *where)[1]
    assert "CS1" in said("case", "list", *where)[1]


def test_what_is_refused_says_why_and_leaves_with_1(command, data, shop):
    code, _, why = command("case", "record", shop[1], "rejected", "--reason", "no", "--data-dir", data)

    assert code == 1
    assert "rejected is not allowed in DELIVERING" in why


def test_a_file_of_confirmations(command, said, data, shop, tmp_path):
    connection, _ = shop
    file = tmp_path / "shown.csv"
    file.write_text("order_id,event,time\nCS1,completed,2026-01-02T00:00:00Z\nCS2,completed,2026-01-02T00:00:00Z\n")
    call = ("case", "import", file, "--connection", connection, "--data-dir", data)

    code, told = said(*call, "--dry-run")
    assert (code, told.splitlines()[-1]) == (1, "2 rows: 1 recorded, 0 confirmed, 0 known, 1 bad; nothing was written")
    assert command(*call)[1]["recorded"] == 1
    assert "1 known, 1 bad" in said(*call)[1]
