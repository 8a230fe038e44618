"""One log pipeline: our records and those of libraries become JSON lines on stderr, secrets masked.

The access line has a shorter way to the same place, for it is written with every request and holds only what our own code chose.

Codes, tokens, signatures and fingerprints never belong into a record; the processor here is the last net, not the rule.
"""

import logging
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

MASK: Final = "***"

_SECRET_NAMES: Final = re.compile(
    r"secret|password|passphrase|authorization|cookie|auth_?token|access_?key|(?:callback|private|signing|vault)_?key"
    r"|fingerprint|identification_?code|nonce|^code$|license_?code|signature|body-sign|dsn|database_url|smtp_url|e?mail|mobile|phone|real_?name",
    re.IGNORECASE,
)
_SECRET_TEXTS: Final = re.compile(
    r"ls[a-z]_[a-z2-7]{8}_[A-Za-z0-9_-]{43}"  # tokens
    r"|\b(?!PL)[A-Za-z][A-Za-z0-9]{1,7}(?:-[0-9A-Za-z]{5}){5}\b"  # our license codes
    r"|\b[Ll][Ss][0-9A-Za-z]{25}\b"  # the same without dashes, behind the prefix that products have unless told otherwise
    r"|\bPL[0-9A-Za-z]{6,62}\b"  # the marketplace's
    r"|\bAK[A-Z2-7]{18}\b"  # access keys
    r"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"  # signed documents
    r"|AGE-SECRET-KEY-1[0-9A-Z]+"
    r"|wh(?:sec|sk)_[A-Za-z0-9+/=_-]+"  # webhook secrets
    r"|(?i:(?<=signature=)|(?<=authtoken=)|(?<=access=)|(?<=nonce=)|(?<=[?& ]code=)|(?<=password=)|(?<=bearer )|(?<=basic ))[^&\s,\"']+"
    r"|(?<=sign_type=\"HMAC-SHA256\", signature=\")[^\"]+"  # Body-Sign
    r"|(?<=://)[^/@\s]+:[^/\s]+(?=@)"  # credentials in a URL
    r"|[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"  # mail addresses
    r"|(?<![0-9A-Za-z])(?:\+?86[- ]?)?1[3-9][0-9]{9}(?![0-9A-Za-z])"  # mobile numbers
)

request_facts: ContextVar[Mapping[str, str] | None] = ContextVar("request_facts", default=None)
"""What names the request under way; every record that is made meanwhile carries it."""


def configure(level: str) -> None:
    """Send everything at `level` and above to stderr as JSON lines."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _of_request,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # These write values of statements, or one line a request.
    for name, least in {"aiosqlite": "WARNING", "httpx2": "WARNING", "httpcore2": "WARNING"}.items():
        logging.getLogger(name).setLevel(least)


class AccessLog:
    """Writes records without secrets: `info(event, **facts)` is one JSON line on stderr, if `level` lets it."""

    def __init__(self, level: str) -> None:
        self._silent = logging.getLevelNamesMapping()[level.upper()] > logging.INFO
        self._stderr = sys.stderr.buffer

    def info(self, event: str, **facts: Any) -> None:
        """Write one record."""
        if self._silent:
            return
        at = datetime.now(UTC).isoformat()
        record = {**facts, "event": event, "level": "info", "timestamp": f"{at.removesuffix('+00:00')}Z"}
        self._stderr.write(msgspec.json.encode(record) + b"\n")
        self._stderr.flush()


def looks_secret(text: str) -> bool:
    """Whether `redact` would mask a part of it."""
    return _SECRET_TEXTS.search(text) is not None


def _of_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {**facts, **event} if (facts := request_facts.get()) else event


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask values under secret names, and texts that look like secrets anywhere."""
    return {name: MASK if _SECRET_NAMES.search(name) and value else _masked(value) for name, value in event.items()}


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return _SECRET_TEXTS.sub(MASK, value)
    if isinstance(value, dict):
        return {name: MASK if _SECRET_NAMES.search(str(name)) else _masked(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(item) for item in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _masked(repr(value))  # as it would be written
