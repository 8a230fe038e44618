"""Commands about licenses and CSV files: thin calls of the admin API, with and without a running server."""

import asyncio
import csv
import io

import pytest

from licensesvc.cli import files
from licensesvc.cli.admin_client import open_admin
from licensesvc.settings import Settings

HEAD = "order_id,marketplace_product_id"


@pytest.fixture
def connection(data):
    """A connection that sells OFFI100."""

    async def make():
        async with open_admin(Settings(data_dir=str(data))) as client:
            made = await client.post("/connections", {"name": "cn", "site": "cn"})
            policy = await client.post(
                "/policies", {"name": "year", "term": "PERIOD", "period": {"unit": "YEAR", "count": 1}}
            )
            await client.post(
                "/products",
                {
                    "connection": made["id"],
                    "policy": policy["id"],
                    "name": "Widget",
                    "marketplace_product_id": "OFFI100",
                    "delivery_kind": "LICENSE_1_0",
                },
            )
            return made["id"]

    return asyncio.run(make())


@pytest.fixture
def bring(data, tmp_path, connection, command):
    """Import a file with this text; exit code and report."""

    def call(text, *options):
        path = tmp_path / "orders.csv"
        path.write_bytes(text.encode("utf-8-sig"))
        code, report, _ = command("import-orders", path, "--connection", connection, "--data-dir", data, *options)
        return code, report

    return call


def test_orders_are_imported_part_by_part_and_bad_rows_named_by_their_line(bring, monkeypatch):
    monkeypatch.setattr(files, "PART", 2)
    text = (
        f"{HEAD},customer_name,customer_id\nCS1,OFFI100,=1+1,c-1\n\nCS2,NOBODY,,\nCS3,OFFI100\n"
        'CS4,OFFI100,"two\nlines",c-4\nCS5,OFFI100,a b,c-5\n'
    )

    code, tried = bring(text, "--dry-run")
    assert (code, tried["created"], tried["written"]) == (1, 2, False)
    code, done = bring(text)

    assert (code, done["created"], done["known"], done["bad"], done["written"]) == (1, 2, 0, 3, True)
    assert [(bad["row"], bad["line"]) for bad in done["bad_rows"]] == [(2, 4), (3, 5), (4, 6)]
    code, again = bring(text)
    assert (again["created"], again["known"]) == (0, 2)


def test_all_or_nothing_writes_nothing_for_one_bad_row(bring, command, data):
    code, report = bring(f"{HEAD}\nCS1,OFFI100\nCS2,NOBODY\n", "--all-or-nothing")
    assert (code, report["written"]) == (1, False)
    assert command("license", "list", "--data-dir", data)[1] == []

    code, report = bring(f"{HEAD}\nCS1,OFFI100\n", "--all-or-nothing")
    assert (code, report["created"], report["written"]) == (0, 1, True)


def test_a_file_that_cannot_be_read_is_one_line(data, tmp_path, connection, command):
    path = tmp_path / "x.csv"
    path.write_bytes(b"order_id;marketplace_product_id\n")

    code, _, err = command("import-orders", path, "--connection", connection, "--data-dir", data)

    assert code == 1
    assert "separated by commas" in err


@pytest.fixture
def sold(bring, command, data):
    bring(f"{HEAD},license_code,customer_id,service_start\nCS1,OFFI100,LEGACY-0001,c-1,2025-01-01T00:00:00Z\n")
    return command("license", "list", "--data-dir", data)[1][0]["id"]


def test_a_license_is_changed_by_id_and_by_code(data, sold, command):
    def ask(verb, *options, license_=sold):
        code, answer, err = command("license", verb, license_, *options, "--reason", "ticket", "--data-dir", data)
        assert code == 0, err
        return answer

    assert ask("suspend", license_="LEGACY-0001")["status"] == "SUSPENDED"
    assert ask("reinstate")["suspended_at"] is None
    assert ask("change-quantity", "--quantity", "4")["seats"] == 4
    assert ask("move-expiry", "--expires-at", "2031-01-01T00:00:00Z")["expires_at"] == "2031-01-01T00:00:00.000Z"
    assert ask("renew", "--unit", "YEAR", "--count", "1")["expires_at"].startswith(("2031", "2032"))
    hint = ask("replace-code")["code_hint"]
    assert hint.startswith("LS")
    assert ask("revoke")["status"] == "REVOKED"
    shown = command("license", "show", sold, "--data-dir", data)[1]
    assert (shown["status"], shown["code_hint"]) == ("REVOKED", hint)


def test_what_the_server_refuses_is_one_line(data, sold, command):
    def ask(*arguments):
        code, _, err = command("license", *arguments, "--data-dir", data)
        return code, err

    assert "no license has this code" in ask("show", "UNKNOWN-CODE")[1]
    assert "--reason" in ask("revoke", sold)[1]
    assert "together" in ask("renew", sold, "--unit", "YEAR", "--reason", "r")[1]
    code, err = ask("free-seat", sold, "--reason", "r")
    assert (code, "No such activation" in err) == (1, True)
    assert "smtp_url" in ask("send-code", sold, "--reason", "r")[1]


def test_licenses_are_found_by_filters(data, sold, command):
    for option, value, count in (
        ("--order-id", "CS1", 1),
        ("--customer-id", "c-1", 1),
        ("--customer-id", "c-2", 0),
        ("--status", "SUSPENDED", 0),
    ):
        assert len(command("license", "list", option, value, "--data-dir", data)[1]) == count


def test_lists_are_written_as_files(data, sold, tmp_path, licensesvc):
    for kind in ("licenses", "orders", "cases"):
        target = tmp_path / f"{kind}.csv"
        done = licensesvc("export", kind, "--output", target, "--data-dir", data)
        assert (done.returncode, done.stderr) == (0, "")
        [row] = csv.DictReader(io.StringIO(target.read_text(encoding="utf-8-sig")))
        assert row["order_id"] == "CS1"
