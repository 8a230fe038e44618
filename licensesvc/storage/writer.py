"""The one writer of a process: a task that owns the write connection and commits waiting commands in groups.

In: the queue, the grouping, what happens to whom when a transaction fails (`Guard`, `Writer`). Out: SQL and connections, which the
engines bring as a `Session`.

No caller ever touches the write connection, so a cancelled caller cannot cancel or half-use a transaction: its command is either dropped
while it still waits, or carried out whole and only its answer dropped.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from types import TracebackType
from typing import Any, Protocol, TypeAlias

from licensesvc.storage.port import C, Deadlocked, OnBatch, OutcomeUnknown, R, StorageUnavailable, T, Tx, Verb

BATCH_LIMIT = 256  # commands of hot verbs in one transaction
RARE_LIMIT = 16  # rare verbs in one transaction: each is a handful of statements, and the last waits for the first
DEADLOCK_TRIES = 3  # of one command alone
QUEUE_LIMIT = 4_096  # commands waiting; one more is refused at once, it would be answered too late anyway


Savepoint: TypeAlias = Callable[[Tx, Callable[[Tx], Awaitable[Any]]], Awaitable[Any]]


class Session(Protocol):
    """The write connection of an engine as its writer sees it: one transaction at a time, reconnecting by itself."""

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Carry out `work`, which awaits this session and its `Tx` and nothing else, where the connection lives."""

    async def begin(self) -> Tx:
        """Open a transaction; `StorageUnavailable` if that cannot be done now."""

    async def commit(self) -> None:
        """Commit it, or raise the error that lost it earlier; `OutcomeUnknown` if nobody can tell."""

    async def rollback(self) -> None:
        """Undo what is open, if anything is. Never raises an `Exception`: `begin` meets a broken connection again."""

    async def close(self) -> None:
        """Close the connection."""


class Guard:
    """Stands around each statement of one transaction: translates what it raises, remembers that the transaction is lost.

    PostgreSQL turns COMMIT after a caught error into ROLLBACK without a word, SQLite would commit the rest: `check` before COMMIT makes
    both say the error.
    """

    def __init__(self, translate: Callable[[Exception], Exception]) -> None:
        self._translate = translate
        self._lost: Exception | None = None

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self._lost = self._translate(error)
            if self._lost is not error:
                raise self._lost from None  # an engine's own text may quote the values of the row
        elif error is not None:
            self._lost = StorageUnavailable("a statement of this transaction was cancelled")

    def check(self) -> None:
        """Raise the error that lost the transaction, if one did."""
        if self._lost is not None:
            raise self._lost


@dataclass(slots=True, eq=False)
class _Job:
    """A command waiting since `since` (`time.perf_counter`: the event loop's own clock may count in milliseconds) for its answer."""

    verb: Verb[Any, Any]
    command: Any
    since: float
    answer: asyncio.Future[Any]

    def finish(self, result: object) -> None:
        if self.answer.done():  # the caller was cancelled
            return
        if isinstance(result, Exception):
            self.answer.set_exception(result)
        else:
            self.answer.set_result(result)


async def _alone(tx: Tx, functions: Sequence[Callable[[Tx], Awaitable[Any]]]) -> Sequence[Any]:
    """The verb of `write`; where several functions share a transaction, the writer attempts each by itself."""
    return [await fn(tx) for fn in functions]


def _is_rare(job: _Job) -> bool:
    return job.verb is _alone


async def _by_verb(tx: Tx, jobs: Iterable[_Job]) -> list[tuple[_Job, Any]]:
    """Call each verb once with all its commands."""
    groups: dict[Verb[Any, Any], list[_Job]] = {}
    for job in jobs:
        groups.setdefault(job.verb, []).append(job)
    answers: list[tuple[_Job, Any]] = []
    for verb, group in groups.items():
        answers += zip(group, await verb(tx, [job.command for job in group]), strict=True)
    return answers


async def _attempt(savepoint: Savepoint, tx: Tx, fn: Callable[[Tx], Awaitable[Any]]) -> Any:
    """The result of one rare verb among others, or what it raised; a database that is away is the fault of none."""
    try:
        return await savepoint(tx, fn)
    except StorageUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - handed to its caller, whatever it is
        return error


