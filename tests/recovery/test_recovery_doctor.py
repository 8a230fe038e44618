"""`doctor`: a sound installation passes; every planted fault is found, named and comes with an advice."""

import asyncio
import json
import shutil
import socket
import sqlite3

import pytest

from licensesvc.cli import checks
from licensesvc.cli.checks import SKEW_FAILURE, SKEW_WARNING, State, diagnose, judge_clock
from licensesvc.cli.program import run
from licensesvc.settings import Settings
from licensesvc.signing import keyset
from tests.support_stock import make_stock

RECIPIENT = "age1vgkdpp8thx5xz9tegvk6ncv3vvmfegn9twrxuydnzqn4yupr3f3qdmxgpp"


@pytest.fixture
async def settings(tmp_path) -> Settings:
    await make_stock(tmp_path / "data", licenses=2)
    execute(tmp_path / "data", "UPDATE connections SET base_url = 'http://127.0.0.1:9'")
    return Settings(data_dir=str(tmp_path / "data"), public_url="https://licenses.example", backup_recipient=RECIPIENT)


def execute(data, sql: str) -> None:
    with sqlite3.connect(data / "licensesvc.db") as db:
        db.execute(sql)
    db.close()


def point_to(settings: Settings, port: int) -> None:
    execute(settings.data, f"UPDATE connections SET base_url = 'http://127.0.0.1:{port}'")  # noqa: S608


async def failures(settings) -> dict[str, str]:
    found = await diagnose(settings)
    assert all(bool(finding.advice) == (finding.state is not State.OK) for finding in found)
    return {finding.check: finding.found for finding in found if finding.state is State.FAILED}


async def test_control_a_sound_installation_has_no_failure(settings):
    found = await diagnose(settings)

    assert await failures(settings) == {}
    assert {finding.check for finding in found} == {
        "settings", "backups", "files", "keys", "disk", "libraries", "schema", "engine", "old data", "documents", "proofs", "clock",
    }  # fmt: skip


async def test_a_sound_installation_on_postgres_has_no_failure(tmp_path, postgres_server):
    from tests.support_storage import create_database, drop_database

    url = await create_database(postgres_server)
    await make_stock(tmp_path / "data", licenses=2, database_url=url)
    settings = Settings(data_dir=str(tmp_path / "data"), database_url=url)

    assert await failures(settings) == {}
    await drop_database(postgres_server, url)


def foreign(settings, name):
    other = settings.data.parent / "other"
    asyncio.run(make_stock(other, licenses=1))
    shutil.copy(other / name, settings.data / name)


PLANTED = {
    "files, loose key": (lambda s: s.signing_keys_file.chmod(0o644), "files", "mode 0644"),
    "files, loose database": (lambda s: s.database_file.chmod(0o640), "files", "others may read"),
    "files, loose directory": (lambda s: s.data.chmod(0o755), "files", "mode 0755"),
    "files, key gone": (lambda s: s.vault_keys_file.unlink(), "files", "No such file"),
    "keys, damaged": (lambda s: s.signing_keys_file.write_text("{}"), "keys", "missing required field"),
    "vault of another": (lambda s: foreign(s, "vault-keys.json"), "old data", "license_codes.sealed under key 1"),
    "signing keys of another": (lambda s: foreign(s, "signing-keys.json"), "documents", "unknown keys"),
    "no database": (lambda s: s.database_file.unlink(), "database", "there is none"),
    "no SQLite file": (lambda s: s.database_file.write_bytes(b"x" * 8192), "database", "not a database"),
    "migration missing": (lambda s: execute(s.data, "DELETE FROM schema_migrations"), "schema", "lacks 0001_spine"),
    "migration changed": (
        lambda s: execute(s.data, "UPDATE schema_migrations SET checksum = 'x'"), "database", "was changed after",
    ),
    "proof gone": (
        lambda s: execute(s.data, "INSERT INTO proofs (public_id, case_id, kind, filename, media_type, size, sha256,"
        " uploaded_at) SELECT 'prf_x', id, 'other', 'a', 'text/plain', 8, 'abcdef', 7 FROM supervision_cases LIMIT 1"),
        "proofs", "1 files are gone",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PLANTED)
async def test_a_planted_fault_is_found(settings, case):
    plant, check, text = PLANTED[case]
    await asyncio.to_thread(plant, settings)

    found = await failures(settings)
    assert text in found[check]


async def test_libraries_below_their_floor_and_a_full_disk_are_found(settings, monkeypatch):
    monkeypatch.setitem(checks.FLOORS, "msgspec", "99.0")
    monkeypatch.setattr(checks, "DISK_FAILURE", 2**62)

    found = await failures(settings)
    assert "msgspec" in found["libraries"]
    assert "MiB free" in found["disk"]


@pytest.mark.parametrize(
    ("skew", "state"),
    [
        (0, State.OK),
        (SKEW_WARNING, State.OK),
        (SKEW_WARNING + 1, State.WARNING),
        (-SKEW_WARNING - 2000, State.WARNING),
        (SKEW_FAILURE + 1, State.FAILED),
        (-SKEW_FAILURE - 2000, State.FAILED),
    ],
)
def test_a_clock_is_judged_by_what_a_date_header_can_tell(skew, state):
    theirs = 1_795_000_000_000

    # A header says the whole second, which lasts 1 s; the answer takes 0.5 s.
    judged = judge_clock("https://m.example", theirs, theirs + 1000 + skew, theirs + 1500 + skew)
    assert judged.state is state


@pytest.mark.parametrize(
    ("date", "state"),
    [
        ("Thu, 01 Jan 2015 00:00:00 GMT", State.FAILED),
        ("yesterday", State.WARNING),
        (None, State.WARNING),
    ],
)
async def test_the_clock_is_compared_with_the_marketplace(settings, date, state):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        head = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n"
        writer.write(head + (f"Date: {date}\r\n".encode() if date else b"") + b"\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        point_to(settings, server.sockets[0].getsockname()[1])
        found = {finding.check: finding.state for finding in await diagnose(settings)}
    assert found["clock"] is state


async def test_a_marketplace_that_never_answers_is_a_warning(settings, monkeypatch):
    monkeypatch.setattr(checks, "CLOCK_LIMIT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_to(settings, silent.getsockname()[1])
        found = {finding.check: finding for finding in await diagnose(settings)}

    assert found["clock"].state is State.WARNING
    assert "Timeout" in found["clock"].found


async def test_the_exit_code_and_both_forms(settings, capsys):
    command = ["doctor", "--data-dir", settings.data_dir]

    assert await asyncio.to_thread(run, command) == 0
    assert "ok       schema" in capsys.readouterr().out
    settings.signing_keys_file.chmod(0o644)
    assert await asyncio.to_thread(run, [*command, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {"check", "state", "found", "advice"} == set(found[0])
    assert any("chmod 600" in finding["advice"] for finding in found)


async def test_doctor_shows_no_key_material(settings, capsys):
    private = json.loads(settings.signing_keys_file.read_text())["keys"][0]["private"]
    assert keyset.load(settings.signing_keys_file)

    await asyncio.to_thread(run, ["doctor", "--data-dir", settings.data_dir])
    assert private not in capsys.readouterr().out
