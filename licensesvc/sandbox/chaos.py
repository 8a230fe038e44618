"""Mischief with a seed: what the real marketplace, the network and attackers do to a seller, so that a test can repeat it.

In: which mischief befalls a delivery, by dice that a seed has set. Out: doing it (`marketplace`).
"""

import random
from enum import StrEnum
from typing import Final

import msgspec

from licensesvc.domain.instants import MINUTE, SECOND

SKEW: Final = 50 * SECOND
"""How far the marketplace's clock may be off while its signatures are still fresh (±60 s)."""
STALE: Final = 2 * MINUTE
V1_STALE: Final = 24 * 60 * MINUTE
"""No window is documented for License 1.0; a day is beyond any."""
LONGEST_DELAY: Final = 2 * MINUTE
"""Milliseconds, before the time factor."""


class Mischief(StrEnum):
    """What befalls one delivery."""

    NONE = "none"
    DUPLICATE = "duplicate"
    CONCURRENT_DUPLICATE = "concurrent duplicate"
    REORDER = "reorder"
    DELAY = "delay"
    DROP_ANSWER = "drop the answer"
    BAD_SIGNATURE = "bad signature"
    STALE_TIMESTAMP = "stale timestamp"
    REUSED_NONCE = "reused nonce"
    CLOCK_SKEW = "clock skew"


REFUSED: Final = frozenset({Mischief.BAD_SIGNATURE, Mischief.STALE_TIMESTAMP, Mischief.REUSED_NONCE})
"""Sent before the right call: the seller must refuse them with 000001."""
_ALL: Final = [mischief for mischief in Mischief if mischief is not Mischief.NONE]


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much chaos: a seed, and the part of all deliveries and open API calls (0 to 1) that meet some."""

    seed: int
    rate: float = 0.3

    def __post_init__(self) -> None:
        """Refuse a rate that is no part."""
        if not 0 <= self.rate <= 1:
            raise ValueError("rate is 0 to 1")


class Chaos:
    """Dice that fall the same way for the same seed, delivery by delivery."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.dice = random.Random(wish.seed)  # noqa: S311 - repeatable mischief, no secret

    def next(self) -> Mischief:
        """What befalls the next delivery."""
        return self.dice.choice(_ALL) if self.dice.random() < self.wish.rate else Mischief.NONE

    def skew(self) -> int:
        """How wrong the clock is, in milliseconds."""
        return self.dice.randint(-SKEW, SKEW)

    def delay(self) -> int:
        """How long a delivery is held back, in milliseconds before the time factor."""
        return self.dice.randint(0, LONGEST_DELAY)