class Writer:
    """Runs every write of a process in order of arrival. Made inside the running event loop, ended with `close`.

    `savepoint` runs one function inside the open transaction so that whatever it raises undoes what it did, and nothing else. An engine
    gives it where rare verbs may share a transaction: where no other process could hold their locks in another order.
    """

    def __init__(
        self, session: Session, *, on_batch: OnBatch | None = None, savepoint: Savepoint | None = None
    ) -> None:
        self._session = session
        self._savepoint = savepoint
        self._on_batch = on_batch
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Job] = deque()
        self._serving: list[_Job] = []
        self._wake = asyncio.Event()
        self._closed = False
        self._task = self._loop.create_task(self._work(), name="storage-writer")

    @property
    def waiting(self) -> int:
        """See `Database.waiting`."""
        return len(self._waiting)

    async def write(self, fn: Callable[[Tx], Awaitable[T]]) -> T:
        """See `Database.write`."""
        result: T = await self.submit(_alone, fn)
        return result

    async def submit(self, verb: Verb[C, R], command: C) -> R:
        """See `Database.submit`."""
        if self._closed:
            raise StorageUnavailable("the database is closed")
        if len(self._waiting) >= QUEUE_LIMIT:
            raise StorageUnavailable(f"{QUEUE_LIMIT} writes are waiting already")
        job = _Job(verb, command, time.perf_counter(), self._loop.create_future())
        self._waiting.append(job)
        self._wake.set()
        result: R = await job.answer
        return result

    async def close(self) -> None:
        """Refuse new work, finish what is queued, close the session."""
        self._closed = True
        self._wake.set()
        await asyncio.shield(self._task)

    async def _work(self) -> None:
        try:
            while self._waiting or not self._closed:
                if self._waiting:
                    self._serving = self._take()
                    await self._serve(self._serving)
                else:
                    self._wake.clear()
                    await self._wake.wait()
        finally:  # also when the event loop cancels this task: nobody may wait for ever
            self._closed = True
            for job in self._serving:
                job.finish(OutcomeUnknown("the database was closed meanwhile"))
            for job in self._waiting:
                job.finish(StorageUnavailable("the database is closed"))
            await self._session.close()

    def _take(self) -> list[_Job]:
        """The oldest job with those right behind it that may share its transaction."""
        jobs = [self._waiting.popleft()]
        rare = int(_is_rare(jobs[0]))
        if rare and not self._savepoint:
            return jobs
        most_rare = RARE_LIMIT if self._savepoint else 0
        while self._waiting and len(jobs) < BATCH_LIMIT:
            rare += _is_rare(self._waiting[0])
            if rare > most_rare:
                break
            jobs.append(self._waiting.popleft())
        return jobs

    async def _serve(self, jobs: Sequence[_Job], tries: int = 1) -> None:
        """One transaction for all of `jobs`; if it is refused, one for each, so that only the bad one fails."""
        jobs = [job for job in jobs if not job.answer.cancelled()]
        if not jobs:
            return
        try:
            answers = await self._session.run(partial(self._transact, jobs))
        except Exception as error:  # noqa: BLE001 - handed to its caller, whatever it is
            if isinstance(error, StorageUnavailable) and not isinstance(error, Deadlocked):
                # not the fault of any one of them, and a COMMIT of unknown outcome must not be repeated
                answers = [(job, error) for job in jobs]
            elif len(jobs) > 1:
                for job in jobs:
                    await self._serve([job])
                return
            elif isinstance(error, Deadlocked) and tries < DEADLOCK_TRIES:
                await self._serve(jobs, tries + 1)
                return
            else:
                answers = [(jobs[0], error)]
        for job, result in answers:
            job.finish(result)

    async def _transact(self, jobs: Sequence[_Job]) -> list[tuple[_Job, Any]]:
        answers: list[tuple[_Job, Any]] = []
        started = time.perf_counter()
        try:
            tx = await self._session.begin()
            for rare, part in groupby(jobs, _is_rare):
                if rare and self._savepoint and len(jobs) > 1:
                    answers += [(job, await _attempt(self._savepoint, tx, job.command)) for job in part]
                else:
                    answers += await _by_verb(tx, part)
            decided = time.perf_counter()
            await self._session.commit()
        except BaseException:
            await self._session.rollback()
            raise
        if self._on_batch:
            self._on_batch(len(jobs), started - jobs[0].since, time.perf_counter() - decided)
        return answers
