"""The sandbox marketplace as a process, and orders placed at it from the command line."""

import json

import httpx2


def test_orders_find_the_sandbox_by_its_data_directory(tmp_path, start, licensesvc):
    data = tmp_path / "data"
    sandbox = start("sandbox", "--data-dir", data, "--port", 0)
    assert httpx2.get(f"{sandbox.url}/sandbox/healthz").json() == {"status": "ok"}
    wanted = ("--product-id", "OFFI1", "--amount", "2", "--no-notify", "--no-deliver", "--data-dir", data)
    placed = licensesvc("sandbox", "order", *wanted, "--json")
    assert placed.returncode == 0, placed.stderr
    order = json.loads(placed.stdout)
    assert (order["amount"], order["deliveries"]) == (2, [])
    assert httpx2.get(f"{sandbox.url}/sandbox/orders").json()["total"] == 1

    refused = licensesvc("sandbox", "order", "--product-id", "OFFI1", "--data-dir", data)
    assert refused.returncode == 1
    assert "tell the seller's callback URL first" in refused.stderr

    second = licensesvc("sandbox", "--data-dir", data, "--port", 0)
    assert second.returncode == 1
    assert "is in use by http://" in second.stderr
    assert sandbox.stop() == 0

    gone = licensesvc("sandbox", "order", *wanted)
    assert gone.returncode == 1
    assert "start `licensesvc sandbox --data-dir" in gone.stderr


def test_a_killed_sandbox_is_missed(tmp_path, start, licensesvc):
    data = tmp_path / "data"
    sandbox = start("sandbox", "--data-dir", data, "--port", 0)
    sandbox.process.kill()
    sandbox.process.wait(30)
    result = licensesvc("sandbox", "order", "--product-id", "OFFI1", "--data-dir", data)
    assert result.returncode == 1
    assert "does not answer" in result.stderr
    assert result.stderr.count("\n") == 1
