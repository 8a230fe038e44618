"""What a real server shows of itself: access lines, request ids, metrics on their own sockets."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def lines(log: Path) -> list[dict]:
    """The access lines of a log of JSON lines."""
    return [line for line in map(json.loads, log.read_text().splitlines()) if line["event"] == "request"]


def test_every_answer_has_a_request_id_and_every_request_a_line(data: Path, start, tmp_path: Path):
    server = start("serve", "--data-dir", data, "--port", 0)
    paths = {"/healthz": 200, "/nowhere": 404, "/admin/v1/licenses?code=LS-1": 401, "/v1/activations": 405}
    answers = [httpx2.get(server.url + path, trust_env=False) for path in paths]
    server.stop()

    assert [answer.status_code for answer in answers] == list(paths.values())
    names = [answer.headers.get_list("x-request-id") for answer in answers]
    assert all(len(given) == 1 for given in names)
    assert [(line["request_id"], line["status"]) for line in lines(tmp_path / "stderr.log")] == [
        (given[0], status) for given, status in zip(names, paths.values(), strict=True)
    ]
    assert {"method", "route", "ms", "caller", "connection", "address", "level", "timestamp"} <= lines(
        tmp_path / "stderr.log"
    )[0].keys()


def test_a_higher_level_writes_no_access_lines(data: Path, start, tmp_path: Path):
    server = start("serve", "--data-dir", data, "--port", 0, LICENSESVC_LOG_LEVEL="warning")
    httpx2.get(f"{server.url}/healthz", trust_env=False)
    server.stop()

    assert lines(tmp_path / "stderr.log") == []


def test_metrics_are_on_their_port_and_the_control_socket(data: Path, start, free_port: int):
    server = start("serve", "--data-dir", data, "--port", 0, LICENSESVC_METRICS_PORT=str(free_port))
    own = httpx2.get(f"http://127.0.0.1:{free_port}/metrics", trust_env=False)
    with httpx2.Client(transport=httpx2.HTTPTransport(uds=str(data / "control.sock"))) as client:
        control = client.get("http://localhost/metrics")

    assert own.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "licensesvc_ready 1.0" in own.text
    assert "licensesvc_ready 1.0" in control.text
    forged = {"Host": f"127.0.0.1:{free_port}", "X-Forwarded-Port": str(free_port), "licensesvc.control": "True"}
    assert httpx2.get(f"{server.url}/metrics", headers=forged, trust_env=False).status_code == 404
    assert httpx2.get(f"http://127.0.0.1:{free_port}/healthz", trust_env=False).status_code == 404


def test_a_metrics_port_that_is_taken_is_one_line(data: Path, licensesvc):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        outcome = licensesvc("serve", "--data-dir", data, "--port", 0, LICENSESVC_METRICS_PORT=str(port))

    assert outcome.returncode == 1
    assert len(outcome.stderr.strip().splitlines()) == 1
    assert str(port) in outcome.stderr


def test_traces_without_their_extra_are_one_line(data: Path):
    (data / "sitecustomize.py").write_text("import sys; sys.modules['opentelemetry'] = None")
    outcome = subprocess.run(
        [sys.executable, "-m", "licensesvc", "serve", "--data-dir", str(data), "--port", "0"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(data), *sys.path]),
            "LICENSESVC_OTLP_ENDPOINT": "http://127.0.0.1:9/v1/traces",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert outcome.returncode == 2
    assert outcome.stderr.strip().splitlines() == [
        "licensesvc: otlp_endpoint is set: install licensesvc[telemetry], or unset it"
    ]
