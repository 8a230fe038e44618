"""Imports from a CSV file what the marketplace shows of supervision cases; the same file again changes nothing.

All rows of one case are one transaction, in the order of the file. A bad row fails alone; with `all_or_nothing` a dry run comes first.
"""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from typing import IO, Annotated, Final

import msgspec

from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import DomainError, InvalidParameter, NotFound
from licensesvc.domain.instants import parse_rfc3339
from licensesvc.domain.order import default_line_id
from licensesvc.domain.supervision import Event, Source
from licensesvc.services.catalog.manage_catalog import MarketplaceId
from licensesvc.services.imports.csvfiles import Record, examine, records
from licensesvc.services.imports.import_rows import MAX_LISTED, BadRow
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.confirm_supervision import Confirmed, confirm_locked
from licensesvc.services.supervision.record_supervision import Reason
from licensesvc.storage import connections, licenses, orders, supervision
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import StoredCase

MAX_ROWS: Final = 10_000
"""Rows of one file."""
MAX_BYTES: Final = 4 * 1024 * 1024
"""Bytes of one file."""


class ConfirmationRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The columns of a file; `time` is RFC 3339, and when the marketplace says that it happened."""

    order_id: MarketplaceId
    event: Event
    time: Annotated[str, msgspec.Meta(max_length=40)]
    line_id: MarketplaceId | None = None
    reason: Reason | None = None

    @property
    def line(self) -> str:
        """The marketplace's id of the line."""
        return self.line_id or default_line_id(self.order_id)


COLUMNS: Final = ConfirmationRow.__struct_fields__
REQUIRED: Final = tuple(field.name for field in msgspec.structs.fields(ConfirmationRow) if field.required)


class ConfirmationReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a file: rows that were news, that confirmed what was done here, that were known and that are bad."""

    rows: int
    recorded: int
    confirmed: int
    known: int
    bad: int
    bad_rows: list[BadRow]
    written: bool


class _Undo(Exception):
    """Rolls a transaction back that was only tried."""

    def __init__(self, outcomes: list[Confirmed]) -> None:
        self.outcomes = outcomes


class _Bad(Exception):
    """The row of a transaction that cannot be taken."""

    def __init__(self, place: int, error: DomainError) -> None:
        self.place = place
        self.error = error


async def import_confirmations(
    rt: Runtime, file: IO[bytes], connection_id: str, *, by: str, dry_run: bool, all_or_nothing: bool
) -> ConfirmationReport:
    """Take the rows of a CSV file as what the marketplace shows of a connection's cases.

    Raises InvalidParameter when there is no such connection, or the file cannot be read to its end; then nothing is written.
    """
    stored = await rt.db.read(lambda tx: connections.by_public_id(tx, connection_id))
    if stored is None:
        raise InvalidParameter(f"there is no connection {connection_id}")
    layout = await asyncio.to_thread(examine, file, required=REQUIRED, known=COLUMNS, max_rows=MAX_ROWS)
    with closing(records(file, layout)) as rows:
        taken = list(rows)
    if dry_run or all_or_nothing:
        tried = await _Pass(rt, stored.connection, by=by, undo=True).run(taken)
        if dry_run or tried.bad:
            return tried
    return await _Pass(rt, stored.connection, by=by, undo=False).run(taken)


class _Pass:
    """One walk through a file."""

    def __init__(self, rt: Runtime, connection: Connection, *, by: str, undo: bool) -> None:
        self._rt = rt
        self._connection = connection
        self._by = by
        self._undo = undo
        self._counts = dict.fromkeys(Confirmed, 0)
        self._bad: list[BadRow] = []

    async def run(self, rows: Sequence[Record]) -> ConfirmationReport:
        by_case: dict[tuple[str, str], list[tuple[Record, ConfirmationRow]]] = {}
        for record in rows:
            if (row := self._parsed(record)) is not None:
                by_case.setdefault((row.order_id, row.line), []).append((record, row))
        for group in by_case.values():
            await self._group(group)
        bad = sorted(self._bad, key=lambda row: row.row)
        return ConfirmationReport(
            rows=len(rows),
            recorded=self._counts[Confirmed.RECORDED],
            confirmed=self._counts[Confirmed.CONFIRMED],
            known=self._counts[Confirmed.KNOWN],
            bad=len(bad),
            bad_rows=bad[:MAX_LISTED],
            written=not self._undo,
        )

    def _parsed(self, record: Record) -> ConfirmationRow | None:
        try:
            if record.problem is not None:
                raise InvalidParameter(record.problem)
            row = msgspec.convert(record.cells, ConfirmationRow, strict=False)
            parse_rfc3339(row.time)
        except msgspec.ValidationError as error:
            self._bad.append(BadRow(row=record.row, line=record.line, code="INVALID_BODY", problem=str(error)))
        except DomainError as error:
            self._refuse(record, error)
        else:
            return row
        return None

    def _refuse(self, record: Record, error: DomainError) -> None:
        self._bad.append(BadRow(row=record.row, line=record.line, code=error.code, problem=error.message))

    async def _group(self, group: list[tuple[Record, ConfirmationRow]]) -> None:
        """One transaction for all rows of a case; without the bad ones, if there are any."""
        while group:
            try:
                outcomes = await self._transact([row for _, row in group])
            except _Bad as bad:
                record, _ = group.pop(bad.place)
                self._refuse(record, bad.error)
                continue
            for outcome in outcomes:
                self._counts[outcome] += 1
            return

    async def _transact(self, rows: Sequence[ConfirmationRow]) -> list[Confirmed]:
        try:
            return await self._rt.db.write(lambda tx: self._confirm_all(tx, rows))
        except _Undo as undone:
            return undone.outcomes

    async def _confirm_all(self, tx: Tx, rows: Sequence[ConfirmationRow]) -> list[Confirmed]:
        outcomes: list[Confirmed] = []
        try:
            case = await self._case(tx, rows[0])
            for row in rows:
                outcome = await confirm_locked(
                    tx,
                    self._rt,
                    case,
                    row.event,
                    at=parse_rfc3339(row.time),
                    reason=row.reason,
                    by=self._by,
                    source=Source.IMPORT,
                )
                case = outcome.case
                outcomes.append(outcome.confirmed)
        except DomainError as error:
            raise _Bad(len(outcomes), error) from None
        if self._undo:
            raise _Undo(outcomes)
        return outcomes

    async def _case(self, tx: Tx, row: ConfirmationRow) -> StoredCase:
        """The case of the row's line, locked behind order and license. Raises NotFound."""
        order = await orders.find(tx, self._connection.id, row.order_id)
        line = await orders.find_line(tx, order.id, row.line) if order else None
        if line is None:
            raise NotFound("there is no such order line")
        await licenses.by_line(tx, line.id, lock=True)
        case = (await supervision.of_lines(tx, [line.id])).get(line.id)
        if case is None:
            raise NotFound("the order line is not supervised")
        return case
