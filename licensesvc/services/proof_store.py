"""Delivery proofs as files, named by what they contain: `<first two digits>/<sha256>` under the proofs directory.

In: which files are taken, storing them so that they survive a power cut. Out: which case they belong to.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from licensesvc.domain.errors import InvalidParameter
from licensesvc.signing.privatefiles import create_private, private_directory, sync_directory

MAX_SIZE: Final = 5 * 1024 * 1024
"""Bytes of one proof."""


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return all(symbol.isprintable() or symbol in "\t\n\r\f\ufeff\u3000" for symbol in text)


_LOOKS_RIGHT: Final[Mapping[str, Callable[[bytes], bool]]] = {
    "application/pdf": lambda data: data.startswith(b"%PDF-"),
    "image/png": lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"),
    "image/jpeg": lambda data: data.startswith(b"\xff\xd8\xff"),
    "text/plain": _is_text,
}
MEDIA_TYPES: Final = frozenset(_LOOKS_RIGHT)


async def store_proof(directory: Path, media_type: str, data: bytes) -> str:
    """Store a proof of one of `MEDIA_TYPES` and return its SHA-256 in hex; the same bytes twice are one file.

    The file is on disk when this returns. Raises InvalidParameter when the bytes are not what the media type says.
    """
    if not data or not _LOOKS_RIGHT[media_type](data):
        raise InvalidParameter(f"the file is not {media_type}")
    return await asyncio.to_thread(put_proof, directory, data)


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
    for above in (path.parent, directory):  # also the names must survive a power cut
        sync_directory(above)
    return digest
