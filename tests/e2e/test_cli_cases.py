"""Commands about supervision cases: thin calls of the admin API."""

import asyncio

import pytest

from licensesvc.cli.admin_client import AdminClient, open_admin
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


def test_links_are_made_listed_and_revoked(command, said, data, shop, monkeypatch):
    _, case = shop
    where = ("--data-dir", data)
    monkeypatch.setenv("LICENSESVC_PUBLIC_URL", "https://licenses.example/")

    code, made, _ = command("case", "link", "make", case, "--days", "7", *where)
    token = made["url"].rpartition("/")[2]
    assert (code, made["url"].startswith("https://licenses.example/buyer/lsb_")) == (0, True)
    assert made["created_by"] == "cli"
    (listed,) = command("case", "link", "list", case, *where)[1]
    assert {**listed, "url": made["url"]} == made
    table = said("case", "link", "list", case, *where)[1]
    assert (made["id"] in table, token in table) == (True, False)
    assert command("case", "link", "revoke", made["id"], *where) == (0, {"revoked": [made["id"]]}, "")
    assert said("case", "link", "revoke", made["id"], *where) == (0, "1 revoked\n")
    assert command("case", "link", "list", case, *where)[1][0]["revoked_at"] is not None


def test_a_link_is_mailed_and_not_shown(command, data, shop, monkeypatch):
    connection, known = shop
    where = ("--data-dir", data)
    address = "buyer@example.com"

    async def sell():
        async with open_admin(Settings(data_dir=str(data))) as client:
            product = (await client.all("/products"))[0]["id"]
            order = {"connection": connection, "order_id": "CS2", "lines": [{"product": product}]}
            order["buyer"] = {"customer_id": "c-1", "email": address}
            return (await client.post("/orders", order))["lines"][0]["case"]

    case = asyncio.run(sell())
    make = ("case", "link", "make", case, "--mail", "--language", "en", *where)
    assert "smtp_url" in command(*make)[2]
    monkeypatch.setenv("LICENSESVC_SMTP_URL", "smtp://127.0.0.1:1")
    monkeypatch.setenv("LICENSESVC_MAIL_FROM", "licenses@seller.example")
    assert "public_url" in command(*make)[2]
    monkeypatch.setenv("LICENSESVC_PUBLIC_URL", "https://licenses.example")

    code, made, _ = command(*make)
    (waiting,) = command("outbox", "list", "--kind", "mail_buyer_link", *where)[1]

    assert (code, made["mail_unsent"], "url" in made) == (0, True, False)
    assert (waiting["about"], waiting["state"]) == (made["id"], "waiting")
    assert address not in str(waiting)
    assert command(*make)[1] == made
    assert "No mail address" in command("case", "link", "make", known, "--mail", *where)[2]


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("make", "CASE", "--language", "en"), 2, "--mail"),
        (("make", "CASE", "--days", "0"), 2, "--days"),
        (("make", "CASE", "--days", "366"), 1, "days"),
        (("make", "case_" + "0" * 26), 1, "nothing here"),
        (("make", "../tokens"), 1, "nothing here"),
        (("list", "case_" + "0" * 26), 1, "nothing here"),
        (("revoke",), 2, "LINK"),
        (("revoke", "lnk_" + "0" * 26), 1, "nothing here"),
        (("revoke", "CASE"), 1, "nothing here"),
        (("revoke", "../connections/x"), 1, "nothing here"),
    ],
)
def test_a_link_that_cannot_be_is_told_in_one_line(command, data, shop, arguments, code, why):
    given = [shop[1] if argument == "CASE" else argument for argument in arguments]

    outcome = command("case", "link", *given, "--data-dir", data)

    assert outcome[0] == code
    assert why in outcome[2]
    assert outcome[2].count("\n") == 1


def test_what_is_refused_says_why_and_leaves_with_1(command, data, shop):
    code, _, why = command("case", "record", shop[1], "rejected", "--reason", "no", "--data-dir", data)

    assert code == 1
    assert "rejected is not allowed in DELIVERING" in why


@pytest.fixture
def cases(data, shop):
    """Five cases that stand at DELIVERING."""

    async def sell():
        async with open_admin(Settings(data_dir=str(data))) as client:
            product = (await client.all("/products"))[0]["id"]
            orders = [
                {"connection": shop[0], "order_id": f"CS{number}", "lines": [{"product": product}]}
                for number in range(2, 6)
            ]
            return [shop[1], *[(await client.post("/orders", order))["lines"][0]["case"] for order in orders]]

    return asyncio.run(sell())


@pytest.mark.parametrize("seconds", [15.0, 0.0])
def test_many_are_recorded_and_confirmed_part_by_part(command, said, data, cases, monkeypatch, seconds):
    where = ("--data-dir", data)
    asked = []
    post = AdminClient.post

    async def counted(self, path, body=None):
        asked.append(len(body["cases"]))
        return await post(self, path, body)

    monkeypatch.setattr("licensesvc.cli.many_cases.PART", 2)
    monkeypatch.setattr("licensesvc.services.supervision.supervise_many.BULK_S", seconds)
    monkeypatch.setattr(AdminClient, "post", counted)

    code, results, _ = command("case", "record-many", "delivered", "--node", "DELIVERING", "--actor", "seller", *where)
    assert (code, [result["case"] for result in results]) == (0, cases)
    assert asked == ([2, 2, 1] if seconds else [2, 2, 2, 2, 1])
    again = said("case", "record-many", "delivered", cases[0], cases[1], cases[0], *where)
    assert (again[0], again[1].splitlines()[-1]) == (1, "0 done, 2 refused")
    assert again[1].startswith(f"{cases[0]}: ILLEGAL_TRANSITION: ")
    missing = "case_" + "0" * 26
    code, results, _ = command("case", "confirm-many", "accepted", *cases[:3], missing, *where)
    assert (code, [result["confirmed"] for result in results]) == (1, ["recorded"] * 3 + [None])
    assert said("case", "confirm-many", "accepted", "--node", "ACCEPTED", *where) == (0, "3 done, 0 refused\n")
    assert said("case", "confirm-many", "accepted", "--frozen", *where) == (0, "0 done, 0 refused\n")


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("record-many", "delivered"), 2, "name cases, or give filters"),
        (("record-many", "delivered", "CASE", "--node", "DELIVERING"), 2, "name cases, or give filters"),
        (("record-many", "nonsense", "CASE"), 1, "event"),
        (("confirm-many", "delivered", "case_1"), 1, "cases"),
        (("confirm-many", "delivered", "--node", "NOWHERE"), 1, "node"),
    ],
)
def test_many_that_cannot_be_meant_are_told_in_one_line(command, data, shop, arguments, code, why):
    given = [shop[1] if argument == "CASE" else argument for argument in arguments]

    outcome = command("case", *given, "--data-dir", data)

    assert outcome[0] == code
    assert why in outcome[2]
    assert outcome[2].count("\n") == 1


def test_a_file_of_confirmations(command, said, data, shop, tmp_path):
    connection, _ = shop
    file = tmp_path / "shown.csv"
    file.write_text("order_id,event,time\nCS1,completed,2026-01-02T00:00:00Z\nCS2,completed,2026-01-02T00:00:00Z\n")
    call = ("case", "import", file, "--connection", connection, "--data-dir", data)

    code, told = said(*call, "--dry-run")
    assert (code, told.splitlines()[-1]) == (1, "2 rows: 1 recorded, 0 confirmed, 0 known, 1 bad; nothing was written")
    assert command(*call)[1]["recorded"] == 1
    assert "1 known, 1 bad" in said(*call)[1]
