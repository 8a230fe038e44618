"""Holds calls back before the gateway locks an access key (spec §1.9): more than 5 refused signatures in a row lock it.

In: counting the refusals of one account, opening, closing, how many calls may be under way. Out: what a refusal is (`client`).
"""

import asyncio
from typing import Final

from licensesvc.domain.instants import MINUTE, Instant

REFUSALS_ALLOWED: Final = 3
"""Consecutive authentication refusals after which nothing is sent for `OPEN_TIME`."""
OPEN_TIME: Final = 5 * MINUTE
"""The gateway's own lock lasts as long."""


class BreakerOpen(Exception):
    """The gateway has refused our signature too often: nothing was sent."""

    def __init__(self, until: Instant) -> None:
        super().__init__(f"the marketplace refused the access key {REFUSALS_ALLOWED} times: check api_secret")
        self.until = until


class Breaker:
    """Counts for one account.

    As long as no answer has proved the key, no more calls are under way than may be refused: a wrong secret must not be sent in a
    hundred calls at once before the first answer arrives. The others wait for it.
    """

    def __init__(self) -> None:
        self.refusals = 0
        self._proved = False
        self._open_until: Instant = 0
        self._under_way = 0
        self._changed = asyncio.Event()

    async def enter(self, now: Instant) -> None:
        """Wait for a place and take it; raises BreakerOpen. Every `enter` is followed by one `leave`."""
        while True:
            if 0 < self._open_until - now <= 2 * OPEN_TIME:  # a clock that was set back far does not lock for long
                raise BreakerOpen(self._open_until)
            if self._proved or self._under_way < max(1, REFUSALS_ALLOWED - self.refusals):
                self._under_way += 1
                return
            await self._changed.wait()

    def leave(self) -> None:
        """Give the place back."""
        self._under_way -= 1
        self._wake()

    def accepted(self) -> None:
        """Someone behind the gateway answered: the signature was right."""
        self.refusals = 0
        self._proved = True
        self._open_until = 0

    def refused(self, now: Instant) -> None:
        """The gateway refused the signature."""
        self.refusals += 1
        self._proved = False
        if self.refusals >= REFUSALS_ALLOWED:
            self._open_until = now + OPEN_TIME
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
