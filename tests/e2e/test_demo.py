"""The demonstration: every step verified, its documents verified again by another JOSE implementation, nothing left behind."""

import asyncio
import json
import os
import signal
import sqlite3
from pathlib import Path

import httpx2
import psutil
import pytest
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet

from licensesvc.cli.program import run
from licensesvc.cli.story import StepFailed, expect

SUMMARY = {"order_id", "license_code", "activated", "receipt_kid", "supervision", "seconds"}
STEPS = [
    "order received",
    "license code issued",
    "signed license verified offline",
    "activated over the v1 URI",
    "heartbeat",
    "proof uploaded",
    "accepted",
    "completed",
]


def summary_of(result):
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    assert result.stdout.endswith("}\n")
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary.keys() == SUMMARY
    assert summary["activated"] is True
    assert summary["supervision"] == "COMPLETED"
    return summary


def claims_of(document: str, jwks: dict, typ: str):
    # RFC 9864 prefers the name Ed25519, which the other JOSE implementations do not know yet.
    with pytest.warns(SecurityWarning, match="EdDSA"):
        signed = jwt.decode(document, KeySet.import_key_set(jwks), algorithms=["EdDSA"])
    assert signed.header["typ"] == typ
    return signed.header, signed.claims


def test_the_story_in_a_chinese_path_under_lang_c_and_again_on_the_same_data(tmp_path, licensesvc):
    data = tmp_path / "数据 目录"
    settings = {"LANG": "C", "LC_ALL": "C", "TZ": "Pacific/Chatham", "LICENSESVC_PORT": "1"}
    first = licensesvc("demo", "--data-dir", data, **settings)
    summary = summary_of(first)
    told = [line.partition("✓ ")[2] for line in first.stdout.splitlines()]
    places = [next(number for number, line in enumerate(told) if line.startswith(step)) for step in STEPS]
    assert places == sorted(places)
    assert "\x1b" not in first.stdout

    jwks = json.loads((data / "demo" / "jwks.json").read_text())
    _, license_claims = claims_of((data / "demo" / "license.jws").read_text(), jwks, "license+jwt")
    assert license_claims["order"] == summary["order_id"]
    header, receipt_claims = claims_of((data / "demo" / "receipt.jws").read_text(), jwks, "receipt+jwt")
    assert header["kid"] == summary["receipt_kid"]
    assert receipt_claims["sub"] == license_claims["sub"]

    second = summary_of(licensesvc("demo", "--data-dir", data))
    assert second["order_id"] != summary["order_id"]
    with sqlite3.connect(data / "licensesvc.db") as db:
        counts = {
            table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own names
            for table in ("connections", "products", "credentials", "licenses")
        }
    db.close()
    assert counts == {"connections": 1, "products": 1, "credentials": 1, "licenses": 2}


def test_without_a_data_directory_nothing_stays(tmp_path, licensesvc):
    summary_of(licensesvc("demo", TMPDIR=str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


def test_a_step_that_comes_out_wrong_ends_the_story_with_exit_code_1(data, licensesvc):
    asyncio.run(_sell_something_else(data))
    result = licensesvc("demo", "--data-dir", data)
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert "✗ the marketplace's verdict on the answer to getLicense: expected success, got " in last
    assert "license code issued" not in result.stdout


async def _sell_something_else(data: Path):
    from licensesvc.cli.admin_client import open_admin
    from licensesvc.settings import load

    async with open_admin(load({"data_dir": str(data)}, environment={})) as admin:
        connection = await admin.post("/connections", {"name": "sandbox", "site": "cn"})
        policy = await admin.post("/policies", {"name": "forever", "term": "PERPETUAL"})
        product = {"connection": connection["id"], "policy": policy["id"], "name": "demo software"}
        await admin.post("/products", {**product, "marketplace_product_id": "ANOTHER", "delivery_kind": "LICENSE_1_0"})


def test_a_port_in_use_is_told_by_the_demonstration(data, start, licensesvc):
    taken = start("sandbox", "--data-dir", data, "--port", 0)
    port = taken.url.rpartition(":")[2]
    result = licensesvc("demo", "--port", port, "--data-dir", data.parent / "other")
    assert result.returncode == 1
    assert f"the server did not start: cannot listen on 127.0.0.1 port {port}" in result.stderr


def test_expect_names_what_was_expected_and_what_came():
    expect("the status", "ALIVE", "ALIVE")
    with pytest.raises(StepFailed, match="the status: expected ALIVE, got EXPIRED"):
        expect("the status", "EXPIRED", "ALIVE")


def serving(start, data):
    running = start(
        "demo", "--serve", "--data-dir", data, "--port", 0, "--sandbox-port", 0, ready="ready  license server "
    )
    shown = ""
    for line in running.process.stdout:
        shown += line
        if "Ctrl-C" in line:
            return running, shown
    pytest.fail(shown)


def test_serving_on_shows_a_token_that_works_and_ctrl_c_stops_everything(tmp_path, start):
    data = tmp_path / "data"
    running, shown = serving(start, data)
    url = running.url.rstrip(",")
    token = next(line.split()[-1] for line in shown.splitlines() if line.startswith("Admin token"))
    assert f"{url}/schema" in shown
    assert httpx2.get(f"{url}/admin/v1/tokens", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    children = psutil.Process(running.process.pid).children(recursive=True)
    assert len(children) == 2
    assert running.stop(signal.SIGINT) == 0
    assert psutil.wait_procs(children, timeout=10)[1] == []


def test_killing_the_parent_leaves_no_child_and_the_next_run_continues(tmp_path, start):
    running, shown = serving(start, tmp_path / "data")
    assert "Admin token" in shown
    children = psutil.Process(running.process.pid).children(recursive=True)
    os.kill(running.process.pid, signal.SIGKILL)
    assert psutil.wait_procs(children, timeout=15)[1] == []

    running, shown = serving(start, tmp_path / "data")
    assert "Admin token" not in shown
    assert running.stop(signal.SIGTERM) == 0


def test_a_server_that_dies_ends_serving_with_exit_code_1(tmp_path, start):
    running, _ = serving(start, tmp_path / "data")
    server = next(child for child in psutil.Process(running.process.pid).children() if "serve" in child.cmdline())
    server.kill()
    assert running.process.wait(30) == 1


def test_the_demonstration_does_not_disturb_a_running_server(data, start, licensesvc):
    start("serve", "--data-dir", data, "--port", 0)
    result = licensesvc("demo", "--data-dir", data)
    assert result.returncode == 1
    assert "is in use by licensesvc serve" in result.stderr


def test_run_is_what_the_entry_point_calls():
    assert run(["--version"]) == 0
