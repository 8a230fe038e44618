"""Imports the rows of a CSV file in small transactions, so that a large file keeps nobody waiting; the same file again changes nothing.

In: the walk through a file, its report, undoing what is only tried. Out: what a row means (`import_orders`, `import_transactions`). A bad row
fails alone; with `all_or_nothing` a dry run comes first and nothing is written if it finds a bad one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from itertools import islice
from typing import IO, Final, Generic, TypeAlias, TypeVar

import msgspec

from licensesvc.domain.errors import DomainError, InvalidParameter, OrderConflict
from licensesvc.services.imports.csvfiles import Layout, Record, examine, records
from licensesvc.services.runtime import Runtime
from licensesvc.storage.port import ConstraintViolated, Tx

MAX_ROWS: Final = 100_000
"""Rows of one file."""
MAX_BYTES: Final = 32 * 1024 * 1024
"""Bytes of one file."""
BATCH: Final = 50
"""Rows of one transaction."""
MAX_LISTED: Final = 1_000
"""Bad rows that a report lists; the others are counted."""

R = TypeVar("R", bound=msgspec.Struct)
Receive: TypeAlias = Callable[[Tx, R], Awaitable[bool]]
"""Takes one row in a transaction, says whether it was new, and raises DomainError where it cannot be taken."""


class BadRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that cannot be taken; `row` counts behind the header, `line` lines of the file."""

    row: int
    line: int
    code: str
    problem: str


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a file: rows that were new, known already and bad, and whether the good ones are written."""

    rows: int
    created: int
    known: int
    bad: int
    bad_rows: list[BadRow]
    written: bool


class _Undo(Exception):
    """Rolls a transaction back that was only tried."""

    def __init__(self, created: int) -> None:
        self.created = created


class _Bad(Exception):
    """The row of a transaction that cannot be taken."""

    def __init__(self, row: BadRow) -> None:
        self.row = row


def required_columns(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    """The columns that a file of these rows must have."""
    return tuple(field.name for field in msgspec.structs.fields(kind) if field.required)


async def import_rows(
    rt: Runtime,
    file: IO[bytes],
    kind: type[R],
    receiving: Callable[[bool], Receive[R]],
    *,
    dry_run: bool,
    all_or_nothing: bool,
) -> ImportReport:
    """Take the rows of a CSV file whose columns are the fields of `kind`.

    `receiving` gives the function that takes a row, anew for each walk; it is told whether the walk leaves nothing behind.
    Raises InvalidParameter when the file cannot be read to its end; then nothing is written.
    """
    layout = await asyncio.to_thread(
        examine, file, required=required_columns(kind), known=kind.__struct_fields__, max_rows=MAX_ROWS
    )
    if dry_run or all_or_nothing:
        tried = await _Walk(rt, kind, receiving(True), undo=True).run(file, layout)
        if dry_run or tried.bad:
            return tried
    return await _Walk(rt, kind, receiving(False), undo=False).run(file, layout)


class _Walk(Generic[R]):
    """One walk through a file."""

    def __init__(self, rt: Runtime, kind: type[R], receive: Receive[R], *, undo: bool) -> None:
        self._rt = rt
        self._kind = kind
        self._receive = receive
        self._undo = undo
        self._created = 0
        self._known = 0
        self._bad: list[BadRow] = []
        self._bad_count = 0

    async def run(self, file: IO[bytes], layout: Layout) -> ImportReport:
        with closing(records(file, layout)) as rows:
            while batch := list(islice(rows, BATCH)):
                await self._batch([row for record in batch if (row := self._parsed(record)) is not None])
        return ImportReport(
            rows=layout.rows,
            created=self._created,
            known=self._known,
            bad=self._bad_count,
            bad_rows=sorted(self._bad, key=lambda bad: bad.row),
            written=not self._undo,
        )

    def _parsed(self, record: Record) -> tuple[Record, R] | None:
        try:
            if record.problem is not None:
                raise InvalidParameter(record.problem)
            row = msgspec.convert(record.cells, self._kind, strict=False)
        except msgspec.ValidationError as error:
            self._refuse(BadRow(row=record.row, line=record.line, code="INVALID_BODY", problem=str(error)))
        except DomainError as error:
            self._refuse(_bad(record, error))
        else:
            return record, row
        return None

    def _refuse(self, row: BadRow) -> None:
        self._bad_count += 1
        if len(self._bad) < MAX_LISTED:
            self._bad.append(row)

    async def _batch(self, rows: Sequence[tuple[Record, R]]) -> None:
        """One transaction for all rows; if one of them is bad, one for each, so that only the bad one fails."""
        if not rows:
            return
        try:
            created = await self._transact(rows)
        except _Bad as bad:
            if len(rows) == 1:
                self._refuse(bad.row)
                return
            for row in rows:
                await self._batch([row])
            return
        self._created += created
        self._known += len(rows) - created

    async def _transact(self, rows: Sequence[tuple[Record, R]]) -> int:
        """Receive rows and say how many were new."""
        try:
            return await self._rt.db.write(lambda tx: self._receive_all(tx, rows))
        except _Undo as undone:
            return undone.created
        except ConstraintViolated as error:  # whichever row it was: alone it will say so
            raise _Bad(_bad(rows[0][0], OrderConflict(f"another record has this identity: {error.name}"))) from None

    async def _receive_all(self, tx: Tx, rows: Sequence[tuple[Record, R]]) -> int:
        created = 0
        for record, row in rows:
            try:
                created += await self._receive(tx, row)
            except DomainError as error:
                raise _Bad(_bad(record, error)) from None
        if self._undo:
            raise _Undo(created)
        return created


def _bad(record: Record, error: DomainError) -> BadRow:
    return BadRow(row=record.row, line=record.line, code=error.code, problem=error.message)
