"""Rotation of the vault: a new key seals at once, and what older keys have sealed is sealed anew in the background.

The work is its own record: what still lies under an older key is still to do, so it resumes wherever it was broken off. An older key
is removed once nothing lies under it, and not before every process must have noticed the new one.
"""

import asyncio
from pathlib import Path
from typing import Final

import msgspec
import structlog

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.instants import MINUTE
from licensesvc.services.runtime import Runtime
from licensesvc.services.upkeep.sealed_values import context_of
from licensesvc.signing import vault
from licensesvc.signing.privatefiles import LooseFile
from licensesvc.signing.vault import CannotOpen, VaultDamaged
from licensesvc.storage import audit, sealed
from licensesvc.storage.port import StorageError, Tx
from licensesvc.storage.sealed import COLUMNS, SealedColumn, SealedValue

OVERLAP: Final = 2 * MINUTE
"""Milliseconds for which an older key stays after a new one came: other processes look for it every few seconds."""
IDLE_S: Final = 30.0

_log = structlog.get_logger(__name__)


class VaultKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of the vault and how many values lie under it; the newest seals."""

    id: int
    created_at: int
    seals: bool
    sealed: int


async def vault_keys(tx: Tx, rt: Runtime) -> list[VaultKey]:
    """All keys, the newest first; one that is named by sealed values but gone has `created_at` 0."""
    totals = dict.fromkeys(rt.vault.created_at, 0)
    for column in COLUMNS:
        for key_id, count in (await sealed.counts(tx, column)).items():
            totals[key_id] = totals.get(key_id, 0) + count
    return [
        VaultKey(
            id=key_id,
            created_at=rt.vault.created_at.get(key_id, 0),
            seals=key_id == rt.vault.newest,
            sealed=totals[key_id],
        )
        for key_id in sorted(totals, reverse=True)
    ]


async def rotate_vault(tx: Tx, rt: Runtime, path: Path, *, by: str) -> int:
    """Seal with a new key from now on, in the file at `path` and in this process; return its id. Raises as `vault.load`."""
    now = rt.clock()
    await audit.append(tx, [AuditEvent(at=now, actor=by, kind="vault.rotated", subject="vault", detail={})])
    rt.vault.follow(await tx.aside(vault.add_key, path, now))
    return rt.vault.newest


class VaultResealer:
    """Seals anew, in small transactions, whatever does not lie under the newest key; `wake` tells it of a rotation."""

    def __init__(self, rt: Runtime, path: Path) -> None:
        self._rt = rt
        self._path = path
        self._rotated = asyncio.Event()

    def wake(self) -> None:
        """Look now."""
        self._rotated.set()

    async def run(self) -> None:
        """Work until cancelled; what fails is tried again."""
        while True:
            self._rotated.clear()
            try:
                await self.work_once()
            except (StorageError, OSError, LooseFile, VaultDamaged) as error:
                _log.warning("vault_reseal_waits", error=str(error))
            try:
                async with asyncio.timeout(IDLE_S):
                    await self._rotated.wait()
            except TimeoutError:
                continue

    async def work_once(self) -> int:
        """Seal anew all that is due, then remove the keys that nothing needs; return how many values were sealed."""
        if len(self._rt.vault.created_at) == 1:
            return 0
        newest = self._rt.vault.newest
        done = 0
        for column in COLUMNS:
            done += await self._column(column, newest)
        if done:
            _log.info("vault_resealed", values=done, key=newest)
        elif self._rt.clock() - self._rt.vault.created_at[newest] >= OVERLAP:
            await self._remove_older(newest)
        return done

    async def _column(self, column: SealedColumn, newest: int) -> int:
        done, after = 0, None
        while page := await self._rt.db.read(
            lambda tx, after=after: sealed.page_under_others(tx, column, newest, after)  # type: ignore[misc]  # bound in the loop
        ):
            after = page[-1].key
            anew = [(value, again) for value in page if (again := self._again(column, value)) is not None]
            await self._rt.db.write(lambda tx, anew=anew: sealed.replace(tx, column, anew))  # type: ignore[misc]  # as above
            done += len(anew)
        return done

    def _again(self, column: SealedColumn, value: SealedValue) -> bytes | None:
        context = context_of(column, value)
        try:
            return self._rt.vault.seal(self._rt.vault.open(value.sealed, context), context)
        except CannotOpen:
            _log.error("sealed_value_does_not_open", table=column.table, column=column.column)
            return None

    async def _remove_older(self, newest: int) -> None:
        """Remove the older keys if one snapshot shows that no value lies under any of them."""
        keys = await self._rt.db.read(lambda tx: vault_keys(tx, self._rt))
        if any(key.sealed for key in keys if key.id != newest) or self._rt.vault.newest != newest:
            return
        self._rt.vault.follow(await asyncio.to_thread(vault.keep_newest, self._path, newest))
        event = AuditEvent(
            at=self._rt.clock(), actor="system", kind="vault.old_keys_removed", subject="vault", detail={"key": newest}
        )
        await self._rt.db.write(lambda tx: audit.append(tx, [event]))
        _log.info("vault_old_keys_removed", key=newest)
