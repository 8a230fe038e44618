"""Follows the key files: what another process rotated or gave up counts here within seconds.

In: noticing a change, reading the files again. Out: changing them. A file that cannot be used leaves the keys as they are.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from licensesvc.services.runtime import Runtime
from licensesvc.signing import keyset, vault
from licensesvc.signing.keyset import KeysetDamaged
from licensesvc.signing.privatefiles import LooseFile
from licensesvc.signing.vault import VaultDamaged

EVERY_S: Final = 10.0
"""How often the files are looked at: a compromised key must be refused everywhere within 60 s."""

_log = structlog.get_logger(__name__)


class KeyFollower:
    """Reads a key file again whenever it is another file, or has other contents, than the last time."""

    def __init__(self, rt: Runtime, signing_keys: Path, vault_keys: Path) -> None:
        self._rt = rt
        self._readers: dict[Path, Callable[[Path], None]] = {signing_keys: self._signing, vault_keys: self._vault}
        # Not what they are now: they may have changed since they were loaded.
        self._seen: dict[Path, tuple[int, int, int] | None] = dict.fromkeys(self._readers)

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.look()

    def look(self) -> None:
        """Look once."""
        for path, read in self._readers.items():
            mark = _mark(path)
            if mark == self._seen[path]:
                continue
            try:
                read(path)
            except (OSError, LooseFile, KeysetDamaged, VaultDamaged) as error:
                _log.error("key_file_not_usable", file=str(path), error=str(error))
                continue
            self._seen[path] = mark
            _log.debug("key_file_read", file=str(path))

    def _signing(self, path: Path) -> None:
        self._rt.signer.keyset = keyset.load(path)

    def _vault(self, path: Path) -> None:
        self._rt.vault.follow(vault.load(path))


def _mark(path: Path) -> tuple[int, int, int] | None:
    """What changes with every replacement of a file; None without one."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size
