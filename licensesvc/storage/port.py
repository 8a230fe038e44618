"""The port between the use-cases and a database: `Tx`, `Database`, `Verb` and the errors both engines raise.

In: shapes only, no behaviour. Out: how an engine keeps these promises (`sqlite`, `postgres`, `writer`).

SQL is literal text for both engines (architecture §5). What differs between them hides behind four marks, rewritten once per text:

=====================  =============================  ========================================
written                PostgreSQL                     SQLite
=====================  =============================  ========================================
``$1``                 ``$1``                         ``?1``
``IN @list($1)``       ``= ANY($1::text[])``          ``IN (SELECT value FROM json_each(?1))``
``IN @ints($1)``       ``= ANY($1::bigint[])``        ``IN (SELECT value FROM json_each(?1))``
``@lock(a, b)``        ``FOR NO KEY UPDATE OF a, b``  nothing: there is one writer
=====================  =============================  ========================================

A lock names every joined table whose columns a decision uses: after waiting for a lock PostgreSQL reads only the locked rows anew. Locks are
taken in one order, or two processes wait for each other: order, license (`l, s` together), supervision case.

Values that cross are `int` (also instants, epoch milliseconds), `str`, `bytes`, `None`, and `list[str]` or `list[int]` for the two list marks.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

C = TypeVar("C")
R = TypeVar("R")
T = TypeVar("T")

Engine: TypeAlias = Literal["sqlite", "postgres"]
ConstraintKind: TypeAlias = Literal["check", "unique", "foreign_key", "not_null"]


class StorageError(Exception):
    """What a database can answer instead of a result."""


class StorageUnavailable(StorageError):
    """The database cannot be reached, is full, too busy or closed. Nothing was written; trying again later may work (HTTP 503)."""


class Deadlocked(StorageUnavailable):
    """Two processes waited for each other, or too long; this transaction was rolled back whole and may be repeated. The writer does."""


class OutcomeUnknown(StorageUnavailable):
    """The answer to COMMIT was lost: the transaction may have been kept or not. Read again by idempotency key, never assume."""


class ConstraintViolated(StorageError):
    """The database itself refused a change.

    `kind` is the same on both engines; `name` is the constraint's name where the engine tells it (always for a named CHECK), else the
    columns. Values never appear: they may be secrets.
    """

    def __init__(self, kind: ConstraintKind, name: str) -> None:
        super().__init__(kind, name)
        self.kind = kind
        self.name = name

    def __str__(self) -> str:
        return f"{self.kind} constraint violated: {self.name}"


class Row(Protocol):
    """One row, read by column name or position (`sqlite3.Row`, `asyncpg.Record`)."""

    def __getitem__(self, key: str | int, /) -> Any: ...


class Tx(Protocol):
    """One open transaction, valid only inside the function it was handed to, which awaits its methods and nothing else.

    After any error the transaction is lost on both engines, even if the function catches the error: say `ON CONFLICT` where a conflict
    is expected. Every method raises `StorageUnavailable` or `ConstraintViolated`; errors of the SQL text itself stay the engine's own.
    """

    @property
    def engine(self) -> Engine:
        """Which engine runs this, for the rare statement that cannot be one text."""

    @property
    def chain(self) -> str:
        """Name of the audit chain this process writes to."""

    async def one(self, sql: str, /, *args: Any) -> Row | None:
        """The first row of a SELECT or of a change with RETURNING; None if there is none."""

    async def all(self, sql: str, /, *args: Any) -> Sequence[Row]:
        """All rows of a SELECT or of a change with RETURNING."""

    async def run(self, sql: str, /, *args: Any) -> int:
        """Rows affected by a statement that begins with INSERT, UPDATE or DELETE and has no RETURNING; 0 for DDL."""

    async def many(self, sql: str, rows: Sequence[Sequence[Any]], /) -> None:
        """One statement for many rows of values, in order. No list marks here."""

    async def aside(self, fn: Callable[..., T], /, *args: Any) -> T:
        """What `fn` returns: work that may block, such as on a file, done away from the event loop."""


Verb: TypeAlias = Callable[[Tx, Sequence[C]], Awaitable[Sequence[R | Exception]]]
"""A hot use-case: takes all waiting commands in order of arrival, gives one result for each, in the same order.

An `Exception` in the result is that command's own "no", raised to its caller while the transaction still commits. A *raised* exception
rolls the batch back and every command runs again alone. A verb awaits nothing but its `Tx`: all writes of the process wait for it.
"""

OnBatch: TypeAlias = Callable[[int, float, float], None]
"""Told after each commit: commands in the transaction, longest wait of one of them (s), duration of COMMIT (s)."""


class Database(Protocol):
    """One open database of a process. All writes go through one writer task, in order of arrival."""

    @property
    def engine(self) -> Engine:
        """Which engine this is."""

    @property
    def waiting(self) -> int:
        """Commands that wait for the writer, of at most `writer.QUEUE_LIMIT`."""

    async def read(self, fn: Callable[[Tx], Awaitable[T]], /) -> T:
        """Run `fn` on one consistent snapshot, taken at its first statement, that cannot write."""

    async def write(self, fn: Callable[[Tx], Awaitable[T]], /) -> T:
        """Run a rare verb in a transaction of its own and give its result once committed; whatever `fn` raises rolls back."""

    async def submit(self, verb: Verb[C, R], command: C, /) -> R:
        """Run one command of a hot verb in the next group commit and give its result once committed."""

    async def close(self) -> None:
        """Finish what is queued, then close every connection. Later calls raise `StorageUnavailable`."""
