"""Whether this process can serve, and if not why: database, migrations, disk, keys.

In: the checks, and asking them seldom. Out: draining (the server's), the alarm (`deploy/prometheus/alerts.yaml`).
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Final

import structlog

from licensesvc.services.runtime import Runtime
from licensesvc.signing import envelope
from licensesvc.signing.signer import ForeignKid
from licensesvc.signing.vault import CannotOpen
from licensesvc.storage.migrate import DatabaseTooNew, MigrationChanged, pending
from licensesvc.storage.port import StorageError, Tx

KEPT_S: Final = 2.0
"""How long an answer is good for: strangers may ask as often as they like, and the check writes."""
PATIENCE_S: Final = 2.0
"""A database that takes longer cannot serve a marketplace that hangs up after five seconds."""
_PROBE: Final = "readiness"

_log = structlog.get_logger(__name__)


class Readiness:
    """Asks the checks, at most once in `KEPT_S`. Reasons are our own words: what libraries say goes to the log alone."""

    def __init__(self, rt: Runtime, data: Path, least_free_bytes: int) -> None:
        """`data` is the directory whose file system must keep `least_free_bytes` free."""
        self._rt = rt
        self._data = data
        self._least_free_bytes = least_free_bytes
        self._asking = asyncio.Lock()
        self._asked_at = -KEPT_S
        self._reasons: tuple[str, ...] = ()

    async def reasons(self) -> tuple[str, ...]:
        """Why requests cannot be served; empty when they can."""
        async with self._asking:
            if time.monotonic() - self._asked_at >= KEPT_S:
                found = await self._database(), self._disk(), self._keys()
                reasons = tuple(reason for reason in found if reason is not None)
                if reasons != self._reasons:
                    _log.warning("readiness_changed", reasons=reasons)
                self._reasons = reasons
                self._asked_at = time.monotonic()
            return self._reasons

    def free_bytes(self) -> int:
        """Bytes that this process may still write on the file system of the data directory."""
        facts = os.statvfs(self._data)
        return facts.f_bavail * facts.f_frsize

    async def _database(self) -> str | None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                missing = await pending(self._rt.db)
                await self._rt.db.write(_touch)
        except TimeoutError:
            return f"database: no answer within {PATIENCE_S:g} s"
        except DatabaseTooNew:
            return "migrations: a newer release has changed the database"
        except MigrationChanged:
            return "migrations: one was changed after it had been applied"
        except StorageError as error:
            _log.warning("database_not_ready", error=str(error))
            return "database: it cannot be written"
        return f"migrations: {', '.join(missing)} not applied" if missing else None

    def _disk(self) -> str | None:
        try:
            free = self.free_bytes()
        except OSError:
            return "disk: the data directory is gone"
        return "disk: almost full" if free < self._least_free_bytes else None

    def _keys(self) -> str | None:
        probe = envelope.signing_input(typ=_PROBE, kid=self._rt.signer.kid, claims={})
        try:
            if not self._rt.signer.made(probe, self._rt.signer.sign(probe)):
                return "keys: the signing key does not verify its own signatures"
        except ForeignKid:
            return "keys: the signing key is compromised"
        try:
            self._rt.vault.open(self._rt.vault.seal(_PROBE.encode(), _PROBE), _PROBE)
        except CannotOpen:
            return "keys: the vault does not open what it seals"
        return None


async def _touch(tx: Tx) -> None:
    """The smallest real write of each engine; no row changes."""
    await tx.one("PRAGMA user_version = 0" if tx.engine == "sqlite" else "SELECT pg_current_xact_id()::text")
