"""`backup`: database, keys and proofs of one moment in one encrypted file, while the server runs and writes.

In: one consistent snapshot, read page by page, so memory stays bounded. Out: when backups are made (`scheduled_backups`).
"""

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import BinaryIO, Final

import msgspec
from pyrage.x25519 import Recipient

from licensesvc import __version__
from licensesvc.domain.instants import Instant
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.proof_store import proof_file
from licensesvc.services.upkeep.archive import KEY_FILES, AppliedFile, ArchiveWriter, Header, KeyFile, Proof, Rows
from licensesvc.signing.agefile import encrypting
from licensesvc.signing.privatefiles import LooseFile, creating_private, read_private
from licensesvc.storage.migrate import applied, known
from licensesvc.storage.port import Tx
from licensesvc.storage.tables import pages, tables

KEY_ATTEMPTS: Final = 5

Progress = Callable[[str, int], None]


class BackupImpossible(Exception):
    """Nothing was written; the text says why."""


class BackupFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds: every change acknowledged before `state_of` is in it (the RPO instant)."""

    file: str
    state_of: Instant
    rows: int
    proofs: int
    missing_proofs: tuple[str, ...]
    bytes: int
    seconds: float


class _KeysChanged(Exception):
    """The key files changed between reading them and taking the snapshot."""


def _quiet(_what: str, _done: int) -> None:
    """Report nothing."""


async def back_up(
    rt: Runtime, data: Path, target: Path, to: str | Sequence[Recipient], progress: Progress = _quiet
) -> BackupFigures:
    """Write a backup of the data directory to the new file `target`, for a pass phrase or for recipients.

    `progress` hears (kind, how many so far). Raises BackupImpossible, FileExistsError, OSError, StorageUnavailable;
    then no file is left.
    """
    if await asyncio.to_thread(target.exists):
        raise FileExistsError(f"{target} exists already: name a new file")
    began = monotonic()
    files = await _migrations(rt)
    with creating_private(target) as file:
        with encrypting(file, to) as sink:
            archive = ArchiveWriter(sink)
            state_of, proofs = await _database_and_keys(rt, data, files, archive, progress)
            missing = await _proofs(rt.proofs_dir, proofs, archive, progress)
            await asyncio.to_thread(archive.end)
        size = file.tell()
        await asyncio.to_thread(_to_disk, file)  # not at the end of the context: a slow disk would hold up the server
    return BackupFigures(
        file=str(target),
        state_of=state_of,
        rows=archive.rows.total(),
        proofs=archive.proofs,
        missing_proofs=missing,
        bytes=size,
        seconds=monotonic() - began,
    )


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


async def _migrations(rt: Runtime) -> tuple[AppliedFile, ...]:
    files = await applied(rt.db)
    if len(files) != len(known()):
        raise BackupImpossible("the database was migrated by another release: make the backup with that one")
    return tuple(AppliedFile(name=file.name, checksum=file.checksum) for file in files)


async def _database_and_keys(
    rt: Runtime, data: Path, files: tuple[AppliedFile, ...], archive: ArchiveWriter, progress: Progress
) -> tuple[Instant, list[str]]:
    """Write header, keys and rows; return the instant of the snapshot and the proofs that it names."""
    for _ in range(KEY_ATTEMPTS):
        keys = await asyncio.to_thread(_read_keys, data)
        header = Header(
            release=__version__,
            engine=rt.db.engine,
            state_of=rt.clock(),
            issuer=rt.issuer,
            migrations=files,
            tables=tables(len(files)),
        )
        with suppress(_KeysChanged):
            proofs = await rt.db.read(
                partial(_snapshot, data=data, header=header, keys=keys, archive=archive, progress=progress)
            )
            return header.state_of, proofs
    raise BackupImpossible("the keys are being changed: try again when that is over")


async def _snapshot(
    tx: Tx, *, data: Path, header: Header, keys: Sequence[KeyFile], archive: ArchiveWriter, progress: Progress
) -> list[str]:
    await tx.one("SELECT COUNT(*) AS files FROM schema_migrations")  # the snapshot begins
    if await tx.aside(_read_keys, data) != keys:
        # Keys from before may lack one that sealed a row of the snapshot, keys from after one that a rotation has removed.
        raise _KeysChanged
    for part in (header, *keys):
        await tx.aside(archive.write, part)
    for table in header.tables:
        async for page in pages(tx, table):
            await tx.aside(archive.write, Rows(table=table.name, rows=page))
            progress(table.name, archive.rows[table.name])
    return [row["sha256"] for row in await tx.all("SELECT DISTINCT sha256 FROM proofs ORDER BY sha256")]


def _read_keys(data: Path) -> list[KeyFile]:
    return [KeyFile(name=name, content=read_private(data / name)) for name in KEY_FILES]


async def _proofs(
    directory: Path, digests: Sequence[str], archive: ArchiveWriter, progress: Progress
) -> tuple[str, ...]:
    """Write the proofs and return those that are gone or damaged: a backup without them is better than none."""
    missing = []
    for digest in digests:
        if await asyncio.to_thread(_proof, directory, digest, archive):
            progress("proof files", archive.proofs)
        else:
            missing.append(digest)
    return tuple(missing)


def _proof(directory: Path, digest: str, archive: ArchiveWriter) -> bool:
    try:
        content = read_private(proof_file(directory, digest))
    except (OSError, LooseFile):
        return False
    if hashlib.sha256(content).hexdigest() != digest:
        return False
    archive.write(Proof(sha256=digest, content=content))
    return True
