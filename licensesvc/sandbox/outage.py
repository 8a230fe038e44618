"""The sandbox's open API out of order, as whoever tests a seller wants it: refusing, silent, or now and then (chaos)."""

import asyncio
import random
from typing import Any, Final, Literal, TypeAlias

from litestar import Response

HANG_SECONDS: Final = 30.0
"""How long a silent answer is waited for at most."""

OutageKind: TypeAlias = Literal["none", "unavailable", "silent"]


class Outage:
    """How the open API behaves; `unsteady` has it answer 503 with this probability, by these dice."""

    def __init__(self) -> None:
        self.kind: OutageKind = "none"
        self._dice = random.Random()  # noqa: S311 - repeatable mischief, no secret
        self._rate = 0.0

    def unsteady(self, dice: random.Random, rate: float) -> None:
        """Be away for a part of the calls."""
        self._dice, self._rate = dice, rate

    async def refusal(self) -> Response[Any] | None:
        """What a call gets instead of an answer, if anything."""
        if self.kind == "silent":
            await asyncio.sleep(HANG_SECONDS)
        if self.kind != "none" or (self._rate and self._dice.random() < self._rate):
            return Response({"error": "service unavailable"}, status_code=503)
        return None
