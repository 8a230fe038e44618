"""The gateway in front of the sandbox's open API: AK/SK signatures, their time window and the lock (spec §§1.9, 3).

In: admitting one request for the one key there is. Out: what the request asks for, the bodies of answers.
"""

from collections.abc import Callable, Sequence
from typing import Final

from licensesvc.domain.instants import MINUTE, Instant
from licensesvc.marketplace.huawei import aksk
from licensesvc.marketplace.huawei.wire import SignatureRefused

MAX_FAILURES: Final = 5
"""Consecutive bad signatures that are borne."""
LOCK_TIME: Final = 5 * MINUTE


class Gateway:
    """Knows one AK/SK and, as long as the process lasts, how often it was misused in a row."""

    def __init__(self, access_key: str, secret_key: str, clock: Callable[[], Instant]) -> None:
        self._access_key = access_key
        self._secret_key = secret_key.encode()
        self._clock = clock
        self._failures = 0
        self._locked_until: Instant = 0

    def admit(
        self, method: str, raw_path: bytes, query_string: bytes, headers: Sequence[tuple[bytes, bytes]], body: bytes
    ) -> None:
        """Return for a request (as ASGI gives it) that is signed as it should be, else raise `SignatureRefused`."""
        signed = aksk.parse_request(method, raw_path, query_string, headers)
        now = self._clock()
        if signed.access_key != self._access_key:
            raise SignatureRefused(aksk.VERIFY_FAILED)
        if not aksk.fresh(signed.date, now):
            raise SignatureRefused(aksk.DATE_EXPIRED)
        if now < self._locked_until:
            raise SignatureRefused(aksk.LOCKED)
        if not aksk.matches(signed, self._secret_key, body):
            self._count_failure(now)
            raise SignatureRefused(aksk.VERIFY_FAILED)
        self._failures = 0

    def _count_failure(self, now: Instant) -> None:
        self._failures += 1
        if self._failures > MAX_FAILURES:
            self._failures = 0
            self._locked_until = now + LOCK_TIME
