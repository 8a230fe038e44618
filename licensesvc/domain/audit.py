"""The audit chain: who did what to which record, each event sealed into the next.

In: the bytes that are hashed, the hash, checking a chain. Out: storing it and signing its heads. Events name people by id only.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

from licensesvc.domain.instants import Instant

GENESIS: Final = bytes(32)
"""The previous hash of the first event of a chain."""

_ENCODER: Final = msgspec.json.Encoder(order="sorted")


class AuditEvent(msgspec.Struct, frozen=True, kw_only=True):
    """`actor` did `kind` to `subject` (public ids); `detail` never holds secrets or personal data."""

    at: Instant
    actor: str
    kind: str
    subject: str
    detail: dict[str, str | int | None]


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """An event as stored: its place in the chain of one writer, counted from 1, and its hash (32 bytes).

    The previous hash is the `hash` of the row before it, so it is not stored again.
    """

    chain: str
    seq: int
    event: AuditEvent
    hash: bytes


class ChainHead(msgspec.Struct, frozen=True, kw_only=True):
    """The last event of a chain; what the next one is sealed to."""

    chain: str
    seq: int
    hash: bytes


class AuditBroken(Exception):
    """A chain does not hold at one of its events: changed, missing or out of order."""

    def __init__(self, chain: str, seq: int) -> None:
        """Name the first event that does not fit."""
        self.chain = chain
        self.seq = seq
        super().__init__(f"the audit chain {chain} is broken at event {seq}")


def encode(chain: str, seq: int, event: AuditEvent, previous_hash: bytes) -> bytes:
    """Return the canonical bytes of an event: compact JSON with sorted keys, which never change once written."""
    fields = msgspec.structs.asdict(event)
    return _ENCODER.encode({**fields, "chain": chain, "seq": seq, "previous": previous_hash.hex()})


def event_hash(encoded: bytes) -> bytes:
    """Return the SHA-256 of encoded bytes."""
    return hashlib.sha256(encoded).digest()


def verify_chain(rows: Iterable[AuditRow], *, after: ChainHead | None = None) -> ChainHead | None:
    """Check the rows of one chain in order and return its head; the first that does not fit raises AuditBroken.

    `after` is the head at which a pruned chain was cut. A chain without events has no other head.
    """
    head = after
    for row in rows:
        chain, seq, previous = (head.chain, head.seq + 1, head.hash) if head else (row.chain, 1, GENESIS)
        if (row.chain, row.seq) != (chain, seq) or row.hash != event_hash(encode(chain, seq, row.event, previous)):
            raise AuditBroken(chain, seq)
        head = ChainHead(chain=chain, seq=seq, hash=row.hash)
    return head
