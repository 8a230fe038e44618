"""A running server: its sockets, its end, and the commands that reach it."""

import json
import signal
import stat

import httpx2
import pytest

from licensesvc.cli.program import run

# More bytes than an address of a UNIX socket can hold.
LONG_NAME = "许可证服务 的 数据目录" * 5


@pytest.fixture
def facts(command):
    """What a command that succeeds prints."""

    def call(*arguments):
        code, document, err = command(*arguments)
        assert code == 0, err
        return document

    return call


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_exit_code_0_and_leaves_no_socket(data, start, number):
    server = start("serve", "--data-dir", data, "--port", 0)
    control = data / "control.sock"
    assert stat.S_IMODE(control.stat().st_mode) == 0o600
    answer = httpx2.get(f"{server.url}/readyz")
    assert answer.status_code == 200
    assert "server" not in answer.headers
    assert server.stop(number) == 0
    assert not control.exists()
    assert not (data / "licensesvc.db-wal").exists()


def test_it_stops_when_its_parent_is_gone(data, start):
    server = start("serve", "--data-dir", data, "--port", 0, "--exit-with-parent")
    server.process.stdin.close()
    assert server.process.wait(30) == 0


def test_a_token_made_through_the_control_socket_opens_the_admin_api(data, start, facts):
    server = start("serve", "--data-dir", data, "--port", 0)
    made = facts("admin", "create-token", "--name", "Li", "--role", "reader", "--data-dir", data)
    bearer = {"Authorization": f"Bearer {made['token']}"}
    assert httpx2.get(f"{server.url}/admin/v1/keys", headers=bearer).status_code == 200
    assert httpx2.get(f"{server.url}/admin/v1/tokens", headers=bearer).status_code == 403


def test_nothing_that_a_client_sends_over_tcp_looks_like_the_control_socket(data, start):
    server = start("serve", "--data-dir", data, "--port", 0)
    headers = {"Host": "localhost", "licensesvc.control": "True", "X-Forwarded-For": "unix:", "Forwarded": "for=unix"}
    assert httpx2.get(f"{server.url}/admin/v1/tokens", headers=headers).status_code == 401


def test_keys_rotate_at_once_in_a_running_server(data, start, facts):
    server = start("serve", "--data-dir", data, "--port", 0)
    before = facts("keys", "list", "--data-dir", data)
    rotated = facts("keys", "rotate", "--data-dir", data)
    published = [key["kid"] for key in httpx2.get(f"{server.url}/.well-known/jwks.json").json()["keys"]]
    assert [key["status"] for key in rotated] == ["RETIRED", "ACTIVE", "NEXT"]
    assert {key["kid"] for key in rotated} == set(published)
    next_before = next(key["kid"] for key in before if key["status"] == "NEXT")
    assert next(key["kid"] for key in rotated if key["status"] == "ACTIVE") == next_before
    assert facts("keys", "list", "--data-dir", data) == rotated


def test_a_killed_server_is_in_nobodys_way(data, start, facts):
    killed = start("serve", "--data-dir", data, "--port", 0)
    facts("admin", "create-token", "--name", "Li", "--data-dir", data)
    killed.process.kill()
    killed.process.wait(30)
    assert (data / "control.sock").exists()
    assert facts("audit", "--data-dir", data)["clean"]
    facts("admin", "create-token", "--name", "Wang", "--data-dir", data)
    again = start("serve", "--data-dir", data, "--port", 0)
    assert httpx2.get(f"{again.url}/readyz").status_code == 200
    report = facts("audit", "--data-dir", data)
    assert report == {"clean": True, "counts": {"audit events": 2}, "findings": []}


def test_it_works_in_a_long_chinese_path_under_lang_c(tmp_path, start, licensesvc):
    data = tmp_path / LONG_NAME
    assert run(["init", "--data-dir", str(data)]) == 0
    start("serve", "--data-dir", data, "--port", 0, LANG="C", LC_ALL="C")
    result = licensesvc("admin", "create-token", "--name", "李", "--json", "--data-dir", data, LANG="C", LC_ALL="C")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["name"] == "李"
