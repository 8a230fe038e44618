"""The sandbox marketplace at work: places orders, calls the seller, keeps transcripts, tries again, mails about failures (spec §2.6).

In: when calls are made and what follows. Out: their form and the verdict (`calls`), the network (`post`), HTTP of its own (`app`).
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Final, NamedTuple, Self

import msgspec

from licensesvc.domain.instants import HOUR, MINUTE, SECOND, Instant
from licensesvc.domain.order import OrderType
from licensesvc.domain.product import DeliveryKind
from licensesvc.marketplace.huawei.result_codes import CallbackCode
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.sandbox import calls, chaos, codes, orders
from licensesvc.sandbox.calls import Answer, AnswerRefused, Call
from licensesvc.sandbox.changes import Change, Changed, change
from licensesvc.sandbox.chaos import REFUSED, Chaos, Mischief
from licensesvc.sandbox.clock import wall_clock
from licensesvc.sandbox.orders import V1_ACTIVITIES, Activity, NewOrder, PlacedOrder, Stage, end_of_period
from licensesvc.sandbox.post import SHOWN_CHARACTERS, Answered, Delivery, Postman, text_headers
from licensesvc.sandbox.state import State

ANSWER_SECONDS: Final = 5.0
"""How long the marketplace waits for an answer (spec §2.0)."""
MAX_DELIVERIES: Final = 1_000
"""Transcripts kept, of all orders together."""
MAX_MAILS: Final = 1_000


class Schedule(NamedTuple):
    """After the first failure `times` more attempts, `every` so many milliseconds."""

    times: int
    every: int


_LICENSE_2_0: Final = Schedule(times=60, every=2 * MINUTE)
SCHEDULES: Final[Mapping[Activity, Schedule]] = MappingProxyType(
    {
        Activity.GET_LICENSE: Schedule(times=3, every=HOUR),
        # "3 h" is all that is documented; the beat is that of the SaaS V1 purchase, 60 times in 3 h [I].
        Activity.ORDER_NOTIFY: Schedule(times=60, every=3 * MINUTE),
        Activity.REFRESH_LICENSE_CODE: _LICENSE_2_0,
        Activity.UPDATE_LICENSE_CODE_STATUS: _LICENSE_2_0,
        Activity.RELEASE_LICENSE_CODE: _LICENSE_2_0,
        Activity.NEW_INSTANCE: _LICENSE_2_0,
        Activity.REFRESH_LICENSE: Schedule(times=0, every=0),
        Activity.EXPIRE_LICENSE: Schedule(times=0, every=0),
        Activity.RELEASE_LICENSE: Schedule(times=0, every=0),
    }
)
"""The documented retries (spec §2.6); 000004 counts as a failure that is tried again [I]."""


class NoSeller(Exception):
    """A call is due, but nobody has told the seller's callback URL."""


class TradingFrozen(Exception):
    """The product may not be sold: its debug cases have failed for too long."""


