"""The form of a backup inside its encryption: a sequence of parts, the same for both engines (ADR 10).

In: the parts, writing them, reading them back with every promise of the form checked. Out: where they come from and go to.

A part is its length (4 bytes, big-endian) and MessagePack: first the header, then the key files, then the rows of every table in the
order of the header, each by primary key, then the proofs, then the end with counts and the SHA-256 of everything before it.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, Literal, TypeAlias

import msgspec

from licensesvc.domain.audit import AuditBroken, AuditEvent, AuditRow, ChainHead, verify_chain
from licensesvc.domain.instants import Instant
from licensesvc.storage.migrate import known
from licensesvc.storage.port import Engine
from licensesvc.storage.tables import Table, tables

MAX_PART: Final = 64 * 1024 * 1024
"""Bytes of the longest part; a page of the longest rows has less than half of it."""
SIGNING_KEYS: Final = "signing-keys.json"
VAULT_KEYS: Final = "vault-keys.json"
KEY_FILES: Final = (SIGNING_KEYS, VAULT_KEYS)

_LENGTH: Final = 4
_VALUES: Final = frozenset({int, str, bytes, type(None)})
_AUDIT: Final = "audit_events"


class ArchiveDamaged(Exception):
    """The contents of a backup contradict themselves; one line."""


class ArchiveTooNew(Exception):
    """The backup was made by a release whose database this one does not know; one line."""


class AppliedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A migration that the database had."""

    name: str
    checksum: str


class Header(msgspec.Struct, frozen=True, kw_only=True, tag="header"):
    """What was saved: every change acknowledged before `state_of`, by the named release."""

    format: Literal[1] = 1
    release: str
    engine: Engine
    state_of: Instant
    issuer: str
    migrations: tuple[AppliedFile, ...]
    tables: tuple[Table, ...]


class KeyFile(msgspec.Struct, frozen=True, kw_only=True, tag="key-file"):
    """A key file, whole."""

    name: str
    content: bytes

    def __repr__(self) -> str:
        return f"KeyFile({self.name!r})"


class Rows(msgspec.Struct, frozen=True, kw_only=True, tag="rows"):
    """Some rows of a table, their values in the order of its columns."""

    table: str
    rows: list[list[Any]]

    def __repr__(self) -> str:
        return f"Rows({self.table!r}, {len(self.rows)})"


class Proof(msgspec.Struct, frozen=True, kw_only=True, tag="proof"):
    """A delivery proof, whole."""

    sha256: str
    content: bytes

    def __repr__(self) -> str:
        return f"Proof({self.sha256!r})"


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """How many rows each table has, how many proofs there are, and the SHA-256 of all parts before."""

    rows: dict[str, int]
    proofs: int
    sha256: bytes


Part: TypeAlias = Header | KeyFile | Rows | Proof | End

_encode = msgspec.msgpack.Encoder().encode
_decoder: Final[msgspec.msgpack.Decoder[Part]] = msgspec.msgpack.Decoder(Part)


class ArchiveWriter:
    """Writes parts and counts them."""

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._digest = hashlib.sha256()
        self.rows: Counter[str] = Counter()
        self.proofs = 0

    def write(self, part: Header | KeyFile | Rows | Proof) -> None:
        """Write one part; blocks as long as the sink does."""
        if isinstance(part, Rows):
            self.rows[part.table] += len(part.rows)
        elif isinstance(part, Proof):
            self.proofs += 1
        encoded = _frame(part)
        self._digest.update(encoded)
        self._sink.write(encoded)

    def end(self) -> None:
        """Write the end."""
        self._sink.write(_frame(End(rows=dict(self.rows), proofs=self.proofs, sha256=self._digest.digest())))


def _frame(part: Part) -> bytes:
    encoded = _encode(part)
    return len(encoded).to_bytes(_LENGTH, "big") + encoded


