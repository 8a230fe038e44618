"""Debug cases that the marketplace keeps and replays every morning and afternoon while a product is on sale (spec §2.0).

In: the saved cases, replaying them, the days on which one failed, the freeze after five in a row. Out: how a case looks (`check_cases`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import msgspec

from licensesvc.domain.instants import DAY, SECOND, Instant, to_datetime, zone_of
from licensesvc.domain.product import DeliveryKind
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.sandbox import calls
from licensesvc.sandbox.calls import AnswerRefused, Call
from licensesvc.sandbox.check_cases import CALLS, Dialect, Documented
from licensesvc.sandbox.orders import Activity, NewOrder, place
from licensesvc.sandbox.post import Answered

ROUNDS_A_DAY: Final = 2
"""Every morning and afternoon."""
DAYS_TO_FREEZE: Final = 5
"""So many days of failures in a row, and trading is frozen."""
MAX_ROUNDS: Final = 400
"""Results that are kept: about half a year."""

_ZONE: Final = zone_of("Asia/Shanghai")


class SaveCases(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Save the documented debug cases of a dialect for a product."""

    product_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    dialect: Dialect = Dialect.LICENSE_2_0


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """One replay of all cases: the names of those that failed, with the verdict, on a day in Beijing."""

    product_id: str
    at: Instant
    day: str
    cases: int
    failed: dict[str, str]


class Probes:
    """The saved cases by product, what their replays came to, and which products are frozen. Lasts as long as the process."""

    def __init__(
        self,
        ask: Callable[[Call], Awaitable[Answered]],
        callback_key: str,
        clock: Callable[[], Instant],
        time_factor: float,
    ) -> None:
        self._ask = ask
        self._key = callback_key
        self._clock = clock
        self._time_factor = time_factor
        self._saved: dict[str, list[Documented]] = {}
        self.rounds: list[Round] = []

    def save(self, wish: SaveCases) -> list[str]:
        """Save cases; return their names."""
        cases = [call for call in CALLS if call.dialect is wish.dialect]
        self._saved[wish.product_id] = cases
        return [case.name for case in cases]

    async def run(self) -> None:
        """Replay twice a day, by the sandbox's own time, until cancelled."""
        while True:
            await asyncio.sleep(DAY / ROUNDS_A_DAY / SECOND * self._time_factor)
            if self._saved:
                await self.replay()

    async def replay(self) -> list[Round]:
        """Replay every saved case once."""
        now = self._clock()
        day = str(to_datetime(now, _ZONE).date())
        made = []
        for product_id, cases in self._saved.items():
            failed = {}
            for case in cases:
                if (verdict := await self._verdict(case, product_id)) is not None:
                    failed[case.name] = verdict
            made.append(Round(product_id=product_id, at=now, day=day, cases=len(cases), failed=failed))
        self.rounds = [*self.rounds, *made][-MAX_ROUNDS:]
        return made

    def failing_days(self, product_id: str) -> int:
        """On how many days in a row, up to the newest, a case has failed."""
        days: dict[str, bool] = {}
        for one in self.rounds:
            if one.product_id == product_id:
                days[one.day] = days.get(one.day, False) or bool(one.failed)
        count = 0
        for day in sorted(days, reverse=True):
            if not days[day]:
                break
            count += 1
        return count

    def may_sell(self, product_id: str) -> bool:
        """Whether the product is still traded."""
        return self.failing_days(product_id) < DAYS_TO_FREEZE

    async def _verdict(self, case: Documented, product_id: str) -> str | None:
        """Why a case failed; None = it passed."""
        values = {name: field.value for name, field in case.fields.items()}
        fields = {**values, **({"productId": product_id} if "productId" in values else {}), "testFlag": "1"}
        activity = Activity(fields.pop("activity"))
        answered = await self._ask(calls.compose(activity, _NOBODY, self._key, self._clock(), fields=fields))
        if answered.answer is None:
            return answered.why_not
        try:
            if activity is Activity.GET_LICENSE:
                calls.read_license_answer(answered.answer, self._key)
            else:
                calls.read_answer(answered.answer, activity, self._key)
        except (AnswerRefused, SignatureRefused) as error:
            return str(error)
        return None


_NOBODY: Final = place(NewOrder(product_id="OFFI-DEBUG", dialect=DeliveryKind.GENERAL), 0)
"""A debug case says everything itself."""
