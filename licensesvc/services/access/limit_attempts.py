"""Stops who asks too often for what does not exist: license codes, activations, orders, admin tokens.

What is charged are answers that would teach a guesser something, never successes: a thousand programs that activate one code
are no attempt, and calls that succeed write nothing here. A subject without credit is refused from memory, before anything
is looked up, so that its lucky guess would go unnoticed too.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import msgspec

from licensesvc.domain import ratelimit
from licensesvc.domain.errors import ActivationNotFound, InvalidCodeListed, LicenseNotFound, OrderNotFound
from licensesvc.domain.instants import HOUR, MINUTE, Instant
from licensesvc.domain.ratelimit import Limit
from licensesvc.services.runtime import Runtime
from licensesvc.storage import buckets
from licensesvc.storage.port import Tx

BLOCKED_KEPT: Final = 10_000
"""Subjects without credit kept in memory; beyond, the oldest are dropped and found out again by their next charge."""
FORGET_EVERY: Final = MINUTE
"""How often drained buckets are dropped, while there are charges."""

MAX_CODES: Final = 100
"""License codes that one call may name (spec §§1.3-1.5)."""

_TEACHING: Final = (LicenseNotFound, ActivationNotFound, OrderNotFound)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one process; nodes that share a database should share them."""

    unknown_codes: Limit
    bad_tokens: Limit
    seats_given_back: Limit


def limits(*, unknown_codes: int, bad_tokens: int, seats_given_back: int) -> Limits:
    """Name the limits: unknown codes and bad tokens a minute, seats of one license given back an hour."""
    return Limits(
        unknown_codes=Limit(name="unknown-codes", count=unknown_codes, window=MINUTE, at_once=MAX_CODES),
        bad_tokens=Limit(name="bad-tokens", count=bad_tokens, window=MINUTE),
        seats_given_back=Limit(name="seats-given-back", count=seats_given_back, window=HOUR),
    )


class Charge(msgspec.Struct, frozen=True, kw_only=True):
    """The events of one call, to be paid for."""

    bucket: str
    limit: Limit
    now: Instant
    events: int = 1


async def charge_buckets(tx: Tx, commands: Sequence[Charge]) -> Sequence[Instant | Exception]:
    """Hot verb: charge all waiting events, by name, for two nodes must not wait for one another."""
    drained: dict[int, Instant] = {}
    for index, command in sorted(enumerate(commands), key=lambda item: item[1].bucket):
        drained[index] = await buckets.charge(tx, command.bucket, command.limit, command.now, command.events)
    return [drained[index] for index in range(len(commands))]


class Limiter:
    """Knows who has no credit; the credit itself is in the database."""

    def __init__(self, rt: Runtime, limits: Limits) -> None:
        self.limits = limits
        self._rt = rt
        self._blocked: dict[str, Instant] = {}
        self._forgot_at: Instant = 0

    def unknown_codes(self, *subject: str) -> "Attempt":
        """Watch one call that names a license; who is behind a credential, or an address, shares the credit."""
        return Attempt(self, self.limits.unknown_codes, subject)

    def bad_tokens(self, address: str) -> "Attempt":
        """Watch one call that carries an admin token."""
        return Attempt(self, self.limits.bad_tokens, (address,))

    def admit(self, limit: Limit, bucket: str) -> None:
        """Raise RateLimited if the bucket is known to have no credit. No IO."""
        until = self._blocked.get(bucket)
        if until is None:
            return
        now = self._rt.clock()
        if 0 < until - now <= limit.fullest:
            raise ratelimit.refusal(limit, until - now)
        del self._blocked[bucket]

    async def charge(self, limit: Limit, bucket: str, events: int = 1) -> None:
        """Charge the events of one call; raise RateLimited if there was no credit for the first."""
        now = self._rt.clock()
        if not 0 <= now - self._forgot_at < FORGET_EVERY:
            self._forgot_at = now
            await self._rt.db.write(lambda tx: buckets.forget_drained(tx, now))
        charge = Charge(bucket=bucket, limit=limit, now=now, events=events)
        drained_at = await self._rt.db.submit(charge_buckets, charge)
        wait = ratelimit.wait(limit, drained_at, now)
        if wait:
            self._block(bucket, now + wait)
        if ratelimit.overdrawn(limit, drained_at, now, events):
            raise ratelimit.refusal(limit, wait)

    def _block(self, bucket: str, until: Instant) -> None:
        self._blocked.pop(bucket, None)
        if len(self._blocked) >= BLOCKED_KEPT:
            del self._blocked[next(iter(self._blocked))]
        self._blocked[bucket] = until


class Attempt:
    """One call of one subject, as a context: refused at its begin, charged at its end if it found nothing."""

    __slots__ = ("_bucket", "_limit", "_limiter")

    def __init__(self, limiter: Limiter, limit: Limit, subject: Sequence[str]) -> None:
        self._limiter = limiter
        self._limit = limit
        self._bucket = " ".join((limit.name, *subject))

    async def __aenter__(self) -> Self:
        self._limiter.admit(self._limit, self._bucket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if isinstance(error, _TEACHING):
            await self.failed()
        elif isinstance(error, InvalidCodeListed) and error.unknown:
            await self.failed(error.unknown)

    async def failed(self, events: int = 1) -> None:
        """Charge an answer that found nothing without raising, so many times; raises RateLimited when there was no credit."""
        await self._limiter.charge(self._limit, self._bucket, events)
