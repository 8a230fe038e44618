"""Backup, loss, restore: on either engine and across, by the commands, beside a server under load."""

import asyncio
import re
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from licensesvc.app import open_runtime
from licensesvc.cli.program import run
from licensesvc.domain.instants import parse_rfc3339
from licensesvc.services.supervision.proof_store import put_proof
from licensesvc.settings import Settings
from licensesvc.storage.tables import pages, tables
from tests.support_load import ACTIVATE, SUCCESS, send
from tests.support_process import CHECKOUT, running, serving
from tests.support_stock import make_stock
from tests.support_storage import create_database, drop_database

PHRASE = "correct horse battery"


async def contents(settings: Settings) -> dict[str, list]:
    async def everything(tx):
        return {table.name: [row async for page in pages(tx, table) for row in page] for table in tables(99)}

    async with open_runtime(settings) as rt:
        return await rt.db.read(everything)


@pytest.fixture
def secrets(tmp_path, capsys) -> tuple[str, Path]:
    """A recipient and the file of its identity."""
    assert run(["backup-key", str(tmp_path / "identity")]) == 0
    return re.search(r"recipient: (age1\w+)", capsys.readouterr().out)[1], tmp_path / "identity"


def backup(data: Path, file: Path, recipient: str) -> int:
    return run(["backup", str(file), "--data-dir", str(data), "--recipient", recipient])


def restore(data: Path, file: Path, identity: Path) -> int:
    return run(["restore", str(file), "--data-dir", str(data), "--identity-file", str(identity)])


@pytest.mark.parametrize("into", ["sqlite", "postgres"])
async def test_a_backup_of_either_engine_restores_on_either(
    place, into, postgres_server, tmp_path, secrets, monkeypatch, capsys
):
    recipient, identity = secrets
    source = Settings(data_dir=str(tmp_path / "data"), database_url="" if isinstance(place, Path) else place)
    await make_stock(source.data, licenses=120, seats=2, database_url=source.database_url)
    digest = put_proof(source.proofs_dir, b"accepted")
    async with open_runtime(source) as rt:
        await rt.db.write(lambda tx: tx.run(
            "INSERT INTO proofs (public_id, case_id, kind, filename, media_type, size, sha256, uploaded_at)"
            " SELECT 'prf_x', id, 'other', '验收.txt', 'text/plain', 8, $1, 7 FROM supervision_cases LIMIT 1", digest
        ))  # fmt: skip
    before = await contents(source)
    monkeypatch.setenv("LICENSESVC_DATABASE_URL", source.database_url)
    assert await asyncio.to_thread(backup, source.data, tmp_path / "a.age", recipient) == 0
    url = await create_database(postgres_server) if into == "postgres" else ""
    target = Settings(data_dir=str(tmp_path / "new"), database_url=url)
    monkeypatch.setenv("LICENSESVC_DATABASE_URL", url)

    assert await asyncio.to_thread(restore, target.data, tmp_path / "a.age", identity) == 0

    assert "audit: clean" in capsys.readouterr().out
    after = await contents(target)
    told = after["audit_events"].pop()
    assert "database.restored" in told
    for table, rows in before.items():
        assert sorted(map(repr, after[table])) == sorted(map(repr, rows)), table
    assert (target.proofs_dir / digest[:2] / digest).read_bytes() == b"accepted"
    async with open_runtime(target) as rt:  # new rows get new ids
        await rt.db.write(lambda tx: tx.run(
            "INSERT INTO policies (public_id, name, terms, created_at) VALUES ('pol_n', 'new', '{}', 1)"
        ))  # fmt: skip
    if url:
        shutil.rmtree(target.data)
        assert await asyncio.to_thread(restore, target.data, tmp_path / "a.age", identity) == 1
        assert "the database is not empty" in capsys.readouterr().err
        assert not target.data.exists()
        await drop_database(postgres_server, url)


async def test_a_backup_under_load_brings_back_what_was_acknowledged_before_it(tmp_path, secrets, capsys):
    recipient, identity = secrets
    data, file = tmp_path / "data", tmp_path / "a.age"
    stock = await make_stock(data, licenses=1500)
    codes = list(stock.licenses)
    acknowledged = 0
    with running(*serving(data), log=tmp_path / "log") as server:
        enough = asyncio.Event()

        def count(answers: int) -> None:
            nonlocal acknowledged
            acknowledged = answers
            if answers >= 300:
                enough.set()

        requests = [stock.signed_post(ACTIVATE, code) for code in codes]
        load = asyncio.create_task(send(server.port, requests, connections=8, on_answer=count))
        await enough.wait()
        before = acknowledged
        saved = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "licensesvc", "backup", str(file), "--data-dir", str(data), "--recipient", recipient,
            cwd=CHECKOUT, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        printed, _ = await saved.communicate()
        assert saved.returncode == 0
        answers = (await load).answers
        server.kill()
    assert all(answer is not None and answer.error_code == SUCCESS for answer in answers)
    assert max(answer.seconds for answer in answers) < 4  # reliability, row 5
    shutil.rmtree(data)
    capsys.readouterr()

    assert await asyncio.to_thread(restore, data, file, identity) == 0

    out = capsys.readouterr().out
    assert "audit: clean" in out
    assert float(re.search(r"seconds: (\S+)", out)[1]) > 0
    state_of = re.search(r"state of: (\S+)", out)[1]
    assert f"state of: {state_of}" in printed.decode()
    parse_rfc3339(state_of)
    with sqlite3.connect(data / "licensesvc.db") as db:
        (active,) = db.execute("SELECT COUNT(*) FROM license_states WHERE state = 'ACTIVE'").fetchone()
    db.close()
    assert before <= active <= len(codes)


