"""What every use-case is given: the database, the keys, a clock and a source of randomness."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from licensesvc.domain.ids import ENTROPY_BYTES, new_id
from licensesvc.domain.instants import Instant
from licensesvc.signing.signer import KeysetSigner
from licensesvc.signing.vault import Vault
from licensesvc.storage.port import Database


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The tools of one running process. Tests hand in their own clock and entropy."""

    db: Database
    vault: Vault
    signer: KeysetSigner
    clock: Callable[[], Instant]
    entropy: Callable[[int], bytes]
    issuer: str
    proofs_dir: Path

    def new_id(self, prefix: str, now: Instant) -> str:
        """A fresh public id."""
        return new_id(prefix, now, self.entropy(ENTROPY_BYTES))
