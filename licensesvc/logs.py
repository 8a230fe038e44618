"""One log pipeline: our records and those of libraries become JSON lines on stderr, secrets masked.

Codes, tokens, signatures and fingerprints never belong into a record; the processor here is the last net, not the rule.
"""

import logging
import re
import sys
from typing import Any, Final

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

MASK: Final = "***"

_SECRET_NAMES: Final = re.compile(
    r"secret|password|authorization|auth_?token|access_key|fingerprint|^code$|license_code|signature|dsn|database_url",
    re.IGNORECASE,
)
_SECRET_TEXTS: Final = re.compile(
    r"lsa_[a-z2-7]{8}_[A-Za-z0-9_-]{43}"  # admin tokens
    r"|\b(?!PL)(?i:[A-Z][A-Z0-9]{1,7}(?:-[0-9A-Z]{5}){5})\b"  # our license codes
    r"|\bPL[0-9A-Za-z]{6,62}\b"  # the marketplace's
    r"|eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"  # signed documents
    r"|(?<=Signature=)[0-9a-f]{64}"
    r"|(?<=authToken=)[^&\s\"]+"
    r"|(?<=://)[^/@\s]+:[^/@\s]+(?=@)"  # credentials in a URL
)


def configure(level: str) -> None:
    """Send everything at `level` and above to stderr as JSON lines."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
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
