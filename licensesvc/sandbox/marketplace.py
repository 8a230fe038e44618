"""The sandbox marketplace at work: places orders, changes them, tells the seller, tries again, mails about failures (spec §2.6).

In: when calls are made and what follows. Out: one attempt (`attempts`), what a change is (`changes`), HTTP of its own (`app`, `control`).
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from licensesvc.domain.instants import SECOND, Instant
from licensesvc.domain.order import opens_case
from licensesvc.domain.product import DeliveryKind
from licensesvc.sandbox import calls, codes, mails, orders
from licensesvc.sandbox.attempts import Attempts
from licensesvc.sandbox.calls import Answer, AnswerRefused, Call
from licensesvc.sandbox.changes import Change, Changed, Terms, change, refund_of
from licensesvc.sandbox.chaos import LONGEST_DELAY, UNDISTURBED, Chaos, Fate, Mischief
from licensesvc.sandbox.clock import wall_clock
from licensesvc.sandbox.mails import Mailbox, MailServer
from licensesvc.sandbox.messages import SCHEDULES, Errand, Messages
from licensesvc.sandbox.orders import Activity, NewOrder, PlacedOrder, Stage, end_of_period
from licensesvc.sandbox.post import Answered, Delivery, Postman
from licensesvc.sandbox.state import State

ANSWER_SECONDS: Final = 5.0
"""How long the marketplace waits for an answer (spec §2.0)."""

_Key = tuple[str, Activity, str]


class NoSeller(Exception):
    """A call is due, but nobody has told the seller's callback URL."""


class TradingFrozen(Exception):
    """The product may not be sold: its debug cases have failed for too long."""


