"""What `doctor` looks at: one function for each subject, which yields what it found and, unless all is well, what to do."""

import asyncio
import importlib.metadata
import re
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

import httpx2
import msgspec
from cryptography.exceptions import InvalidSignature

from licensesvc.app import now, open_reader
from licensesvc.cli.errors import failure_of
from licensesvc.domain.connection import MARKETPLACE_HOSTS, Connection
from licensesvc.domain.instants import HOUR, SECOND, Instant
from licensesvc.services.supervision.proof_store import proof_file
from licensesvc.services.upkeep.housekeeping import backups
from licensesvc.services.upkeep.sealed_values import unopenable
from licensesvc.settings import FILE_NAME, Settings
from licensesvc.signing import keyset, vault
from licensesvc.signing.agefile import UnusableRecipient, recipient
from licensesvc.signing.privatefiles import LooseFile, private_directory, read_private
from licensesvc.storage import connections, documents
from licensesvc.storage.migrate import pending
from licensesvc.storage.port import Database, StorageError, Tx

FLOORS: Final = {
    "litestar": "2.25.0",
    "PyJWT": "2.15.1",
    "cryptography": "50.0.2",
    "h11": "0.16.0",
    "uvicorn": "0.51",
    "msgspec": "0.22",
    "aiosqlite": "0.22.1",
}
"""Lowest versions without a known fault that would matter here."""
CLOCK_LIMIT_S: Final = 3.0
SKEW_WARNING: Final = 10 * SECOND
SKEW_FAILURE: Final = 60 * SECOND
"""The marketplace's URL signatures live this long (milliseconds)."""
DISK_WARNING: Final = 2 * 1024**3
DISK_FAILURE: Final = 256 * 1024**2
_OTHERS: Final = 0o077
_SQLITE_SOUND: Final = (3, 51, 3)


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found; `advice` says what to do about it, empty when there is nothing to do."""

    check: str
    state: State
    found: str
    advice: str = ""


def _ok(check: str, found: str) -> Diagnosis:
    return Diagnosis(check=check, state=State.OK, found=found)


def _warning(check: str, found: str, advice: str) -> Diagnosis:
    return Diagnosis(check=check, state=State.WARNING, found=found, advice=advice)


def _failed(check: str, found: str, advice: str) -> Diagnosis:
    return Diagnosis(check=check, state=State.FAILED, found=found, advice=advice)


async def diagnose(settings: Settings) -> list[Diagnosis]:
    """Run every check; one that cannot be run is a failure of its own and stops none of the others."""
    found = [
        *_settings(settings),
        *_files(settings),
        *_signing(settings),
        *_disk(settings),
        *_libraries(),
        *_backups(settings),
    ]
    return [*found, *[finding async for finding in _database(settings)]]


def _settings(settings: Settings) -> Iterator[Diagnosis]:
    if not settings.public_url:
        yield _warning(
            "settings", "public_url is empty", "set it to the URL under which the marketplace reaches this server"
        )
    else:
        yield _ok("settings", f"issuer {settings.issuer}, node {settings.node}")


def _backups(settings: Settings) -> Iterator[Diagnosis]:
    if not settings.backup_dir:
        yield _warning(
            "backups", "the server makes none", "set backup_dir and backup_recipient, or run `licensesvc backup` daily"
        )
        return
    try:
        recipient(settings.backup_recipient)
        made = backups(settings)
    except (UnusableRecipient, OSError) as error:
        yield _failed("backups", str(error), "correct backup_recipient and backup_dir")
        return
    limit = 2 * settings.backup_every_hours * HOUR
    if not made or now() - made[-1][0] > limit:
        found = f"the newest is {made[-1][1].name}" if made else f"none in {settings.backup_dir}"
        yield _failed("backups", found, "look for backup_failed in the log; run `licensesvc backup` meanwhile")
    else:
        yield _ok("backups", f"the newest of {len(made)} is {made[-1][1].name}")


def _files(settings: Settings) -> Iterator[Diagnosis]:
    if not settings.data.is_dir():
        yield _failed("files", f"{settings.data} is no directory", "run `licensesvc init`, or restore a backup")
        return
    private = [settings.signing_keys_file, settings.vault_keys_file]
    private += [file for file in (settings.data / FILE_NAME, settings.database_file) if file.exists()]
    loose = False
    for path in (settings.data, *private):
        try:
            _look(path)
        except LooseFile as error:
            loose = True
            problem, _, repair = str(error).partition("; ")
            yield _failed("files", problem, repair)
        except OSError as error:
            loose = True
            yield _failed("files", str(error), "put it back, or restore a backup")
    if not loose:
        yield _ok("files", f"{settings.data}: nobody else may read the keys and the database")


def _look(path: Path) -> None:
    if path.is_dir():
        private_directory(path)
    elif path.suffix == ".json":
        read_private(path)
    elif path.stat().st_mode & _OTHERS:
        raise LooseFile(path, "others may read or write it", "run: chmod 600")


def _signing(settings: Settings) -> Iterator[Diagnosis]:
    try:
        keys = keyset.load(settings.signing_keys_file)
        sealing = vault.load(settings.vault_keys_file)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        yield _failed("keys", failure_of(error).message, "put the key file back, or restore a backup")
        return
    probe = b"doctor"
    public = keys.active.private.public_key()
    try:
        public.verify(keys.active.private.sign(probe), sealing.open(sealing.seal(probe, "doctor"), "doctor"))
    except (InvalidSignature, vault.CannotOpen):
        yield _failed(
            "keys", "a key does not undo what it did", "replace this machine: its arithmetic cannot be trusted"
        )
    else:
        yield _ok("keys", f"{keys.active.kid} signs and verifies, the vault seals and opens")


def _disk(settings: Settings) -> Iterator[Diagnosis]:
    place = settings.data if settings.data.is_dir() else Path()
    free = shutil.disk_usage(place).free
    text = f"{free // 1024**2} MiB free"
    if free < DISK_FAILURE:
        yield _failed("disk", text, "make room: `licensesvc prune`, older backups elsewhere, a larger disk")
    elif free < DISK_WARNING:
        yield _warning("disk", text, "make room soon: `licensesvc prune`, older backups elsewhere")
    else:
        yield _ok("disk", text)


def _libraries() -> Iterator[Diagnosis]:
    old = []
    for name, floor in FLOORS.items():
        version = importlib.metadata.version(name)
        if _numbers(version) < _numbers(floor):
            old.append(f"{name} {version} < {floor}")
    if old:
        yield _failed("libraries", ", ".join(old), "install the versions of requirements/runtime.lock")
    else:
        yield _ok("libraries", f"{len(FLOORS)} libraries at or above their lowest sound version")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


async def _database(settings: Settings) -> AsyncIterator[Diagnosis]:
    if not settings.database_url and not settings.database_file.exists():
        yield _failed("database", "there is none", "run `licensesvc init`, or restore a backup")
        return
    try:
        db = await open_reader(settings)
    except StorageError as error:
        yield _failed("database", str(error), "start the database, or correct database_url")
        return
    looks: tuple[Callable[[Settings, Database], Awaitable[list[Diagnosis]]], ...] = (
        _schema, _engine, _sealed, _documents, _proofs, _clocks,
    )  # fmt: skip
    try:
        for look in looks:
            try:
                found = await look(settings, db)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
                yield _failed(
                    "database", failure_of(error).message, "run `licensesvc audit`; restore a backup if it is damaged"
                )
                return  # what cannot be read once is not asked again
            for finding in found:
                yield finding
    finally:
        await db.close()


async def _schema(_settings: Settings, db: Database) -> list[Diagnosis]:
    missing = await pending(db)
    if missing:
        return [_failed("schema", f"lacks {', '.join(missing)}", "stop the server and run `licensesvc migrate`")]
    return [_ok("schema", "every migration is applied")]


async def _engine(_settings: Settings, db: Database) -> list[Diagnosis]:
    if db.engine == "postgres":
        version = await db.read(lambda tx: _first(tx, "SELECT current_setting('server_version') AS it"))
        commit = await db.read(lambda tx: _first(tx, "SELECT current_setting('synchronous_commit') AS it"))
        if commit == "off":
            return [
                _failed("engine", f"PostgreSQL {version}, synchronous_commit is off", "set synchronous_commit to on")
            ]
        return [_ok("engine", f"PostgreSQL {version}, synchronous_commit {commit}")]
    journal = await db.read(lambda tx: _first(tx, "SELECT journal_mode AS it FROM pragma_journal_mode"))
    damage = await db.read(lambda tx: _first(tx, "SELECT quick_check AS it FROM pragma_quick_check(1)"))
    text = f"SQLite {sqlite3.sqlite_version}, journal {journal}"
    if damage != "ok":
        return [_failed("engine", f"{text}; damaged: {damage}", "stop the server, keep a copy, restore a backup")]
    if journal != "wal":
        return [_failed("engine", text, "start the server once: it switches the journal to wal")]
    if sqlite3.sqlite_version_info < _SQLITE_SOUND:
        return [
            _ok("engine", f"{text}; only the server writes and checkpoints, which avoids the fault mended in 3.51.3")
        ]
    return [_ok("engine", text)]


async def _first(tx: Tx, sql: str) -> str:
    row = await tx.one(sql)
    assert row is not None
    return str(row["it"])


async def _sealed(settings: Settings, db: Database) -> list[Diagnosis]:
    sealing = vault.load(settings.vault_keys_file)
    failed = await db.read(lambda tx: unopenable(tx, sealing))
    if failed:
        return [
            _failed(
                "old data", f"does not open: {', '.join(failed)}", "put back the vault-keys.json that belongs to it"
            )
        ]
    return [_ok("old data", "a sample under every vault key opens")]


async def _documents(settings: Settings, db: Database) -> list[Diagnosis]:
    keys = keyset.load(settings.signing_keys_file)
    kids = await db.read(documents.kids)
    foreign = [kid for kid in kids if keys.find(kid) is None]
    if foreign:
        return [
            _failed(
                "documents",
                f"signed by unknown keys: {', '.join(foreign)}",
                "put back the signing-keys.json that holds them",
            )
        ]
    return [_ok("documents", f"the keys of all signed licenses are here ({len(kids)})")]


async def _proofs(settings: Settings, db: Database) -> list[Diagnosis]:
    missing = await db.read(lambda tx: _missing_proofs(tx, settings.proofs_dir))
    if missing:
        return [_failed("proofs", f"{missing} files are gone", "bring the proofs directory back from a backup")]
    return [_ok("proofs", "every proof is there")]


async def _missing_proofs(tx: Tx, directory: Path) -> int:
    digests = [row["sha256"] for row in await tx.all("SELECT DISTINCT sha256 FROM proofs")]
    return await tx.aside(lambda: sum(not proof_file(directory, digest).exists() for digest in digests))


async def _clocks(_settings: Settings, db: Database) -> list[Diagnosis]:
    stored = await db.read(lambda tx: connections.page(tx, after=0, limit=100))
    bases = dict.fromkeys(base_url(one.connection) for one in stored)
    if not bases:
        return [_ok("clock", "no connection to compare with")]
    return list(await asyncio.gather(*(_clock(base) for base in bases)))


def base_url(connection: Connection) -> str:
    """Where the marketplace of a connection is asked first."""
    return connection.base_url or f"https://{MARKETPLACE_HOSTS[connection.site][0]}"


async def _clock(base: str) -> Diagnosis:
    try:
        async with httpx2.AsyncClient(timeout=CLOCK_LIMIT_S, trust_env=False) as http, asyncio.timeout(CLOCK_LIMIT_S):
            before = now()
            answer = await http.head(base)
            after = now()
        theirs = int(parsedate_to_datetime(answer.headers["date"]).timestamp()) * SECOND
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, OSError, KeyError, ValueError) as error:
        text = f"{base} gives no time ({type(error).__name__})"
        return _warning("clock", text, "allow this connection, or compare with another clock")
    return judge_clock(base, theirs, before, after)


def judge_clock(base: str, theirs: Instant, before: Instant, after: Instant) -> Diagnosis:
    """Judge the difference to a `Date` header, which has whole seconds, asked for between two instants of ours."""
    ahead, behind = before - (theirs + SECOND), theirs - after
    skew = max(ahead, behind, 0)
    text = (
        f"{skew / SECOND:.1f} s {'ahead of' if ahead > behind else 'behind'} {base}" if skew else f"agrees with {base}"
    )
    if skew > SKEW_FAILURE:
        return _failed("clock", text, "set the clock (NTP): signatures of the marketplace are refused")
    if skew > SKEW_WARNING:
        return _warning("clock", text, "set the clock (NTP)")
    return _ok("clock", text)
