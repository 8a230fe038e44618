"""Reads the forms of the buyer's page: few short fields and few files, each bounded, files on disk and not in memory.

In: both encodings that a browser sends. Out: what the fields mean (routes.py).
"""

import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Any, Final
from urllib.parse import parse_qsl

from litestar import Request
from litestar.exceptions import InternalServerException
from multipart import MultipartError, MultipartSegment, PushMultipartParser

from licensesvc.services.buyer.buyer_page import MAX_FILES
from licensesvc.services.supervision.proof_store import MAX_SIZE, PIECE
from licensesvc.web.problems import Refusal

MAX_FIELDS: Final = 12
MAX_FIELD: Final = 24 * 1024
"""Bytes of one field: the longest is a system code of 5,120 characters, most of them may be Chinese."""
MAX_FORM: Final = MAX_FILES * MAX_SIZE + 256 * 1024
"""Bytes of the largest form."""
IN_MEMORY: Final = 256 * 1024

_UNNAMEABLE: Final = re.compile(r"[\x00-\x1f\x7f/\\]|[\ud800-\udfff]")
_BAD_TEXT: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass
class Attachment:
    """A file as it was sent: its name without a path, its bytes in a nameless file."""

    filename: str
    file: IO[bytes]

    async def pieces(self) -> AsyncIterator[bytes]:
        """The bytes from the beginning."""
        self.file.seek(0)
        while piece := self.file.read(PIECE):
            yield piece


@dataclass
class Form:
    """The fields, each once, and the files, at most MAX_FILES."""

    fields: dict[str, str] = field(default_factory=dict)
    files: list[Attachment] = field(default_factory=list)

    def add(self, name: str, value: bytes) -> None:
        """Take a field. Raises Refusal for one that is there, too long, or no text."""
        if name in self.fields or len(self.fields) >= MAX_FIELDS:
            raise Refusal("UNREADABLE_BODY", "a field twice, or too many")
        if len(value) > MAX_FIELD:
            raise Refusal("BODY_TOO_LARGE", f"a field has at most {MAX_FIELD} bytes")
        try:
            text = value.decode()
        except UnicodeDecodeError:
            raise Refusal("UNREADABLE_BODY", "a field is not UTF-8") from None
        if _BAD_TEXT.search(text):
            raise Refusal("UNREADABLE_BODY", "a field has control characters")
        self.fields[name] = text


@contextmanager
def form_files() -> Iterator[Form]:
    """A form whose files are gone afterwards."""
    form = Form()
    try:
        yield form
    finally:
        for attachment in form.files:
            attachment.file.close()


async def read_form(request: Request[Any, Any, Any], form: Form) -> None:
    """Read the body into the form. Raises Refusal."""
    media_type, options = request.content_type
    try:
        if media_type == "application/x-www-form-urlencoded":
            await _read_encoded(request, form)
        elif media_type == "multipart/form-data" and options.get("boundary"):
            await _read_parts(request, form, options["boundary"])
        else:
            raise Refusal("UNSUPPORTED_MEDIA_TYPE", "the body must be a form")
    except InternalServerException:  # the framework's word for a client that hung up
        raise Refusal("UNREADABLE_BODY", "the body ended before it was complete") from None


async def _read_encoded(request: Request[Any, Any, Any], form: Form) -> None:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > 3 * MAX_FIELD:
            raise Refusal("BODY_TOO_LARGE", "too long a form")
    try:
        pairs = parse_qsl(bytes(body), keep_blank_values=True, max_num_fields=MAX_FIELDS)
        for name, value in pairs:
            form.add(name.decode(), value)
    except (ValueError, UnicodeDecodeError):
        raise Refusal("UNREADABLE_BODY", "the form is not readable") from None


async def _read_parts(request: Request[Any, Any, Any], form: Form, boundary: str) -> None:
    try:
        with PushMultipartParser(
            boundary, max_segment_count=MAX_FIELDS + MAX_FILES + 1, max_segment_size=MAX_SIZE
        ) as parser:
            reader = _Parts(form)
            async for chunk in request.stream():
                for event in parser.parse(chunk) if chunk else ():
                    reader.take(event)
            for event in parser.parse(b""):  # says that nothing more comes, and raises where more was to come
                reader.take(event)
    except (MultipartError, ValueError):
        raise Refusal("UNREADABLE_BODY", "the form is not readable, or a file is too large") from None


class _Parts:
    """Puts the parser's events together."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._part: MultipartSegment | None = None
        self._value = bytearray()
        self._file: IO[bytes] | None = None

    def take(self, event: Any) -> None:
        if isinstance(event, MultipartSegment):
            self._part, self._value, self._file = event, bytearray(), None
            if event.filename:
                self._open(event.filename)
        elif event:
            self._write(event)
        elif self._part is not None and self._part.filename is None:
            self._form.add(self._part.name, bytes(self._value))

    def _open(self, name: str) -> None:
        if len(self._form.files) >= MAX_FILES:
            raise Refusal("BODY_TOO_LARGE", f"at most {MAX_FILES} attachments")
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by form_files
        self._form.files.append(Attachment(filename=safe_name(name), file=self._file))

    def _write(self, piece: bytes | bytearray) -> None:
        if self._file is not None:
            self._file.write(piece)
            return
        self._value += piece
        if len(self._value) > MAX_FIELD:
            raise Refusal("BODY_TOO_LARGE", f"a field has at most {MAX_FIELD} bytes")


def safe_name(name: str) -> str:
    """A file name without path and controls, at most 255 characters."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return _UNNAMEABLE.sub("_", last)[-255:] or "file"
