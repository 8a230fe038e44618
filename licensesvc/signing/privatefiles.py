"""Files that only their owner may read.

In: atomic writing, refusing to read what others could have read or planted. Out: what the files contain.
"""

import errno
import fcntl
import os
import shlex
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class LooseFile(Exception):
    """A private file or directory that others may read or may have planted; one line that says how to repair it."""

    def __init__(self, path: Path, problem: str, repair: str) -> None:
        super().__init__(f"{path}: {problem}; {repair} {shlex.quote(str(path))}")
        self.path = path


def write_private(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, mode 0600: after a crash it holds either the old or the new bytes, durably."""
    with _beside(path, lambda written: written.replace(path)) as file:
        file.write(data)


def create_private(path: Path, data: bytes) -> None:
    """Write `data` to `path`, mode 0600, durably; FileExistsError when anything has that name already."""
    with creating_private(path) as file:
        file.write(data)


@contextmanager
def creating_private(path: Path) -> Iterator[BinaryIO]:
    """A file to write that becomes `path`, mode 0600, durably, once the context ends well; otherwise nothing stays.

    FileExistsError at the end when anything has that name already.
    """
    with _beside(path, path.hardlink_to) as file:
        yield file


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Hold off every other process, and thread, that wants to change a file in the same directory: read it in here."""
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_private(path: Path) -> bytes:
    """Bytes of `path`. LooseFile unless it is a regular file of ours (or root's) that no one else may touch."""
    try:
        # O_NONBLOCK: opening a planted FIFO must not hang the start.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise LooseFile(path, "is a symbolic link", "put the file itself there, then chmod 600") from None
        raise
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise LooseFile(path, "is no regular file", "put the file itself there, then chmod 600")
        _refuse_loose(path, facts, "600")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def private_directory(path: Path) -> Path:
    """Make `path` with mode 0700, or check the one that is there: LooseFile when others may enter it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_loose(path, path.stat(), "700")
    return path


def _refuse_loose(path: Path, facts: os.stat_result, mode: str) -> None:
    if facts.st_uid not in {0, os.geteuid()}:
        raise LooseFile(path, f"belongs to user {facts.st_uid}", f"chown it to yourself, then chmod {mode}")
    if facts.st_mode & _OTHERS:
        raise LooseFile(path, f"mode {stat.S_IMODE(facts.st_mode):04o} lets others in", f"run: chmod {mode}")


@contextmanager
def _beside(path: Path, settle: Callable[[Path], object]) -> Iterator[BinaryIO]:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 – it is a descriptor, not a path
            yield file
            file.flush()
            os.fsync(descriptor)
        settle(temporary)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
