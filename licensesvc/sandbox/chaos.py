"""Mischief with a seed: what the real marketplace, the network and attackers do to a seller, so that a test can repeat it.

In: which mischief befalls a call, by dice that a seed has set; the tally. Out: doing it (`mischief`, `marketplace`, `endpoint`).

Every call has dice of its own, named by the seed and by which call it is (of the third order, its getLicense, the second throw), so the same
orders meet the same mischief, whatever happens at the same time.
"""

import random
from collections import Counter
from collections.abc import Hashable
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

import msgspec

from licensesvc.domain.instants import DAY, MINUTE, SECOND, Instant

SKEW: Final = 50 * SECOND
"""How far the marketplace's clock may be off while its signatures are still fresh (±60 s)."""
STALE: Final = 2 * MINUTE
V1_STALE: Final = DAY
"""No window is documented for License 1.0; a day is beyond any."""
LONGEST_DELAY: Final = 2 * MINUTE
"""Milliseconds, before the time factor; also how long a call waits to be overtaken."""
MAX_NAMED: Final = 10_000
"""Orders and calls whose throws are remembered; beyond, the first ones start anew."""


class Mischief(StrEnum):
    """What befalls one delivery to the seller."""

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


class Misfortune(StrEnum):
    """What befalls one call of the open API."""

    NONE = "none"
    UNAVAILABLE = "503 from the open API"


REFUSED: Final = frozenset({Mischief.BAD_SIGNATURE, Mischief.STALE_TIMESTAMP, Mischief.REUSED_NONCE})
"""Sent before the right call: the seller must refuse them with 000001."""
ALL: Final = tuple(mischief for mischief in Mischief if mischief is not Mischief.NONE)


class Wish(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much chaos: a seed, and the part of all deliveries and open API calls (0 to 1) that meet some; `only` some kinds, if it says so."""

    seed: int
    rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.3
    only: tuple[Mischief, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a rate that is no part, when it is not read from JSON."""
        if not 0 <= self.rate <= 1:
            raise ValueError("rate is 0 to 1")

    @property
    def kinds(self) -> tuple[Mischief, ...]:
        """The mischief that may happen, in one order."""
        return tuple(mischief for mischief in ALL if not self.only or mischief in self.only)


class Fate(NamedTuple):
    """What befalls one delivery: the mischief, how wrong the clock is (ms), and how long it is held back (ms, before the time factor)."""

    mischief: Mischief
    skew: int = 0
    delay: int = 0


UNDISTURBED: Final = Fate(Mischief.NONE)


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """How often a mischief was done, and how often the seller did not take it as it should."""

    made: int
    mistaken: int


class Chaos:
    """Dice that fall the same way for the same seed, call by call."""

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self._orders: dict[str, int] = {}
        self._throws: dict[Hashable, int] = {}
        self._made: Counter[str] = Counter()
        self._mistaken: Counter[str] = Counter()

    def delivery(self, order_id: str, *what: str) -> Fate:
        """The fate of the next attempt at a call about an order; orders are numbered as they come."""
        if len(self._orders) >= MAX_NAMED:
            self._orders.clear()
        dice = self._dice("delivery", self._orders.setdefault(order_id, len(self._orders)), *what)
        if dice.random() >= self.wish.rate or not self.wish.kinds:
            return UNDISTURBED
        mischief = dice.choice(self.wish.kinds)
        return Fate(
            mischief,
            skew=dice.randint(-SKEW, SKEW) if mischief is Mischief.CLOCK_SKEW else 0,
            delay=dice.randint(0, LONGEST_DELAY) if mischief is Mischief.DELAY else 0,
        )

    def api_call(self, path: str) -> Misfortune:
        """What befalls the next call of a URI of the open API."""
        if self.wish.only or self._dice("open API", path).random() >= self.wish.rate:
            return Misfortune.NONE
        self.note(Misfortune.UNAVAILABLE, mistaken=False)
        return Misfortune.UNAVAILABLE

    def note(self, what: Mischief | Misfortune, *, mistaken: bool) -> None:
        """Count what was done."""
        self._made[what] += 1
        self._mistaken[what] += mistaken

    @property
    def tally(self) -> dict[str, Tally]:
        """What was done so far, by kind."""
        return {kind: Tally(made=made, mistaken=self._mistaken[kind]) for kind, made in sorted(self._made.items())}

    def _dice(self, *name: Hashable) -> random.Random:
        if len(self._throws) >= MAX_NAMED:
            self._throws.clear()
        throw = self._throws[name] = self._throws.get(name, 0) + 1
        return random.Random(f"{self.wish.seed}:{name}:{throw}")  # noqa: S311 - repeatable mischief, no secret


def signed_at(now: Instant, mischief: Mischief, *, v1: bool) -> Instant:
    """When a call claims to be signed."""
    if mischief is not Mischief.STALE_TIMESTAMP:
        return now
    return now - (V1_STALE if v1 else STALE)
