"""The form inside the encryption: whatever contradicts itself is refused before anything is written."""

import asyncio
import io

import msgspec
import pytest
from pyrage.x25519 import Identity

from licensesvc.app import open_runtime
from licensesvc.cli.program import run
from licensesvc.services.upkeep import backup
from licensesvc.services.upkeep.archive import (
    AppliedFile,
    ArchiveDamaged,
    ArchiveTooNew,
    ArchiveWriter,
    End,
    Header,
    KeyFile,
    Proof,
    Rows,
    read_archive,
)
from licensesvc.services.upkeep.backup import back_up
from licensesvc.services.upkeep.restore import verify_backup
from licensesvc.settings import Settings
from licensesvc.signing.agefile import decrypting, encrypting
from licensesvc.signing.privatefiles import create_private
from licensesvc.storage.tables import tables
from tests.support_stock import make_stock

IDENTITY = Identity.generate()
TO = [IDENTITY.to_public()]


@pytest.fixture
async def parts(tmp_path) -> list:
    """The parts of a real backup without their end."""
    await make_stock(tmp_path / "data", licenses=2)
    settings = Settings(data_dir=str(tmp_path / "data"))
    async with open_runtime(settings) as rt:
        await back_up(rt, settings.data, tmp_path / "real.age", TO)
    with (tmp_path / "real.age").open("rb") as file, decrypting(file, [IDENTITY]) as source:
        return [part for part in read_archive(source) if not isinstance(part, End)]


def made(tmp_path, parts, *, tail=b""):
    path = tmp_path / "made.age"
    with path.open("wb") as file, encrypting(file, TO) as sink:
        archive = ArchiveWriter(sink)
        for part in parts:
            archive.write(part)
        archive.end()
        sink.write(tail)
    return path


def verified(tmp_path, parts, *, tail=b""):
    return verify_backup(made(tmp_path, parts, tail=tail), [IDENTITY])


async def restored(tmp_path, parts) -> int:
    identity = tmp_path / "identity"
    create_private(identity, str(IDENTITY).encode())
    command = ["restore", str(made(tmp_path, parts)), "--data-dir", str(tmp_path / "new")]
    return await asyncio.to_thread(run, [*command, "--identity-file", str(identity)])


def changed(parts, kind, change):
    """The first part of a kind replaced by what `change` makes of it; None leaves it out."""
    place = next(number for number, part in enumerate(parts) if isinstance(part, kind))
    new = change(parts[place])
    return [*parts[:place], *([] if new is None else [new]), *parts[place + 1 :]]


def replacing(**fields):
    return lambda part: msgspec.structs.replace(part, **fields)


def test_control_the_parts_as_they_are_verify(tmp_path, parts):
    assert verified(tmp_path, parts).rows > 20


HOSTILE = {
    "no header": lambda parts: parts[1:],
    "two headers": lambda parts: [parts[0], *parts],
    "no signing keys": lambda parts: changed(parts, KeyFile, lambda _: None),
    "unusable signing keys": lambda parts: changed(parts, KeyFile, replacing(content=b"{}")),
    "a path as the name of a key file": lambda parts: changed(parts, KeyFile, replacing(name="../../etc/passwd")),
    "an unknown table": lambda parts: changed(parts, Rows, replacing(table="sqlite_master")),
    "a row too short": lambda parts: changed(parts, Rows, lambda part: replacing(rows=[part.rows[0][:-1]])(part)),
    "a value of no column type": lambda parts: changed(
        parts, Rows, lambda part: replacing(rows=[[1.5, *part.rows[0][1:]]])(part)
    ),
    "another schema": lambda parts: changed(parts, Header, replacing(tables=())),
    "another migration": lambda parts: changed(
        parts, Header, replacing(migrations=(AppliedFile(name="0001_spine", checksum="0"),))
    ),
    "a proof that is not what it is called": lambda parts: [*parts, Proof(sha256="../../x", content=b"%PDF-")],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_contradicts_itself_is_refused(tmp_path, parts, case):
    with pytest.raises(ArchiveDamaged):
        verified(tmp_path, HOSTILE[case](parts))


def test_a_changed_audit_event_breaks_its_chain(tmp_path, parts):
    place = next(n for n, part in enumerate(parts) if isinstance(part, Rows) and part.table == "audit_events")
    columns = next(table.columns for table in parts[0].tables if table.name == "audit_events")
    parts[place].rows[1][columns.index("actor")] = "somebody else"

    with pytest.raises(ArchiveDamaged, match="audit chain main is broken at event 2"):
        verified(tmp_path, parts)


def test_a_removed_audit_event_breaks_its_chain(tmp_path, parts):
    place = next(n for n, part in enumerate(parts) if isinstance(part, Rows) and part.table == "audit_events")
    del parts[place].rows[0]

    with pytest.raises(ArchiveDamaged, match="audit chain main is broken at event 1"):
        verified(tmp_path, parts)


def test_what_follows_the_end_is_refused(tmp_path, parts):
    with pytest.raises(ArchiveDamaged, match="follows its end"):
        verified(tmp_path, parts, tail=b"x")


def test_a_backup_of_a_newer_release_names_it(tmp_path, parts):
    header = parts[0]
    newer = AppliedFile(name="9999_later", checksum="0")
    later = replacing(release="9.9.9", migrations=(*header.migrations, newer))(header)

    with pytest.raises(ArchiveTooNew, match=r"release 9\.9\.9"):
        verified(tmp_path, [later, *parts[1:]])


async def test_a_backup_of_an_older_release_is_restored_and_migrated(tmp_path, parts):
    first = {table.name: len(table.columns) for table in tables(1)}  # later migrations append columns
    older = [replacing(migrations=parts[0].migrations[:1], tables=tables(1))(parts[0])]
    for part in parts[1:]:
        rows = [row[: first[part.table]] for row in part.rows] if isinstance(part, Rows) else None
        older.append(part if rows is None else replacing(rows=rows)(part))

    assert await restored(tmp_path, older) == 0
    async with open_runtime(Settings(data_dir=str(tmp_path / "new"))) as rt:
        assert await rt.db.read(lambda tx: tx.all("SELECT erased_at FROM buyers")) == []


async def test_rows_that_the_database_refuses_leave_nothing_behind(tmp_path, parts, capsys):
    doubled = next(part for part in parts if isinstance(part, Rows) and part.table == "licenses")

    assert await restored(tmp_path, [*parts, doubled]) == 1
    said = capsys.readouterr().err
    assert (said.count("\n"), "unique constraint violated" in said) == (1, True)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("text", [b"", b"\0", b"\xff\xff\xff\xff", b"\0\0\0\x02{}", b"\0\0\0\x09{}", b"\0\0\0\x01\xc0"])
def test_bytes_that_are_no_archive_are_refused(text):
    with pytest.raises(ArchiveDamaged):
        list(read_archive(io.BytesIO(text)))


async def test_keys_that_change_while_the_snapshot_begins_are_read_again(tmp_path, monkeypatch):
    await make_stock(tmp_path / "data", licenses=1)
    settings = Settings(data_dir=str(tmp_path / "data"))
    real = backup._read_keys
    calls = []

    def read_keys(data):
        calls.append(data)
        return [KeyFile(name="before the rotation", content=b"")] if len(calls) == 1 else real(data)

    monkeypatch.setattr(backup, "_read_keys", read_keys)
    async with open_runtime(settings) as rt:
        await back_up(rt, settings.data, tmp_path / "a.age", TO)

    assert len(calls) == 4
    assert verify_backup(tmp_path / "a.age", [IDENTITY]).end.rows["licenses"] == 1
