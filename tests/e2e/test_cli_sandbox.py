"""The sandbox marketplace as a process, and what is asked of it from the command line."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

from licensesvc.cli.program import run
from licensesvc.sandbox.changes import CHANGES, Change
from licensesvc.sandbox.outage import OutageKind


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


class Seller(BaseHTTPRequestHandler):
    """Takes notice of everything, or of nothing."""

    ANSWERS = ({"resultCode": "000000"}, {"resultCode": "000005", "resultMsg": "sick"})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps(self.ANSWERS[self.server.sick]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_): ...


@pytest.fixture
def seller():
    with ThreadingHTTPServer(("127.0.0.1", 0), Seller) as server:
        server.sick, server.daemon_threads = False, True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def said(tmp_path, capsys):
    """Run `sandbox …` in this process; what it printed, or why it failed."""

    def call(*arguments, as_json=True, code=0):
        capsys.readouterr()
        options = ["--data-dir", str(tmp_path / "data"), *(["--json"] if as_json else [])]
        returned = run(["sandbox", *map(str, arguments), *options])
        out, err = capsys.readouterr()
        assert returned == code, out + err
        if code:
            return out + err
        return json.loads(out) if as_json and out else out

    return call


def test_the_life_of_an_order_from_the_command_line(tmp_path, start, said, seller):
    sandbox = start("sandbox", "serve", "--data-dir", tmp_path / "data", "--port", 0, "--upper-case")
    said("seller", f"http://127.0.0.1:{seller.server_port}/callbacks", as_json=False)
    wanted = ("--product-id", "OFFI1", "--dialect", "LICENSE_2_0", "--period-type", "year")

    order = said("order", *wanted, "--claim")
    assert order["license"].startswith("PL")
    once = {Change.EXPIRE, Change.REFUND, Change.RELEASE}
    for kind in (*(kind for kind in CHANGES["LICENSE_2_0"] if kind not in once), Change.RELEASE):
        changed = said(kind, order["order_id"])
        assert all(made["ok"] for made in changed["deliveries"])
    assert "the purchase is released" in said("freeze", order["order_id"], code=1)
    assert "not in service" in said("expire", said("order", *wanted)["order_id"], code=1)
    assert "no order x" in said("renew", "x", code=1)
    refund = said("refund", said("order", *wanted)["order_id"], as_json=False)
    assert "order type: UNSUBSCRIBE" in refund
    assert "releaseLicenseCode: success" in refund

    states = {code["code"]: code["state"] for code in said("codes")["codes"]}
    assert states[order["license"]] == "RELEASED"
    assert order["license"] in said("codes", as_json=False)
    [code] = said("test-codes", "--product-id", "OFFI1", "--days", "3")
    assert code["code"].startswith("PL")
    assert {message["state"] for message in said("messages")} == {"delivered"}
    assert sandbox.stop() == 0


def test_failures_probes_outages_and_chaos_from_the_command_line(tmp_path, start, said, seller):
    sandbox = start("sandbox", "--data-dir", tmp_path / "data", "--port", 0, "--chaos", "7:0")
    assert said("chaos")["chaos"] == {"seed": 7, "rate": 0.0, "only": []}
    said("seller", f"http://127.0.0.1:{seller.server_port}/callbacks", as_json=False)
    seller.sick = True
    assert "the seller refused orderNotify" in said("order", "--product-id", "OFFI1", "--dialect", "GENERAL", code=1)
    [mail] = said("mails")
    assert mail["activity"] == "orderNotify"
    assert "sick" in said("mails", as_json=False)
    [message] = said("messages")
    assert "the seller refused orderNotify" in said("restart", message["number"], code=1)
    seller.sick = False
    assert [made["ok"] for made in said("restart", message["number"])["deliveries"]] == [True]
    assert "no message 77" in said("restart", "77", code=1)

    assert len(said("save-cases", "--product-id", "OFFI1")["saved"]) == 7
    assert "OFFI1" in said("replay", as_json=False)
    seller.sick = True
    assert "7 debug cases failed" in said("replay", code=1)
    assert said("probes")["failing_days"] == {"OFFI1": 1}
    assert "1 failing days in a row" in said("probes", as_json=False)
    said("thaw", "--product-id", "OFFI1", as_json=False)

    query = f"{sandbox.url}/api/mkp-openapi-public/global/v1/order/query?orderId=CS1"
    said("outage", "unavailable", as_json=False)
    assert httpx2.get(query).status_code == 503
    said("outage", "none", as_json=False)
    assert httpx2.get(query).status_code == 401

    seller.sick = False
    assert said("chaos", "3:1")["chaos"]["rate"] == 1.0
    said("order", "--product-id", "OFFI1", "--dialect", "GENERAL", "--no-notify")
    assert httpx2.get(query).status_code == 503
    assert "503 from the open API" in said("chaos", as_json=False)
    assert said("chaos", "off")["chaos"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("--chaos", "x"),
        ("--chaos", "1:2"),
        ("--chaos", "1:nan"),
        ("--chaos", ""),
        ("--smtp", "localhost:25"),
        ("--mail-to", "a@example.com"),
        ("--smtp", "localhost", "--mail-to", "a@example.com"),
        ("--smtp", "localhost:x", "--mail-to", "a@example.com"),
        ("--time-factor", "0"),
    ],
)
def test_options_that_are_none_are_refused_in_one_line(tmp_path, capsys, arguments):
    assert run(["sandbox", "serve", "--data-dir", str(tmp_path / "data"), "--port", "0", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_the_command_knows_every_kind_of_outage_and_of_change():
    from licensesvc.cli.sandbox_control import COMMANDS, outage

    assert set(outage.params[1].type.choices) == set(OutageKind)
    assert set(Change) <= {command.name for command in COMMANDS}
