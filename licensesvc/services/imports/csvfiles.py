"""CSV files as spreadsheets write and read them: UTF-8 with or without BOM, GB18030, and cells that are no formulas.

In: reading a file row by row in bounded memory, making cells harmless. Out: what the columns mean.
"""

import codecs
import csv
import io
import re
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

import msgspec

from licensesvc.domain.errors import InvalidParameter

if TYPE_CHECKING:
    from _csv import Reader

MEDIA_TYPE: Final = "text/csv"
BOM: Final = "\ufeff"
"""Tells spreadsheets that the file is UTF-8."""
MAX_CELL: Final = 4_096
"""Characters."""

_ENCODINGS: Final = ("utf-8-sig", "gb18030")
_CHUNK: Final = 65_536
_FORMULA: Final = re.compile(r"[=+\-@\t\r]")
_DEFUSED: Final = re.compile(r"'[=+\-@\t\r]")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One row: its number behind the header, the line of the file where it begins, and its cells that are not empty.

    `problem` says why the cells cannot be taken.
    """

    row: int
    line: int
    cells: dict[str, str]
    problem: str | None = None

    def __repr__(self) -> str:
        return f"Record({self.row})"


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """How to read a file that was looked through once."""

    encoding: str
    columns: tuple[str, ...]
    rows: int


def examine(file: IO[bytes], *, required: Collection[str], known: Collection[str], max_rows: int) -> Layout:
    """Look a whole file through: raises InvalidParameter when it cannot be read to its end, or its header cannot be taken."""
    encoding = _encoding(file)
    with _reading(file, encoding) as reader:
        try:
            columns = tuple(cell.strip().lower() for cell in next(reader, []))
            _check_header(columns, required, known)
            rows = sum(1 for cells in reader if any(cells))
        except csv.Error as error:
            raise InvalidParameter(f"line {reader.line_num}: {error}") from None
    if rows > max_rows:
        raise InvalidParameter(f"the file has {rows} rows; at most {max_rows} are taken at once")
    return Layout(encoding=encoding, columns=columns, rows=rows)


def records(file: IO[bytes], layout: Layout) -> Generator[Record, None, None]:
    """The rows of an examined file; empty ones are skipped."""
    with _reading(file, layout.encoding) as reader:
        next(reader)
        row = 0
        line = reader.line_num + 1
        for cells in reader:
            if any(cells):
                row += 1
                yield _record(row, line, layout.columns, cells)
            line = reader.line_num + 1


def lines(rows: Iterable[Sequence[object]]) -> str:
    """Rows as text: None is empty, and no cell starts a formula when a spreadsheet opens it."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows([_defused(cell) for cell in row] for row in rows)
    return text.getvalue()


def _record(row: int, line: int, columns: Sequence[str], cells: Sequence[str]) -> Record:
    problem = None
    if len(cells) != len(columns):
        problem = f"the row has {len(cells)} cells, the header {len(columns)}"
    found = {}
    for column, cell in zip(columns, cells, strict=False):
        text = cell[1:] if _DEFUSED.match(cell) else cell.strip()
        if _CONTROL.search(text) or len(text) > MAX_CELL:
            problem = f"{column} holds a control character, or more than {MAX_CELL} characters"
        elif text:
            found[column] = text
    return Record(row=row, line=line, cells=found, problem=problem)


def _defused(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return f"'{text}" if _FORMULA.match(text) else text


def _encoding(file: IO[bytes]) -> str:
    for encoding in _ENCODINGS:
        file.seek(0)
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            while chunk := file.read(_CHUNK):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return encoding
    raise InvalidParameter("the file is neither UTF-8 nor GB18030")


@contextmanager
def _reading(file: IO[bytes], encoding: str) -> Iterator["Reader"]:
    file.seek(0)
    text = io.TextIOWrapper(file, encoding, newline="")
    try:
        yield csv.reader(text, strict=True)
    finally:
        text.detach()  # else the file would be closed with it


def _check_header(columns: Sequence[str], required: Collection[str], known: Collection[str]) -> None:
    for column in columns:
        if column not in known:
            hint = "; columns are separated by commas" if ";" in column or "\t" in column else ""
            raise InvalidParameter(f"line 1: there is no column {column[:40]!r}{hint}")
    if len(set(columns)) < len(columns):
        raise InvalidParameter("line 1: a column occurs twice")
    if missing := [column for column in required if column not in columns]:
        raise InvalidParameter(f"line 1: the column {missing[0]} is missing")
