"""The lock of a data directory: one writing process at a time.

In: taking and telling who holds it. Out: what the holder does. The file stays; the kernel lets the lock go with its holder.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from licensesvc.cli.errors import Failure

_MAX_HOLDER: Final = 200


class DataInUse(Failure):
    """Another process holds the lock."""


class DataLock:
    """A lock that is held."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def tell(self, holder: str) -> None:
        """Write into the file who holds the lock, for people and for `holder_of`."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, holder.encode(), 0)


@contextmanager
def data_lock(path: Path) -> Iterator[DataLock]:
    """Hold the lock; raises DataInUse when another process does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = holder_of(path) or "another licensesvc process"
            raise DataInUse(f"{path.parent} is in use by {holder}: stop that first") from None
        lock = DataLock(descriptor)
        lock.tell(f"process {os.getpid()}")
        try:
            yield lock
        finally:
            lock.tell("")
    finally:
        os.close(descriptor)


def holder_of(path: Path) -> str:
    """What the holder told last; empty when nobody holds the lock, or nobody ever did."""
    try:
        return path.read_text(encoding="utf-8")[:_MAX_HOLDER]
    except FileNotFoundError:
        return ""
