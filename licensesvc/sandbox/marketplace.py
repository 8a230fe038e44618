"""The sandbox marketplace at work: places orders, calls the seller, keeps transcripts, tries again (spec §2.6).

In: the network side and the timing of calls. Out: their form and the verdict (`calls`), HTTP of its own (`app`).
"""

import asyncio
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Final, NamedTuple, Self

import httpx2
import msgspec

from licensesvc.domain.instants import HOUR, MINUTE, SECOND, Instant
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.sandbox import calls, orders
from licensesvc.sandbox.calls import Answer, AnswerRefused, Call
from licensesvc.sandbox.clock import wall_clock
from licensesvc.sandbox.orders import Activity, NewOrder, PlacedOrder
from licensesvc.sandbox.state import State

ANSWER_SECONDS: Final = 5.0
"""How long the marketplace waits for an answer (spec §2.0)."""
MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_DELIVERIES: Final = 1_000
"""Transcripts kept, of all orders together."""
SHOWN_CHARACTERS: Final = 4_096
"""Of an answer's body in a transcript."""


class Schedule(NamedTuple):
    """After the first failure `times` more attempts, `every` so many milliseconds."""

    times: int
    every: int


SCHEDULES: Final[Mapping[Activity, Schedule]] = MappingProxyType(
    {
        Activity.GET_LICENSE: Schedule(times=3, every=HOUR),
        # "3 h" is all that is documented; the beat is that of the SaaS V1 purchase, 60 times in 3 h [I].
        Activity.ORDER_NOTIFY: Schedule(times=60, every=3 * MINUTE),
    }
)


class NoSeller(Exception):
    """A call is due, but nobody has told the seller's callback URL."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """The transcript of one call; `at` in epoch ms, signatures masked, `status` None when no whole answer came."""

    order_id: str
    activity: Activity
    attempt: int
    at: Instant
    request: str
    request_body: str
    status: int | None
    headers: list[tuple[str, str]]
    body: str
    ok: bool
    verdict: str
    ms: int


class Marketplace:
    """One running marketplace; an async context manager that ends the retries with itself.

    `time_factor` stretches the waits between attempts: 1 is the marketplace's own time, 0.001 a fast one.
    """

    def __init__(
        self,
        state: State,
        *,
        time_factor: float = 1.0,
        answer_seconds: float = ANSWER_SECONDS,
        clock: Callable[[], Instant] = wall_clock,
    ) -> None:
        self._state = state
        self._time_factor = time_factor
        self._answer_seconds = answer_seconds
        self._clock = clock
        self._deliveries: deque[Delivery] = deque(maxlen=MAX_DELIVERIES)
        self._retries: dict[tuple[str, Activity], asyncio.Task[None]] = {}
        self._http = httpx2.AsyncClient(
            verify=ssl.create_default_context(),
            timeout=None,
            follow_redirects=False,
            trust_env=False,
            # Body-Sign covers the bytes on the wire.
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        retries = list(self._retries.values())
        for retry in retries:
            retry.cancel()
        await asyncio.gather(*retries, return_exceptions=True)
        await self._http.aclose()

    def place(self, order: NewOrder) -> PlacedOrder:
        """Remember a new order; raises `NoSeller` when it makes calls due that nobody could receive."""
        if order.calls:
            self._seller()
        placed = orders.place(order, self._clock())
        self._state.put(placed)
        return placed

    async def deliver(self, order: PlacedOrder) -> list[Delivery]:
        """Make the order's calls once, each anew, and go on with those that failed in the background.

        Raises `NoSeller`.
        """
        deliveries = []
        for activity in order.calls:
            key = (order.order_id, activity)
            self._stop_retrying(key)
            delivery = await self._attempt(order, activity, 1)
            deliveries.append(delivery)
            if not delivery.ok:
                # Somebody may have asked for the same delivery meanwhile: one retry per call is enough.
                self._stop_retrying(key)
                self._retries[key] = retry = asyncio.create_task(self._retry(order, activity))
                retry.add_done_callback(partial(self._forget, key))
        return deliveries

    def deliveries(self, order_id: str) -> list[Delivery]:
        """The transcripts of one order, oldest first."""
        return [delivery for delivery in self._deliveries if delivery.order_id == order_id]

    async def _retry(self, order: PlacedOrder, activity: Activity) -> None:
        schedule = SCHEDULES[activity]
        for attempt in range(2, schedule.times + 2):
            await asyncio.sleep(schedule.every / SECOND * self._time_factor)
            delivery = await self._attempt(order, activity, attempt)
            if delivery.ok:
                return

    def _stop_retrying(self, key: tuple[str, Activity]) -> None:
        if earlier := self._retries.get(key):
            earlier.cancel()

    def _forget(self, key: tuple[str, Activity], retry: asyncio.Task[None]) -> None:
        if self._retries.get(key) is retry:
            del self._retries[key]

    async def _attempt(self, order: PlacedOrder, activity: Activity, attempt: int) -> Delivery:
        url = self._seller()
        at = self._clock()
        call = calls.compose(activity, order, self._state.callback_key, at)
        answer: Answer | None = None
        started = time.monotonic_ns()
        try:
            async with asyncio.timeout(self._answer_seconds):
                answer = await self._send(url, call)
            self._accept(order, activity, answer)
            ok, verdict = True, "success"
        except TimeoutError:
            ok, verdict = False, f"no whole answer within {self._answer_seconds:g} s"
        except httpx2.HTTPError as error:
            ok, verdict = False, f"{type(error).__name__}: {error}"
        except (AnswerRefused, SignatureRefused) as error:
            ok, verdict = False, str(error)
        delivery = Delivery(
            order_id=order.order_id,
            activity=activity,
            attempt=attempt,
            at=at,
            request=f"{call.method} {url}?{call.masked_query}",
            request_body=call.body.decode(),
            status=answer.status if answer else None,
            headers=_text_headers(answer) if answer else [],
            body=answer.body.decode(errors="replace")[:SHOWN_CHARACTERS] if answer else "",
            ok=ok,
            verdict=verdict,
            ms=(time.monotonic_ns() - started) // 1_000_000,
        )
        self._deliveries.append(delivery)
        return delivery

    async def _send(self, url: str, call: Call) -> Answer:
        headers = {"Content-Type": "application/json"} if call.body else {}
        body = bytearray()
        async with self._http.stream(
            call.method, f"{url}?{call.query}", content=call.body or None, headers=headers
        ) as response:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_ANSWER_BYTES:
                    raise AnswerRefused(f"the answer exceeds {MAX_ANSWER_BYTES} bytes")
        return Answer(status=response.status_code, headers=response.headers.raw, body=bytes(body))

    def _accept(self, order: PlacedOrder, activity: Activity, answer: Answer) -> None:
        if activity is Activity.ORDER_NOTIFY:
            calls.read_notification_answer(answer)
            return
        delivered = calls.read_license_answer(answer, self._state.callback_key)
        known = self._state.orders.get(order.order_id, order)
        if known.license is not None and known.license != delivered.license:
            raise AnswerRefused("the same order was answered with another license")
        self._state.put(msgspec.structs.replace(known, license=delivered.license, instance_id=delivered.instance_id))

    def _seller(self) -> str:
        if self._state.seller_callback_url is None:
            raise NoSeller("tell the seller's callback URL first: PUT /sandbox/seller")
        return self._state.seller_callback_url


def _text_headers(answer: Answer) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
