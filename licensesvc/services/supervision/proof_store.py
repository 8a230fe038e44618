"""Delivery proofs as files, named by what they contain: `<first two digits>/<sha256>` under the proofs directory.

In: taking a file in as it arrives, storing it so that it survives a power cut. Out: what it may be (proof_types.py), which case it is of.
"""

import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterable, Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Final, ParamSpec, TypeVar

import msgspec

from licensesvc.domain.errors import InvalidParameter
from licensesvc.services.supervision.proof_types import is_of
from licensesvc.signing.privatefiles import create_private, private_directory, sync_directory
from licensesvc.storage.port import StorageUnavailable

P = ParamSpec("P")
R = TypeVar("R")

MAX_SIZE: Final = 20 * 1024 * 1024
"""Bytes of one proof."""
PIECE: Final = 256 * 1024
"""Bytes kept in memory before they are written."""
STALE_S: Final = 3_600.0
"""Seconds after which an upload that nobody finished is swept away: its process died."""

_UNFINISHED: Final = ".upload."


class KeptFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file in the store: bytes, and SHA-256 in hex."""

    size: int
    sha256: str


async def receive_proof(directory: Path, media_type: str, chunks: AsyncIterable[bytes]) -> KeptFile:
    """Store a proof of a type that `proof_types` knows, piece by piece; the same bytes twice are one file.

    The file is on disk when this returns, and nothing stays when it raises: InvalidParameter when the bytes are not what the type says or
    too many, StorageUnavailable when the disk does not take them, whatever `chunks` raises.
    """
    file = await _on_disk(_open, directory)
    digest, size, buffer = hashlib.sha256(), 0, bytearray()
    try:
        async for chunk in chunks:
            size += len(chunk)
            if size > MAX_SIZE:
                raise InvalidParameter(f"a proof has at most {MAX_SIZE} bytes")
            digest.update(chunk)
            buffer += chunk
            if len(buffer) >= PIECE:
                await _on_disk(file.write, bytes(buffer))
                buffer.clear()
        await _on_disk(file.write, bytes(buffer))
        kept = KeptFile(size=size, sha256=digest.hexdigest())
        if not await _on_disk(_settle, directory, file, media_type, kept):
            raise InvalidParameter(f"the file is not {media_type}")
        return kept
    finally:
        _discard(file)


def proof_file(directory: Path, digest: str) -> Path:
    """Where the proof with this SHA-256 lies."""
    return directory / digest[:2] / digest


def put_proof(directory: Path, data: bytes) -> str:
    """Store the bytes of a proof, blocking; return their SHA-256 in hex."""
    digest = hashlib.sha256(data).hexdigest()
    path = proof_file(directory, digest)
    private_directory(path.parent)
    with suppress(FileExistsError):  # the same proof again
        create_private(path, data)
    _sync_names(directory, path)
    return digest


async def _on_disk(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run blocking work in a thread; a disk that does not take it is an outage."""
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    except OSError as error:
        raise StorageUnavailable(f"the proof store cannot be written: {os.strerror(error.errno or 0)}") from None


def _open(directory: Path) -> IO[bytes]:
    """A new private file beside the shelves, and the unfinished ones of dead processes gone."""
    for entry in os.scandir(directory):
        if entry.name.startswith(_UNFINISHED) and entry.stat().st_mtime < time.time() - STALE_S:
            Path(entry.path).unlink(missing_ok=True)
    return tempfile.NamedTemporaryFile(dir=directory, prefix=_UNFINISHED, delete=False)


def _discard(file: IO[bytes]) -> None:
    """Also while the request is being cancelled, so without a thread."""
    Path(file.name).unlink(missing_ok=True)
    file.close()


def _settle(directory: Path, file: IO[bytes], media_type: str, kept: KeptFile) -> bool:
    """Give a complete file its name, durably; False = it is not of this type."""
    file.flush()
    if kept.size == 0 or not is_of(media_type, file):
        return False
    os.fsync(file.fileno())
    path = proof_file(directory, kept.sha256)
    private_directory(path.parent)
    with suppress(FileExistsError):  # the same proof again
        path.hardlink_to(file.name)
    _sync_names(directory, path)
    return True


def _sync_names(directory: Path, path: Path) -> None:
    for names in (path.parent, directory):  # also the names must survive a power cut
        sync_directory(names)
