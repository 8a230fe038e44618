"""Which files are taken as proofs, and whether a file is what it says: by its bytes, never by its name.

In: the allow list and the checks. Out: storing files (proof_store.py), and showing them, which is never done inline.
"""

import codecs
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import IO, Final

import puremagic

PDF: Final = "application/pdf"
DOCX: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
ZIP: Final = "application/zip"

MAX_DIRECTORY: Final = 1024 * 1024
"""Bytes of the table of contents of an archive; a larger one is not read."""

_HEAD: Final = 4_096
_PIECE: Final = 256 * 1024
_END: Final = struct.Struct("<4s4H2LH")
"""The end record of an archive (APPNOTE 4.3.16)."""


def is_of(media_type: str, file: IO[bytes]) -> bool:
    """Whether the bytes of a readable file are of this type of `MEDIA_TYPES`."""
    file.seek(0)
    return _CHECKS[media_type](file)


def _magic(media_type: str) -> Callable[[IO[bytes]], bool]:
    def check(file: IO[bytes]) -> bool:
        try:
            found = puremagic.magic_string(file.read(_HEAD))
        except (puremagic.PureError, ValueError):
            return False
        return any(match.mime_type == media_type and match.offset == 0 for match in found)

    return check


def _is_text(file: IO[bytes]) -> bool:
    """UTF-8 without controls; what the text is about, be it HTML, is not asked: it is never shown inline."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        while piece := file.read(_PIECE):
            if not _printable(decoder.decode(piece)):
                return False
        return _printable(decoder.decode(b"", final=True))
    except UnicodeDecodeError:
        return False


def _printable(text: str) -> bool:
    return all(symbol.isprintable() or symbol in "\t\n\r\f\ufeff\u3000" for symbol in text)


def _archive(*parts: str) -> Callable[[IO[bytes]], bool]:
    def check(file: IO[bytes]) -> bool:
        if file.read(4) != b"PK\x03\x04" or not _small_directory(file):
            return False
        try:
            with zipfile.ZipFile(file) as archive:
                names = set(archive.namelist())
        except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
            return False
        return names.issuperset(parts)

    return check


def _small_directory(file: IO[bytes]) -> bool:
    """Whether the table of contents, which a reader takes into memory whole, is small; one that cannot be found is not."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size - 65_535))
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size or b"PK\x06\x07" in tail:  # the last is the mark of archives beyond 4 GiB
        return False
    file_size = _END.unpack_from(tail, at)[5]
    file.seek(0)
    return int(file_size) <= MAX_DIRECTORY


_CHECKS: Final[Mapping[str, Callable[[IO[bytes]], bool]]] = {
    PDF: _magic(PDF),
    "image/png": _magic("image/png"),
    "image/jpeg": _magic("image/jpeg"),
    "text/plain": _is_text,
    DOCX: _archive("[Content_Types].xml", "word/document.xml"),
    XLSX: _archive("[Content_Types].xml", "xl/workbook.xml"),
    ZIP: _archive(),
}
MEDIA_TYPES: Final = frozenset(_CHECKS)
"""What a proof may be."""


def sniffed(file: IO[bytes]) -> str | None:
    """The type of `MEDIA_TYPES` that the bytes of a readable file are of, whatever its sender says; None = of none, or empty."""
    if file.seek(0, 2) == 0:
        return None
    return next((media_type for media_type in _CHECKS if is_of(media_type, file)), None)
