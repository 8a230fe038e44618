"""Who calls the open API: AK/SK credentials, and the lock after bad signatures (spec §§1.9, 3).

More than `FAILURES_ALLOWED` bad signatures in a row lock for `LOCK_TIME`: per credential and client address, so that a
stranger who knows an access key cannot lock honest programs out; a setting gives the gateway's own rule, per credential.
Stale dates and unknown keys prove nothing, so they neither count nor leave a row.
"""

from typing import Final, Literal

import msgspec

from licensesvc.domain.connection import Connection, Relay
from licensesvc.domain.instants import HOUR, MINUTE, SECOND, Instant
from licensesvc.marketplace.huawei import aksk
from licensesvc.marketplace.huawei.aksk import SignedRequest
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.services.runtime import Runtime
from licensesvc.storage import connections, credentials
from licensesvc.storage.credentials import Scope, SignatureFailures, StoredCredential
from licensesvc.storage.port import Tx

FAILURES_ALLOWED: Final = 5
"""Bad signatures in a row that go unpunished."""
LOCK_TIME: Final = 5 * MINUTE
CACHE_TIME: Final = 5 * SECOND
"""How long a credential is believed without asking the database: how late a revocation on another node may work."""
CACHE_SIZE: Final = 10_000
"""Credentials kept in memory."""
COUNTERS_KEPT: Final = 10_000
"""Counters of bad signatures kept in memory; beyond, those idle for `COUNTER_LIFE` are dropped first."""
COUNTER_LIFE: Final = HOUR


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """An authenticated credential; `product_id` None = every product of the connection."""

    public_id: str
    connection: Connection
    product_id: int | None
    scope: Scope
    address: str = ""
    """Where the call came from; told only where the connection relays, which counts look-ups by it."""


class _Known(msgspec.Struct, frozen=True, kw_only=True):
    credential_id: int
    caller: Caller
    secret: bytes
    loaded_at: Instant

    def __repr__(self) -> str:
        return f"_Known({self.caller.public_id})"


class SoftwareGate:
    """Checks signatures of one process; credentials are cached, counters are written through."""

    def __init__(self, rt: Runtime, lock_scope: Literal["key-and-address", "key"] = "key-and-address") -> None:
        self._rt = rt
        self._per_address = lock_scope == "key-and-address"
        self._known: dict[str, _Known] = {}
        self._failures: dict[tuple[int, str], SignatureFailures] = {}

    async def load(self) -> None:
        """Take up the counters that an earlier process left."""
        for counter in await self._rt.db.read(credentials.all_failures):
            self._failures[counter.credential_id, counter.address] = counter

    def forget(self, access_key: str) -> None:
        """Drop a credential that was changed or revoked."""
        self._known.pop(access_key, None)

    async def authenticate(self, signed: SignedRequest, body: bytes, address: str) -> Caller:
        """Return who signed these bytes; every refusal raises SignatureRefused with the gateway's words."""
        now = self._rt.clock()
        if not aksk.fresh(signed.date, now):
            raise SignatureRefused(aksk.DATE_EXPIRED)
        known = self._known.get(signed.access_key)
        if known is None or not 0 <= now - known.loaded_at < CACHE_TIME:
            known = await self._load(signed.access_key, now)
        subject = (known.credential_id, address if self._per_address else "")
        counter = self._failures.get(subject)
        if counter is not None and counter.locked_until is not None and now < counter.locked_until:
            raise SignatureRefused(aksk.LOCKED)
        if not aksk.matches(signed, known.secret, body):
            await self._count(subject, counter, now)
            raise SignatureRefused(aksk.VERIFY_FAILED)
        if counter is not None:
            del self._failures[subject]
            await self._rt.db.write(lambda tx: credentials.clear_failures(tx, *subject))
        if known.caller.connection.relay is Relay.OFF:
            return known.caller
        return msgspec.structs.replace(known.caller, address=address)

    async def _load(self, access_key: str, now: Instant) -> _Known:
        self._known.pop(access_key, None)
        found = await self._rt.db.read(lambda tx: _find(tx, access_key))
        if found is None:
            raise SignatureRefused(
                aksk.VERIFY_FAILED
            )  # in the words for a wrong secret: which keys exist is nobody's business
        credential, connection = found
        known = _Known(
            credential_id=credential.id,
            caller=Caller(
                public_id=credential.public_id,
                connection=connection,
                product_id=credential.product_id if credential.scope is Scope.DEVICE else None,
                scope=credential.scope,
            ),
            secret=self._rt.vault.open(credential.secret, secret_context(credential.public_id)),
            loaded_at=now,
        )
        if len(self._known) >= CACHE_SIZE:
            self._known.pop(next(iter(self._known)))
        self._known[access_key] = known
        return known

    async def _count(self, subject: tuple[int, str], counter: SignatureFailures | None, now: Instant) -> None:
        was_locked = counter is not None and counter.locked_until is not None
        failures = 1 if counter is None or was_locked else counter.failures + 1
        credential_id, address = subject
        counted = SignatureFailures(
            credential_id=credential_id,
            address=address,
            failures=failures,
            last_at=now,
            locked_until=now + LOCK_TIME if failures > FAILURES_ALLOWED else None,
        )
        self._failures[subject] = counted
        if len(self._failures) > COUNTERS_KEPT:
            self._forget_counters(now)
        await self._rt.db.write(lambda tx: _put(tx, counted, now))

    def _forget_counters(self, now: Instant) -> None:
        for subject, counter in list(self._failures.items()):
            if counter.last_at < now - COUNTER_LIFE:
                del self._failures[subject]
        while len(self._failures) > COUNTERS_KEPT:
            del self._failures[next(iter(self._failures))]


def secret_context(public_id: str) -> str:
    """What the vault binds the secret of a credential to."""
    return f"credential:{public_id}"


async def _find(tx: Tx, access_key: str) -> tuple[StoredCredential, Connection] | None:
    credential = await credentials.by_access_key(tx, access_key)
    if credential is None:
        return None
    return credential, (await connections.by_id(tx, credential.connection_id)).connection


async def _put(tx: Tx, counter: SignatureFailures, now: Instant) -> None:
    await credentials.forget_failures_before(tx, now - COUNTER_LIFE)
    await credentials.put_failures(tx, counter)