class Marketplace:
    """One running marketplace; an async context manager that ends the retries with itself.

    `time_factor` stretches the waits between attempts: 1 is the marketplace's own time, 0.001 a fast one. `upper_case` writes signatures
    in upper case, as some of its samples do.
    """

    def __init__(
        self,
        state: State,
        *,
        time_factor: float = 1.0,
        answer_seconds: float = ANSWER_SECONDS,
        clock: Callable[[], Instant] = wall_clock,
        upper_case: bool = False,
        mail_server: MailServer | None = None,
    ) -> None:
        self._state = state
        self._time_factor = time_factor
        self._clock = clock
        self._postman = Postman(answer_seconds)
        self._attempts = Attempts(self._postman, state.callback_key, clock, self._accept, upper_case=upper_case)
        self._later: dict[_Key, asyncio.Task[None]] = {}
        self._held: set[asyncio.Event] = set()
        self.messages = Messages()
        self.mailbox = Mailbox(mail_server)
        self.chaos: Chaos | None = None
        self.may_sell: Callable[[str], bool] = lambda _product: True

    async def __aenter__(self) -> Self:
        await self.mailbox.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        later = list(self._later.values())
        for task in later:
            task.cancel()
        await asyncio.gather(*later, return_exceptions=True)
        await self.mailbox.__aexit__(kind, error, trace)
        await self._postman.__aexit__(kind, error, trace)

    def place(self, order: NewOrder) -> PlacedOrder:
        """Remember a new order, with a code where the marketplace makes it.

        Raises `NoSeller` when it makes calls due that nobody could receive, `TradingFrozen`.
        """
        if not self.may_sell(order.product_id):
            raise TradingFrozen(f"trading of {order.product_id} is frozen: its debug cases failed for 5 days in a row")
        if order.calls:
            self._seller()
        placed = orders.place(order, self._clock())
        if order.dialect is DeliveryKind.LICENSE_2_0 and opens_case(placed.order_type):
            end = end_of_period(placed, placed.created_at)
            code = codes.make(placed.order_id, placed.product_id, placed.amount, end, unclaimed=order.claim)
            placed = msgspec.structs.replace(placed, license=code.code)
            self._state.put(placed, codes=[code])
        else:
            self._state.put(placed)
        return placed

    async def deliver(self, order: PlacedOrder) -> list[Delivery]:
        """Make the order's calls once, each anew, and go on with those that failed in the background. Raises `NoSeller`.

        A call that chaos holds back is made in the background as well.
        """
        return await self._tell_all([Errand(order=order, activity=activity) for activity in order.calls])

    async def change(
        self, kind: Change, order: PlacedOrder, terms: Terms | None = None
    ) -> tuple[Changed, list[Delivery]]:
        """Change a purchase and tell the seller. Raises `NoSuchChange`, `NoSeller`."""
        changed = change(
            kind,
            order,
            self._state.code_of(order.order_id),
            self._clock(),
            renewals=[one for one in self._state.orders.values() if one.of == order.order_id and one.ended_at],
            terms=terms,
        )
        if changed.calls:
            self._seller()
        made = (changed.order,) if changed.order else ()
        self._state.put(*changed.known, *made, codes=(changed.code,) if changed.code else ())
        errands = [Errand(order=order, activity=told.activity, fields=told.fields) for told in changed.calls]
        return changed, await self._tell_all(errands)

    async def restart(self, number: int) -> list[Delivery] | None:
        """Make a message's call anew, as the seller does under 生产接口消息; None where there is no such message. Raises `NoSeller`."""
        errand = self.messages.errand(number)
        return None if errand is None else await self._tell_all([errand])

    async def _tell_all(self, errands: list[Errand]) -> list[Delivery]:
        made = [await self._tell(errand) for errand in errands]
        return [delivery for delivery in made if delivery is not None]

    async def _tell(self, errand: Errand) -> Delivery | None:
        """Make a call once and go on in the background if it failed; None where all of it is left to the background."""
        self._seller()
        self._stop(errand.key)
        self.messages.open(errand, self._clock())
        fate = self._fate(errand)
        if fate.mischief in {Mischief.REORDER, Mischief.DELAY}:
            self._go_on(errand, self._from_first(errand, fate))
            return None
        delivery = await self._attempt(errand, 1, fate)
        if not delivery.ok:
            # Somebody may have asked for the same delivery meanwhile: one retry per call is enough.
            self._stop(errand.key)
            self._go_on(errand, self._retry(errand))
        return delivery

    def deliveries(self, order_id: str) -> list[Delivery]:
        """The transcripts of a purchase with its changes, or of one change, oldest first."""
        return [made for made in self._attempts.transcripts if order_id in {made.order_id, made.about}]

    async def ask(self, call: Call) -> Answered:
        """Make a call that belongs to no order. Raises `NoSeller`."""
        return await self._postman.carry(self._seller(), call)

    async def _from_first(self, errand: Errand, fate: Fate) -> None:
        await self._hold(fate)
        if not (await self._attempt(errand, 1, fate)).ok:
            await self._retry(errand)

    async def _retry(self, errand: Errand) -> None:
        schedule = SCHEDULES[errand.activity]
        for attempt in range(2, schedule.times + 2):
            await asyncio.sleep(schedule.every / SECOND * self._time_factor)
            fate = self._fate(errand)
            await self._hold(fate)
            if (await self._attempt(errand, attempt, fate)).ok:
                return
        self._gave_up(errand)

    async def _hold(self, fate: Fate) -> None:
        """A reordered call waits until another one has been made, but not for ever."""
        if fate.mischief is Mischief.DELAY:
            await asyncio.sleep(fate.delay / SECOND * self._time_factor)
        elif fate.mischief is Mischief.REORDER:
            overtaken = asyncio.Event()
            self._held.add(overtaken)
            with suppress(TimeoutError):
                async with asyncio.timeout(LONGEST_DELAY / SECOND * self._time_factor):
                    await overtaken.wait()
            self._held.discard(overtaken)

    async def _attempt(self, errand: Errand, attempt: int, fate: Fate) -> Delivery:
        delivery = await self._attempts.make(self._seller(), errand, attempt, fate, self.chaos)
        self.messages.note(errand, attempt=attempt, ok=delivery.ok, verdict=delivery.verdict)
        if not delivery.ok and not delivery.in_progress:
            mail = mails.about_call(errand, at=delivery.at, attempt=attempt, verdict=delivery.verdict)
            self.mailbox.put(mail)
        for overtaken in self._held:
            overtaken.set()
        return delivery

    def _fate(self, errand: Errand) -> Fate:
        if self.chaos is None:
            return UNDISTURBED
        change_of = "purchase" if errand.about == errand.order.order_id else "change"
        return self.chaos.delivery(errand.order.order_id, errand.activity, change_of)

    def _gave_up(self, errand: Errand) -> None:
        """What the documentation says of the end: getLicense stays with the seller, a purchase is refunded by itself."""
        known = self._state.orders.get(errand.order.order_id, errand.order)
        if errand.activity is Activity.GET_LICENSE:
            self._state.put(msgspec.structs.replace(known, stage=Stage.DELIVERING))
        elif errand.activity is Activity.NEW_INSTANCE:
            self._state.put(*refund_of(known, self._clock()))

    def _go_on(self, errand: Errand, doing: Coroutine[Any, Any, None]) -> None:
        self._later[errand.key] = task = asyncio.create_task(doing)
        task.add_done_callback(partial(self._forget, errand.key))

    def _stop(self, key: _Key) -> None:
        if earlier := self._later.get(key):
            earlier.cancel()

    def _forget(self, key: _Key, task: asyncio.Task[None]) -> None:
        if self._later.get(key) is task:
            del self._later[key]

    def _accept(self, errand: Errand, answer: Answer) -> None:
        known = self._state.orders.get(errand.order.order_id, errand.order)
        if errand.activity is Activity.GET_LICENSE:
            delivered = calls.read_license_answer(answer, self._state.callback_key)
            if known.license is not None and known.license != delivered.license:
                raise AnswerRefused("the same order was answered with another license")
            done = {"license": delivered.license, "instance_id": delivered.instance_id}
        elif errand.activity is Activity.NEW_INSTANCE:
            done = {"instance_id": calls.read_instance_answer(answer)}
        else:
            calls.read_answer(answer, errand.activity, self._state.callback_key)
            return
        over = known.stage in {Stage.RELEASED, Stage.REFUNDED}
        stage = known.stage if over else Stage.CONFIRMING
        self._state.put(msgspec.structs.replace(known, **done, stage=stage))

    def _seller(self) -> str:
        if self._state.seller_callback_url is None:
            raise NoSeller("tell the seller's callback URL first: PUT /sandbox/seller")
        return self._state.seller_callback_url
