"""Commands that end by themselves: what they print, and with which exit code."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from licensesvc.cli.program import program, run


def test_init_makes_private_data_once(tmp_path, command):
    data = tmp_path / "data"
    code, first, _ = command("init", "--data-dir", data)
    assert code == 0
    assert {name.rpartition("/")[2] for name in first["created"]} == {"signing-keys.json", "vault-keys.json"}
    assert first["migrations"]
    assert data.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in data.iterdir() if path.is_file()} == {0o600}
    code, again, _ = command("init", "--data-dir", data)
    assert (code, again["created"], again["migrations"]) == (0, [], [])


def test_init_refuses_a_directory_that_others_may_enter(tmp_path, command):
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    code, _, err = command("init", "--data-dir", data)
    assert code == 2
    assert "run: chmod 700" in err
    assert list(data.iterdir()) == []


def test_migrate_makes_a_missing_database(data, command):
    (data / "licensesvc.db").unlink()
    code, done, _ = command("migrate", "--data-dir", data)
    assert (code, done["migrations"][0]) == (0, "0001_spine")


def test_writing_commands_work_without_a_server_and_leave_audit_events(data, command):
    code, token, _ = command("admin", "create-token", "--name", "Li", "--data-dir", data)
    assert (code, token["role"]) == (0, "owner")
    code, keys, _ = command("keys", "rotate", "--data-dir", data)
    assert (code, [key["status"] for key in keys]) == (0, ["RETIRED", "ACTIVE", "NEXT"])
    assert command("keys", "list", "--data-dir", data)[1] == keys
    code, report, _ = command("audit", "--data-dir", data)
    assert (code, report) == (0, {"clean": True, "counts": {"audit events": 2}, "findings": []})


def execute(data, sql):
    with closing(sqlite3.connect(data / "licensesvc.db")) as db, db:
        return db.execute(sql).fetchall()


def test_a_command_that_fails_inside_shows_one_line_and_no_secret(data, licensesvc):
    execute(data, "DROP TABLE audit_events")

    done = licensesvc("admin", "create-token", "--name", "Li", "--data-dir", data, "--json")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("licensesvc: ")
    assert done.stderr.count("\n") == 1
    assert "lsa_" not in done.stderr
    assert execute(data, "SELECT COUNT(*) FROM admin_tokens") == [(0,)]


def test_a_command_leaves_what_is_due_at_the_marketplace_to_the_server(data, command, monkeypatch):
    started = []
    monkeypatch.setattr("licensesvc.app.OutboxWorker.run", started.append)
    execute(
        data,
        "INSERT INTO outbox (kind, subject, payload, created_at, due_at) VALUES ('order_query', 'CS1', '{}', 0, 0)",
    )
    due = execute(data, "SELECT * FROM outbox")

    assert command("admin", "create-token", "--name", "Li", "--data-dir", data)[0] == 0

    assert started == []
    assert execute(data, "SELECT * FROM outbox") == due
    assert execute(data, "SELECT COUNT(*) FROM messages") == [(0,)]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("credential", "create", "--connection", "con_x", "--scope", "seller", "--name", "x"), "no connection con_x"),
        (("credential", "create", "--connection", "con_x", "--scope", "moon", "--name", "x"), "/scope: "),
        (("admin", "create-token", "--name", "", "--role", "owner"), "/name: "),
    ],
)
def test_what_the_admin_api_refuses_is_one_line(data, command, arguments, why):
    code, _, err = command(*arguments, "--data-dir", data)
    assert code == 1
    assert why in err
    assert err.count("\n") == 1
    assert command("audit", "--data-dir", data)[1]["counts"] == {}


def test_audit_finds_a_changed_event_and_exits_1(data, command):
    run(["admin", "create-token", "--name", "Li", "--data-dir", str(data)])
    execute(data, "UPDATE audit_events SET actor = 'nobody'")
    code, report, _ = command("audit", "--data-dir", data)
    assert code == 1
    assert [finding["check"] for finding in report["findings"]] == ["audit chain"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("LS-7ZK2M-9QW4T-X3HVC-8RNE5-0J6DB", "MISTYPED"),
        ("PL0123456789", "MARKETPLACE"),
        ("许可证", "FOREIGN"),
    ],
)
def test_code_inspect_says_what_a_code_is_without_data(tmp_path, command, code, kind):
    exit_code, facts, _ = command("code", "inspect", code, "--data-dir", tmp_path)
    assert (exit_code, facts["kind"]) == (0, kind)
    assert list(tmp_path.iterdir()) == []


def test_code_inspect_looks_the_code_up_where_there_is_data(data, command):
    code, facts, _ = command("code", "inspect", "PL0123456789", "--data-dir", data)
    assert (code, facts["license"]) == (0, None)


def test_check_config_shows_settings_and_hides_the_dsn(data, command, monkeypatch):
    code, shown, _ = command("check-config", "--data-dir", data)
    assert (code, shown["ready"], shown["port"]) == (0, True, 8080)
    monkeypatch.setenv("LICENSESVC_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/x")
    code, shown, err = command("check-config", "--data-dir", data)
    assert (code, shown["ready"], shown["database_url"]) == (2, False, "***")
    assert "secret" not in err


def test_check_config_says_what_a_server_would_refuse(data, command):
    (data / "vault-keys.json").chmod(0o644)
    code, shown, err = command("check-config", "--data-dir", data)
    assert (code, shown["ready"]) == (2, False)
    assert "vault-keys.json: mode 0644" in err


def test_people_get_lines_and_tables(data, capsys):
    capsys.readouterr()
    assert run(["keys", "list", "--data-dir", str(data)]) == 0
    assert run(["audit", "--data-dir", str(data)]) == 0
    out, err = capsys.readouterr()
    assert "ACTIVE" in out
    assert "NEXT" in out
    assert "clean: nothing re-read" in out
    assert err == ""


def test_an_unexpected_error_is_one_line_and_debug_shows_where(data, capsys, monkeypatch):
    def broken(_path):
        raise RuntimeError("the moon\nis full")

    monkeypatch.setattr("licensesvc.signing.keyset.load", broken)
    capsys.readouterr()
    assert run(["keys", "list", "--data-dir", str(data)]) == 1
    assert capsys.readouterr().err == (
        "licensesvc: RuntimeError: the moon is full (`licensesvc --debug …` shows where)\n"
    )
    with pytest.raises(RuntimeError):
        run(["--debug", "keys", "list", "--data-dir", str(data)])


def every_command(group=program, path=()):
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from every_command(command, (*path, name))


@pytest.mark.parametrize("path", list(every_command()), ids=" ".join)
def test_every_command_has_help(capsys, path):
    assert run([*path, "--help"]) == 0
    assert "Usage: licensesvc" in capsys.readouterr().out


def test_help_loads_nothing_heavy():
    program = "import sys, licensesvc.cli; print([m for m in ('litestar', 'uvicorn', 'httpx2', 'rich', 'msgspec', 'cryptography') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"