async def test_control_the_audit_after_a_restore_sees_a_wrong_seat(tmp_path, secrets, capsys):
    recipient, identity = secrets
    await make_stock(tmp_path / "data", licenses=1)
    with sqlite3.connect(tmp_path / "data" / "licensesvc.db") as db:
        db.execute("UPDATE license_states SET seats_taken = 1")
    db.close()
    assert await asyncio.to_thread(backup, tmp_path / "data", tmp_path / "a.age", recipient) == 0

    assert await asyncio.to_thread(restore, tmp_path / "new", tmp_path / "a.age", identity) == 1
    assert "audit: seats: lic_" in capsys.readouterr().out


async def test_nothing_that_exists_is_overwritten(tmp_path, secrets, capsys):
    recipient, identity = secrets
    await make_stock(tmp_path / "data", licenses=1)
    assert await asyncio.to_thread(backup, tmp_path / "data", tmp_path / "a.age", recipient) == 0
    kept = {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()}
    saved = (tmp_path / "a.age").read_bytes()
    capsys.readouterr()

    assert await asyncio.to_thread(backup, tmp_path / "data", tmp_path / "a.age", recipient) == 1
    assert await asyncio.to_thread(restore, tmp_path / "data", tmp_path / "a.age", identity) == 1

    said = capsys.readouterr().err.splitlines()
    assert [("exists already" in line) for line in said] == [True, True]
    assert {path: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()} == kept
    assert (tmp_path / "a.age").read_bytes() == saved
    assert (tmp_path / "a.age").stat().st_mode & 0o777 == 0o600


async def test_a_directory_that_holds_only_settings_is_restored_into(tmp_path, secrets):
    recipient, identity = secrets
    await make_stock(tmp_path / "data", licenses=1)
    assert await asyncio.to_thread(backup, tmp_path / "data", tmp_path / "a.age", recipient) == 0
    (tmp_path / "new").mkdir(mode=0o700)
    (tmp_path / "new" / "licensesvc.toml").write_text('log_level = "error"\n')
    (tmp_path / "new" / ".restoring-killed").mkdir()

    assert await asyncio.to_thread(restore, tmp_path / "new", tmp_path / "a.age", identity) == 0
    assert (tmp_path / "new" / "licensesvc.toml").exists()
    assert not [path for path in (tmp_path / "new").iterdir() if path.name.startswith(".")]


async def test_a_file_that_cannot_be_restored_is_one_clear_line_and_nothing_written(tmp_path, secrets, capsys):
    recipient, identity = secrets
    phrase, wrong = tmp_path / "phrase", tmp_path / "wrong"
    phrase.write_text(PHRASE)
    wrong.write_text("wrong horse battery")
    await make_stock(tmp_path / "data", licenses=1)
    good, locked = tmp_path / "a.age", tmp_path / "p.age"
    assert await asyncio.to_thread(backup, tmp_path / "data", good, recipient) == 0
    saved = ["backup", str(locked), "--data-dir", str(tmp_path / "data"), "--passphrase-file", str(phrase)]
    assert await asyncio.to_thread(run, saved) == 0
    run(["backup-key", str(tmp_path / "stranger")])
    whole = good.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    made = {"cut": whole[: len(whole) // 2], "changed": bytes(changed), "empty": b"", "text": b"hello\n"}
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    mine, strange, by_phrase = (
        ["--identity-file", str(identity)],
        ["--identity-file", str(tmp_path / "stranger")],
        ["--passphrase-file", str(wrong)],
    )
    cases = [(good, strange), (locked, by_phrase), (locked, mine), *((tmp_path / name, mine) for name in made)]
    capsys.readouterr()

    for file, unlock in cases:
        assert await asyncio.to_thread(run, ["restore", str(file), "--data-dir", str(tmp_path / "new"), *unlock]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert re.fullmatch(r"licensesvc: the backup cannot be restored: .*; nothing was written\n", said.err), said.err
        assert not (tmp_path / "new").exists()

    again = ["restore", str(locked), "--data-dir", str(tmp_path / "new"), "--passphrase-file", str(phrase)]
    assert await asyncio.to_thread(run, again) == 0


@pytest.mark.parametrize("options", [[], ["--recipient", "nonsense"], ["--passphrase-file", "short"]])
async def test_a_backup_without_a_usable_lock_is_not_made(tmp_path, options, monkeypatch, capsys):
    await make_stock(tmp_path / "data", licenses=1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("hunter2")

    assert await asyncio.to_thread(run, ["backup", "a.age", "--data-dir", "data", *options]) in {1, 2}
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "hunter2" not in said
    assert not (tmp_path / "a.age").exists()


async def test_a_proof_that_is_gone_is_told_and_the_rest_saved(tmp_path, secrets, capsys):
    recipient, _ = secrets
    await make_stock(tmp_path / "data", licenses=1)
    with sqlite3.connect(tmp_path / "data" / "licensesvc.db") as db:
        db.execute(
            "INSERT INTO proofs (public_id, case_id, kind, filename, media_type, size, sha256, uploaded_at)"
            " SELECT 'prf_x', id, 'other', 'a', 'text/plain', 8, 'abcdef', 7 FROM supervision_cases"
        )
    db.close()

    assert await asyncio.to_thread(backup, tmp_path / "data", tmp_path / "a.age", recipient) == 1
    assert "missing proofs: abcdef" in capsys.readouterr().out
    assert (tmp_path / "a.age").exists()