def read_archive(source: BinaryIO) -> Iterator[Part]:
    """All parts up to the end, each checked before it is given out: form, order, schema, checksums, audit chains.

    Raises ArchiveDamaged and ArchiveTooNew. The counts and the checksum of the whole are proven when the last part has come.
    """
    check = _Check()
    while True:
        encoded = _read(source)
        try:
            part = _decoder.decode(encoded[_LENGTH:])
        except msgspec.MsgspecError as error:
            raise ArchiveDamaged(f"a part is not readable ({error})") from None
        check.take(part, encoded)
        yield part
        if isinstance(part, End):
            if source.read(1):
                raise ArchiveDamaged("something follows its end")
            return


def _read(source: BinaryIO) -> bytes:
    head = source.read(_LENGTH)
    size = int.from_bytes(head, "big")
    if len(head) < _LENGTH or size > MAX_PART:
        raise ArchiveDamaged("it ends too early, or is no backup of this program")
    body = source.read(size)
    if len(body) < size:
        raise ArchiveDamaged("it ends too early")
    return head + body


class _Check:
    """Follows the parts and raises at the first that does not fit."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._header: Header | None = None
        self._files: list[str] = []
        self._rows: Counter[str] = Counter()
        self._proofs = 0
        self._heads: dict[str, ChainHead | None] = {}

    def take(self, part: Part, encoded: bytes) -> None:
        if (self._header is None) != isinstance(part, Header):
            raise ArchiveDamaged("its header is missing or stands twice")
        match part:
            case Header():
                self._header = part
                _check_schema(part)
            case KeyFile():
                if part.name not in KEY_FILES:
                    raise ArchiveDamaged("it holds a key file of another name")
                self._files.append(part.name)
            case Rows():
                self._check_rows(part)
            case Proof():
                self._proofs += 1
                if hashlib.sha256(part.content).hexdigest() != part.sha256:
                    raise ArchiveDamaged(f"proof {part.sha256} has other contents")
            case End():
                self._check_end(part)
        self._digest.update(encoded)

    def _check_rows(self, part: Rows) -> None:
        assert self._header is not None
        table = next((table for table in self._header.tables if table.name == part.table), None)
        if table is None or any(
            len(row) != len(table.columns) or not {type(value) for value in row} <= _VALUES for row in part.rows
        ):
            raise ArchiveDamaged(f"rows do not fit the table {part.table}")
        self._rows[part.table] += len(part.rows)
        if part.table == _AUDIT:
            self._check_audit([dict(zip(table.columns, row, strict=True)) for row in part.rows])

    def _check_audit(self, rows: list[dict[str, Any]]) -> None:
        try:
            for row in rows:
                event = AuditRow(
                    chain=row["chain"],
                    seq=row["seq"],
                    event=msgspec.convert({**row, "detail": msgspec.json.decode(str(row["detail"]))}, AuditEvent),
                    hash=row["hash"],
                )
                self._heads[event.chain] = verify_chain([event], after=self._heads.get(event.chain))
        except AuditBroken as broken:
            raise ArchiveDamaged(str(broken)) from None
        except msgspec.MsgspecError:
            raise ArchiveDamaged("an audit event is not readable") from None

    def _check_end(self, part: End) -> None:
        if self._files != list(KEY_FILES):
            raise ArchiveDamaged("its key files are not all there")
        if part.rows != dict(self._rows) or part.proofs != self._proofs or part.sha256 != self._digest.digest():
            raise ArchiveDamaged("its counts or its checksum do not fit its contents")


def _check_schema(header: Header) -> None:
    files = [AppliedFile(name=file.name, checksum=file.checksum) for file in known()]
    count = len(header.migrations)
    if count > len(files):
        raise ArchiveTooNew(
            f"release {header.release} made it, after migration {header.migrations[-1].name}: restore it with that release or a newer one"
        )
    if list(header.migrations) != files[:count]:
        raise ArchiveDamaged(f"its migrations are not those of this release; release {header.release} made it")
    if header.tables != tables(count):
        raise ArchiveDamaged("its tables are not those that its migrations make")
