"""A server that cannot start says why in one line, with an exit code, and has changed nothing."""

import socket
import sqlite3

import httpx2
import pytest

from licensesvc.cli.program import run


@pytest.fixture
def serve(monkeypatch, capsys):
    """`serve` in this process, which ends before it serves: exit code, stdout, stderr."""
    monkeypatch.setattr("licensesvc.logs.configure", lambda _level: None)  # it would outlive the test

    def call(*arguments):
        capsys.readouterr()
        code = run(["serve", *map(str, arguments)])
        return code, *capsys.readouterr()

    return call


def wrong_value(data):
    (data / "licensesvc.toml").write_text('lock_scope = "moon"\n')


def misspelt_in_file(data):
    (data / "licensesvc.toml").write_text("prot = 8081\n")


def unreadable_file(data):
    (data / "licensesvc.toml").write_text("port = \n")


def loose_signing_keys(data):
    (data / "signing-keys.json").chmod(0o644)


def loose_vault_keys(data):
    (data / "vault-keys.json").chmod(0o604)


def damaged_keys(data):
    (data / "signing-keys.json").write_text("{}")


def no_keys(data):
    (data / "vault-keys.json").unlink()


def no_database(data):
    (data / "licensesvc.db").unlink()


def future_database(data):
    with sqlite3.connect(data / "licensesvc.db") as db:
        db.execute("INSERT INTO schema_migrations VALUES (9999, '9999_future', 'x', 9999, 0)")
    db.close()


def no_database_file(data):
    (data / "licensesvc.db").write_bytes(b"this is no database at all" * 100)


@pytest.mark.parametrize(
    ("spoil", "code", "said"),
    [
        (wrong_value, 2, "lock_scope"),
        (misspelt_in_file, 2, "licensesvc.toml: Object contains unknown field `prot`"),
        (unreadable_file, 2, "licensesvc.toml: "),
        (loose_signing_keys, 2, "signing-keys.json: mode 0644 lets others in; run: chmod 600"),
        (loose_vault_keys, 2, "vault-keys.json: mode 0604 lets others in; run: chmod 600"),
        (damaged_keys, 2, "signing-keys.json: "),
        (no_keys, 2, "put back what belongs to it, or restore a backup"),
        (no_database, 2, "run `licensesvc migrate --data-dir "),
        (future_database, 2, "9999_future"),
        (no_database_file, 1, "file is not a database"),
    ],
)
def test_a_start_with_something_wrong_is_one_line_and_changes_nothing(data, serve, contents, spoil, code, said):
    spoil(data)
    before = contents(data)
    outcome, out, err = serve("--data-dir", data, "--port", 0)
    assert outcome == code
    assert said in err
    assert err.startswith("licensesvc: ")
    assert err.count("\n") == 1
    assert out == ""
    assert contents(data) == before


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [("--port", "abc", 2), ("--port", "65536", 2), ("--prot", "1", 2), ("--host", "203.0.113.1", 1)],
)
def test_a_wrong_option_is_one_line(data, serve, contents, name, value, code):
    before = contents(data)
    outcome, _, err = serve("--data-dir", data, name, value)
    assert outcome == code
    assert err.count("\n") == 1
    assert contents(data) == before


def test_a_misspelt_variable_is_one_line(data, licensesvc):
    result = licensesvc("serve", "--data-dir", data, LICENSESVC_PROT="1")
    assert result.returncode == 2
    assert result.stderr == "licensesvc: unknown setting LICENSESVC_PROT in the environment\n"


def test_a_port_in_use_is_one_line(data, licensesvc, contents):
    before = contents(data)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = licensesvc("serve", "--data-dir", data, "--port", port)
    assert result.returncode == 1
    assert result.stderr == (
        f"licensesvc: cannot listen on 127.0.0.1 port {port}: Address already in use; choose another --host or --port\n"
    )
    assert contents(data) == before


def test_a_directory_that_nobody_made_is_not_made_by_serve(tmp_path, serve):
    code, _, err = serve("--data-dir", tmp_path / "nothing", "--port", 0)
    assert code == 2
    assert "holds no keys: run `licensesvc init --data-dir " in err
    assert list(tmp_path.iterdir()) == []


def test_a_second_server_on_the_same_data_is_refused_and_the_first_serves_on(data, licensesvc, start):
    first = start("serve", "--data-dir", data, "--port", 0)
    result = licensesvc("serve", "--data-dir", data, "--port", 0)
    assert result.returncode == 1
    assert (
        f"is in use by licensesvc serve (process {first.process.pid}) on {first.url}: stop that first" in result.stderr
    )
    assert result.stderr.count("\n") == 1
    assert httpx2.get(f"{first.url}/readyz").text == "ready\n"
    assert licensesvc("migrate", "--data-dir", data).returncode == 1
    assert licensesvc("init", "--data-dir", data).returncode == 1
