"""What a server does by itself from time to time: backups with retention, and deleting what is past.

In: when something is due, which backups stay. Out: how a backup is made (`backup`) and what is past (`prune`).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog

from licensesvc.domain.instants import DAY, HOUR, MINUTE, Instant, from_datetime, to_datetime
from licensesvc.services.runtime import Runtime
from licensesvc.services.upkeep.backup import BackupImpossible, back_up
from licensesvc.services.upkeep.prune import prune, retention_of
from licensesvc.settings import Settings
from licensesvc.signing.agefile import recipient
from licensesvc.signing.privatefiles import LooseFile, private_directory
from licensesvc.storage.port import Database, StorageError

EVERY_S: Final = 60.0
"""How often the server looks whether something is due; also how long after its start it looks first."""
AGAIN_AFTER: Final = 10 * MINUTE
"""Milliseconds until a backup that failed is tried again."""

_STAMP: Final = "%Y%m%dT%H%M%SZ"

_log = structlog.get_logger(__name__)


class Housekeeping:
    """Looks every minute; raises UnusableRecipient or LooseFile at once when the settings cannot work.

    `open_reader` opens the database once more for each backup, which would keep a reader from the requests for long.
    """

    def __init__(self, rt: Runtime, settings: Settings, open_reader: Callable[[], Awaitable[Database]]) -> None:
        self._rt = rt
        self._open_reader = open_reader
        self._settings = settings
        self._pruned_at: Instant | None = None
        self._failed_at: Instant | None = None
        self._recipients = []
        if settings.backup_dir:
            self._recipients = [recipient(settings.backup_recipient)]
            private_directory(Path(settings.backup_dir))

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Do what is due; what fails is logged and tried again later."""
        now = self._rt.clock()
        if self._recipients and self._backup_due(now):
            await self._back_up(now)
        if self._pruned_at is None or abs(now - self._pruned_at) >= DAY:
            await self._prune(now)

    def _backup_due(self, now: Instant) -> bool:
        if self._failed_at is not None and abs(now - self._failed_at) < AGAIN_AFTER:
            return False
        made = backups(self._settings)
        # Also when the newest lies in the future: then the clock has been set back.
        return not made or abs(now - made[-1][0]) >= self._settings.backup_every_hours * HOUR

    async def _back_up(self, now: Instant) -> None:
        settings = self._settings
        target = Path(settings.backup_dir) / f"{_prefix(settings)}{to_datetime(now).strftime(_STAMP)}.age"
        try:
            db = await self._open_reader()
            try:
                figures = await back_up(replace(self._rt, db=db), settings.data, target, self._recipients)
            finally:
                await db.close()
            await asyncio.to_thread(_remove, [path for _, path in backups(settings)[: -settings.backup_keep]])
        except (BackupImpossible, StorageError, LooseFile, OSError) as error:
            self._failed_at = now
            _log.error("backup_failed", error=str(error))
            return
        self._failed_at = None
        _log.info(
            "backup_made",
            file=figures.file,
            rows=figures.rows,
            bytes=figures.bytes,
            seconds=round(figures.seconds, 3),
            missing_proofs=len(figures.missing_proofs),
        )

    async def _prune(self, now: Instant) -> None:
        try:
            pruned = await prune(self._rt, retention_of(self._settings), by="system")
        except StorageError as error:
            _log.warning("prune_failed", error=str(error))
            return
        if not pruned.more:  # else the next look goes on
            self._pruned_at = now


def backups(settings: Settings) -> list[tuple[Instant, Path]]:
    """The backups that this node has made by itself, with the instants in their names, the oldest first."""
    form = re.compile(re.escape(_prefix(settings)) + r"(\d{8}T\d{6}Z)\.age")
    found = []
    for path in Path(settings.backup_dir).iterdir():
        if match := form.fullmatch(path.name):
            try:
                made = datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC)
            except ValueError:
                continue  # not one of ours after all
            found.append((from_datetime(made), path))
    return sorted(found)


def _prefix(settings: Settings) -> str:
    return f"licensesvc-{settings.node}-"


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
