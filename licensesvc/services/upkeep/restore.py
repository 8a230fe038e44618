"""`restore`: a backup back into an empty database, on either engine. Everything is verified before anything is written.

In: verifying the whole file, filling the tables, writing keys and proofs. Out: where they come to lie, and opening the database.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.instants import Instant
from licensesvc.services.supervision.proof_store import put_proof
from licensesvc.services.upkeep.archive import (
    VAULT_KEYS,
    ArchiveDamaged,
    End,
    Header,
    KeyFile,
    Part,
    Proof,
    Rows,
    read_archive,
)
from licensesvc.signing import keyset, vault
from licensesvc.signing.agefile import CannotDecrypt, Unlock, decrypting
from licensesvc.signing.keyset import KeysetDamaged
from licensesvc.signing.privatefiles import create_private
from licensesvc.signing.vault import VaultDamaged
from licensesvc.storage import audit
from licensesvc.storage.migrate import migrate
from licensesvc.storage.port import Database, Tx
from licensesvc.storage.tables import continue_ids, fill, first_filled, tables

Progress = Callable[[str, int], None]


class NotEmpty(Exception):
    """The database holds data, which a restore never overwrites; one line."""


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that holds what it promises."""

    header: Header
    end: End

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(self.end.rows.values())


def verify_backup(path: Path, unlock: Unlock) -> Verified:
    """Read a backup to its end. Raises CannotDecrypt, ArchiveDamaged, ArchiveTooNew, OSError."""
    header, end = None, None
    with _parts(path, unlock) as parts:
        for part in parts:
            match part:
                case Header():
                    header = part
                case KeyFile():
                    _check_keys(part)
                case End():
                    end = part
    assert header is not None
    assert end is not None
    return Verified(header=header, end=end)


def _check_keys(part: KeyFile) -> None:
    decode = vault.decode if part.name == VAULT_KEYS else keyset.decode
    try:
        decode(part.content, Path(part.name))
    except (KeysetDamaged, VaultDamaged) as damaged:
        raise ArchiveDamaged(f"its {part.name} is not usable") from damaged


async def load_backup(
    db: Database, path: Path, unlock: Unlock, verified: Verified, *, data: Path, now: Instant, progress: Progress
) -> None:
    """Fill an empty database, and `data` with keys and proofs, from a backup that was verified before.

    Raises NotEmpty, CannotDecrypt when the file has changed since, and what the database raises; then the tables stay empty.
    """
    count = len(verified.header.migrations)
    await migrate(db, now=now, last=count)
    load = partial(_load, path=path, unlock=unlock, verified=verified, data=data, now=now, progress=progress)
    await db.write(load)
    await migrate(db, now=now)


async def _load(
    tx: Tx, *, path: Path, unlock: Unlock, verified: Verified, data: Path, now: Instant, progress: Progress
) -> None:
    known = {table.name: table for table in tables(len(verified.header.migrations))}
    if filled := await first_filled(tx, tuple(known.values())):
        raise NotEmpty(f"the database is not empty (table {filled}): name an empty one")
    done = dict.fromkeys(known, 0)
    end = None
    with _parts(path, unlock) as parts:
        while (part := await tx.aside(next, parts, None)) is not None:
            match part:
                case Rows():
                    await fill(tx, known[part.table], part.rows)
                    done[part.table] += len(part.rows)
                    progress(part.table, done[part.table])
                case KeyFile() | Proof():
                    await tx.aside(_put, data, part)
                case End():
                    end = part
    if end != verified.end:
        raise CannotDecrypt("it has changed since it was verified")
    for table in known.values():
        await continue_ids(tx, table)
    detail: dict[str, str | int | None] = {"state_of": verified.header.state_of, "release": verified.header.release}
    await audit.append(
        tx, [AuditEvent(at=now, actor="cli", kind="database.restored", subject="database", detail=detail)]
    )


def _put(data: Path, part: KeyFile | Proof) -> None:
    if isinstance(part, KeyFile):
        create_private(data / part.name, part.content)
    else:
        put_proof(data / "proofs", part.content)


@contextmanager
def _parts(path: Path, unlock: Unlock) -> Iterator[Iterator[Part]]:
    with path.open("rb") as file, decrypting(file, unlock) as source:
        yield read_archive(source)
