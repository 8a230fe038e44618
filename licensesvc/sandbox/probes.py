"""Debug cases that the marketplace keeps and replays every morning and afternoon while a product is on sale (spec §2.0).

In: replaying the saved cases, the days on which one failed, the freeze after five in a row. Out: how a case looks (`check_cases`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import msgspec

from licensesvc.domain.instants import DAY, SECOND, Instant
from licensesvc.domain.product import DeliveryKind
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.sandbox import calls
from licensesvc.sandbox.calls import AnswerRefused, Call
from licensesvc.sandbox.check_cases import CALLS, Dialect, Documented
from licensesvc.sandbox.mails import Mailbox, about_probes
from licensesvc.sandbox.orders import Activity, Identifier, NewOrder, place
from licensesvc.sandbox.post import Answered
from licensesvc.sandbox.state import State

ROUNDS_A_DAY: Final = 2
"""Every morning and afternoon."""
DAYS_TO_FREEZE: Final = 5
"""So many days of failures in a row, and trading is frozen."""
MAX_ROUNDS: Final = 1_000
"""Results that are kept, of all products together."""


class ProductOnSale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which product is meant."""

    product_id: Identifier


class SaveCases(ProductOnSale, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Save the documented debug cases of a dialect for a product, one for each interface."""

    dialect: Dialect = Dialect.LICENSE_2_0


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One replay of a product's cases on a day of the sandbox, which are counted from 1: the names of those that failed, with the verdict."""

    product_id: str
    at: Instant
    day: Annotated[int, msgspec.Meta(ge=1)]
    cases: int
    failed: dict[str, str]


class Probes:
    """What the replays of the saved cases came to, and which products are frozen. Lasts as long as the process; the cases last longer.

    The sandbox's days are as long as its time factor makes them.
    """

    def __init__(
        self,
        ask: Callable[[Call], Awaitable[Answered]],
        state: State,
        clock: Callable[[], Instant],
        time_factor: float,
        mailbox: Mailbox,
    ) -> None:
        self._ask = ask
        self._state = state
        self._clock = clock
        self._began = clock()
        self._day_length = max(1.0, DAY * time_factor)
        self._mailbox = mailbox
        self._frozen: set[str] = set()
        self.rounds: list[Round] = []

    def save(self, wish: SaveCases) -> list[str]:
        """Save cases; return their names. Raises `StateError` where there are too many."""
        self._state.save_debug_cases(wish.product_id, wish.dialect)
        return [case.name for case in CALLS if case.dialect is wish.dialect]

    async def run(self) -> None:
        """Replay twice a day, by the sandbox's own time, until cancelled."""
        while True:
            await asyncio.sleep(self._day_length / ROUNDS_A_DAY / SECOND)
            if self._state.seller_callback_url is not None:
                await self.replay()

    async def replay(self) -> list[Round]:
        """Replay every saved case of every product on sale once. Raises `NoSeller`."""
        made = []
        for product_id, dialects in self._state.debug_cases.items():
            if product_id in self._frozen:
                continue
            cases = [case for case in CALLS if case.dialect in dialects]
            now = self._clock()
            verdicts = {case.name: await self._verdict(case, product_id) for case in cases}
            failed = {name: verdict for name, verdict in verdicts.items() if verdict is not None}
            day = int((now - self._began) / self._day_length) + 1
            made.append(Round(product_id=product_id, at=now, day=day, cases=len(cases), failed=failed))
            self._enter(made[-1])
        return made

    def failing_days(self, product_id: str) -> int:
        """On how many days in a row, up to the newest, a case has failed."""
        days: dict[int, bool] = {}
        for one in self.rounds:
            if one.product_id == product_id:
                days[one.day] = days.get(one.day, False) or bool(one.failed)
        count = 0
        for day in sorted(days, reverse=True):
            if not days[day]:
                break
            count += 1
        return count

    @property
    def frozen(self) -> list[str]:
        """Products whose trading is frozen."""
        return sorted(self._frozen)

    def may_sell(self, product_id: str) -> bool:
        """Whether the product is still traded."""
        return product_id not in self._frozen

    def thaw(self, product_id: str) -> None:
        """Let a product be traded again; its days are counted anew."""
        self._frozen.discard(product_id)
        self.rounds = [one for one in self.rounds if one.product_id != product_id]

    def _enter(self, one: Round) -> None:
        self.rounds = [*self.rounds, one][-MAX_ROUNDS:]
        if not one.failed:
            return
        days = self.failing_days(one.product_id)
        if days >= DAYS_TO_FREEZE:
            self._frozen.add(one.product_id)
        frozen = one.product_id in self._frozen
        mail = about_probes(one.product_id, at=one.at, failed=sorted(one.failed), days=days, frozen=frozen)
        self._mailbox.put(mail)

    async def _verdict(self, case: Documented, product_id: str) -> str | None:
        """Why a case failed; None = it passed."""
        values = {name: field.value for name, field in case.fields.items()}
        fields = {**values, **({"productId": product_id} if "productId" in values else {}), "testFlag": "1"}
        activity, key = Activity(fields.pop("activity")), self._state.callback_key
        answered = await self._ask(calls.compose(activity, _NOBODY, key, self._clock(), fields=fields))
        if answered.answer is None:
            return answered.why_not
        try:
            if activity is Activity.GET_LICENSE:
                calls.read_license_answer(answered.answer, key)
            else:
                calls.read_answer(answered.answer, activity, key)
        except (AnswerRefused, SignatureRefused) as error:
            return str(error)
        return None


_NOBODY: Final = place(NewOrder(product_id="OFFI-DEBUG", dialect=DeliveryKind.GENERAL), 0)
"""A debug case says everything itself."""