class Mail(msgspec.Struct, frozen=True, kw_only=True):
    """What the marketplace mails the seller after a failed call; `at` in epoch ms."""

    at: Instant
    subject: str
    text: str
    order_id: str
    activity: Activity
    attempt: int


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """A call that is due: about an order, with fields of its own where the order does not tell them."""

    order: PlacedOrder
    activity: Activity
    fields: dict[str, str] | None = None

    @property
    def key(self) -> tuple[str, Activity, str]:
        """One retry goes on for each."""
        told = self.fields or {}
        return self.order.order_id, self.activity, told.get("orderId") or told.get("status", "")


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
    ) -> None:
        self._state = state
        self._time_factor = time_factor
        self._clock = clock
        self._upper_case = upper_case
        self._deliveries: deque[Delivery] = deque(maxlen=MAX_DELIVERIES)
        self._retries: dict[tuple[str, Activity, str], asyncio.Task[None]] = {}
        self._postman = Postman(answer_seconds)
        self.mails: deque[Mail] = deque(maxlen=MAX_MAILS)
        self.chaos: Chaos | None = None
        self.may_sell: Callable[[str], bool] = lambda _product: True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        retries = list(self._retries.values())
        for retry in retries:
            retry.cancel()
        await asyncio.gather(*retries, return_exceptions=True)
        await self._postman.__aexit__(kind, error, trace)

    def place(self, order: NewOrder) -> PlacedOrder:
        """Remember a new order, with a code where the marketplace makes it.

        Raises `NoSeller` when it makes calls due that nobody could receive, `TradingFrozen`.
        """
        if not self.may_sell(order.product_id):
            raise TradingFrozen(f"trading of {order.product_id} is frozen: its debug cases failed for 5 days in a row")
        if order.calls:
            self._seller()
        now = self._clock()
        placed = orders.place(order, now)
        if order.dialect is DeliveryKind.LICENSE_2_0 and placed.order_type in {OrderType.NEW, OrderType.TRIAL}:
            code = codes.make(
                placed.order_id, placed.product_id, placed.amount, end_of_period(placed, now), unclaimed=order.claim
            )
            self._state.put_code(code)
            placed = msgspec.structs.replace(placed, license=code.code)
        self._state.put(placed)
        return placed

    async def deliver(self, order: PlacedOrder) -> list[Delivery]:
        """Make the order's calls once, each anew, and go on with those that failed in the background. Raises `NoSeller`."""
        return [await self.tell(Errand(order=order, activity=activity)) for activity in order.calls]

    async def change(self, kind: Change, order: PlacedOrder) -> tuple[Changed, list[Delivery]]:
        """Change a purchase and tell the seller. Raises `NoSuchChange`, `NoSeller`."""
        changed = change(kind, order, self._state.code_of(order.order_id), self._clock())
        if changed.activity is not None:
            self._seller()
        if changed.order is not None:
            self._state.put(changed.order)
        if changed.code is not None:
            self._state.put_code(changed.code)
        if changed.activity is None:
            return changed, []
        return changed, [await self.tell(Errand(order=order, activity=changed.activity, fields=changed.fields))]

    async def tell(self, errand: Errand) -> Delivery:
        """Make a call once and go on in the background if it failed. Raises `NoSeller`."""
        self._stop_retrying(errand.key)
        delivery = await self._attempt(errand, 1)
        if not delivery.ok:
            # Somebody may have asked for the same delivery meanwhile: one retry per call is enough.
            self._stop_retrying(errand.key)
            self._retries[errand.key] = retry = asyncio.create_task(self._retry(errand))
            retry.add_done_callback(partial(self._forget, errand.key))
        return delivery

    def deliveries(self, order_id: str) -> list[Delivery]:
        """The transcripts of one order, oldest first."""
        return [delivery for delivery in self._deliveries if delivery.order_id == order_id]

    async def ask(self, call: Call) -> Answered:
        """Make a call that belongs to no order. Raises `NoSeller`."""
        return await self._postman.carry(self._seller(), call)

    async def _retry(self, errand: Errand) -> None:
        schedule = SCHEDULES[errand.activity]
        for attempt in range(2, schedule.times + 2):
            await asyncio.sleep(schedule.every / SECOND * self._time_factor)
            delivery = await self._attempt(errand, attempt)
            if delivery.ok:
                return
        self._gave_up(errand)

    def _gave_up(self, errand: Errand) -> None:
        """What the documentation says of the end: getLicense stays with the seller, a purchase is refunded by itself."""
        known = self._state.orders.get(errand.order.order_id, errand.order)
        if errand.activity is Activity.GET_LICENSE:
            self._state.put(msgspec.structs.replace(known, stage=Stage.DELIVERING))
        elif errand.activity is Activity.NEW_INSTANCE:
            self._state.put(msgspec.structs.replace(known, stage=Stage.REFUNDED, order_type=OrderType.UNSUBSCRIBE))

    def _stop_retrying(self, key: tuple[str, Activity, str]) -> None:
        if earlier := self._retries.get(key):
            earlier.cancel()

    def _forget(self, key: tuple[str, Activity, str], retry: asyncio.Task[None]) -> None:
        if self._retries.get(key) is retry:
            del self._retries[key]

    async def _attempt(self, errand: Errand, attempt: int) -> Delivery:
        """One attempt with the mischief that befalls it; what counts is the right call."""
        mischief = self.chaos.next() if self.chaos else Mischief.NONE
        url = self._seller()
        if self.chaos is not None:
            await self._before(url, errand, attempt, mischief, self.chaos)
        skew = self.chaos.skew() if self.chaos and mischief is Mischief.CLOCK_SKEW else 0
        if mischief is Mischief.CONCURRENT_DUPLICATE:
            delivery, _ = await asyncio.gather(
                self._call(url, errand, attempt, mischief), self._call(url, errand, attempt, mischief)
            )
        else:
            delivery = await self._call(url, errand, attempt, mischief, skew=skew)
        if mischief is Mischief.DUPLICATE:
            await self._call(url, errand, attempt, mischief)
        if not delivery.ok:
            self._mail(errand, delivery)
        return delivery

    async def _before(self, url: str, errand: Errand, attempt: int, mischief: Mischief, dice: Chaos) -> None:
        """What is done before the right call is made."""
        match mischief:
            case Mischief.DELAY | Mischief.REORDER:
                await asyncio.sleep(dice.delay() / SECOND * self._time_factor)
            case Mischief.DROP_ANSWER:
                await self._postman.drop(url, self._compose(errand, self._clock()))
            case Mischief.REUSED_NONCE if errand.activity not in V1_ACTIVITIES:
                call = self._compose(errand, self._clock())
                await self._postman.carry(url, call)
                self._keep(url, errand, attempt, call, await self._postman.carry(url, call), mischief)
            case Mischief.BAD_SIGNATURE | Mischief.STALE_TIMESTAMP:
                stale = chaos.V1_STALE if errand.activity in V1_ACTIVITIES else chaos.STALE
                at = self._clock() - (stale if mischief is Mischief.STALE_TIMESTAMP else 0)
                key = self._state.callback_key + ("x" if mischief is Mischief.BAD_SIGNATURE else "")
                call = self._compose(errand, at, key=key)
                self._keep(url, errand, attempt, call, await self._postman.carry(url, call), mischief)

    async def _call(self, url: str, errand: Errand, attempt: int, mischief: Mischief, *, skew: int = 0) -> Delivery:
        call = self._compose(errand, self._clock() + skew)
        answered = await self._postman.carry(url, call)
        return self._keep(url, errand, attempt, call, answered, Mischief.NONE if mischief in REFUSED else mischief)

    def _compose(self, errand: Errand, at: Instant, *, key: str | None = None) -> Call:
        return calls.compose(
            errand.activity,
            errand.order,
            key or self._state.callback_key,
            at,
            fields=errand.fields,
            upper=self._upper_case,
        )

    def _keep(
        self, url: str, errand: Errand, attempt: int, call: Call, answered: Answered, mischief: Mischief
    ) -> Delivery:
        """Judge the answer and keep the transcript."""
        answer, verdict = answered.answer, answered.why_not
        if answer is not None:
            try:
                if mischief in REFUSED:
                    calls.read_refusal(answer, CallbackCode.UNAUTHENTICATED)
                else:
                    self._accept(errand, answer)
            except (AnswerRefused, SignatureRefused) as error:
                verdict = str(error)
        said = "refused as it should be" if mischief in REFUSED else "success"
        delivery = Delivery(
            order_id=errand.order.order_id,
            activity=errand.activity,
            attempt=attempt,
            at=self._clock(),
            request=f"{call.method} {url}?{call.masked_query}",
            request_body=call.body.decode(),
            status=answer.status if answer else None,
            headers=text_headers(answer) if answer else [],
            body=answer.body.decode(errors="replace")[:SHOWN_CHARACTERS] if answer else "",
            ok=not verdict,
            verdict=verdict or said,
            ms=answered.ms,
            mischief=mischief,
        )
        self._deliveries.append(delivery)
        return delivery

    def _accept(self, errand: Errand, answer: Answer) -> None:
        known = self._state.orders.get(errand.order.order_id, errand.order)
        if errand.activity is Activity.GET_LICENSE:
            delivered = calls.read_license_answer(answer, self._state.callback_key)
            if known.license is not None and known.license != delivered.license:
                raise AnswerRefused("the same order was answered with another license")
            self._state.put(
                msgspec.structs.replace(
                    known, license=delivered.license, instance_id=delivered.instance_id, stage=Stage.CONFIRMING
                )
            )
        elif errand.activity is Activity.NEW_INSTANCE:
            instance_id = calls.read_instance_answer(answer)
            self._state.put(msgspec.structs.replace(known, instance_id=instance_id, stage=Stage.CONFIRMING))
        else:
            calls.read_answer(answer, errand.activity, self._state.callback_key)

    def _mail(self, errand: Errand, delivery: Delivery) -> None:
        left = SCHEDULES[errand.activity].times + 1 - delivery.attempt
        self.mails.append(
            Mail(
                at=delivery.at,
                subject=f"【云商店沙箱】生产接口消息失败 {errand.activity} / Interface message failed",
                text=(
                    f"订单 {errand.order.order_id} 的 {errand.activity} 第 {delivery.attempt} 次调用失败：{delivery.verdict}。"
                    f"还将重试 {left} 次。\n"
                    f"Attempt {delivery.attempt} of {errand.activity} for order {errand.order.order_id} failed: {delivery.verdict}. "
                    f"{left} more will be made; afterwards restart it under 卖家中心 > 生产接口消息.\n"
                ),
                order_id=errand.order.order_id,
                activity=errand.activity,
                attempt=delivery.attempt,
            )
        )

    def _seller(self) -> str:
        if self._state.seller_callback_url is None:
            raise NoSeller("tell the seller's callback URL first: PUT /sandbox/seller")
        return self._state.seller_callback_url
