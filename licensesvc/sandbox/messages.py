"""Calls that are due, and what has become of them: the seller center's 生产接口消息 (spec §2.6).

In: one call with its schedule, the list of them. Out: making them (`marketplace`).
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from licensesvc.domain.instants import HOUR, MINUTE, Instant
from licensesvc.sandbox.orders import Activity, PlacedOrder

MAX_MESSAGES: Final = 1_000
"""The newest ones are kept, for as long as the process lasts."""


class Schedule(NamedTuple):
    """After the first failure `times` more attempts, `every` so many milliseconds."""

    times: int
    every: int


_LICENSE_2_0: Final = Schedule(times=60, every=2 * MINUTE)
_ONCE: Final = Schedule(times=0, every=0)
SCHEDULES: Final[Mapping[Activity, Schedule]] = MappingProxyType(
    {
        Activity.GET_LICENSE: Schedule(times=3, every=HOUR),
        # "3 h" is all that is documented; the beat is that of the SaaS V1 purchase, 60 times in 3 h [I].
        Activity.ORDER_NOTIFY: Schedule(times=60, every=3 * MINUTE),
        Activity.REFRESH_LICENSE_CODE: _LICENSE_2_0,
        Activity.UPDATE_LICENSE_CODE_STATUS: _LICENSE_2_0,
        Activity.RELEASE_LICENSE_CODE: _LICENSE_2_0,
        Activity.NEW_INSTANCE: _LICENSE_2_0,
        Activity.REFRESH_LICENSE: _ONCE,
        Activity.EXPIRE_LICENSE: _ONCE,
        Activity.RELEASE_LICENSE: _ONCE,
    }
)
"""The documented retries (spec §2.6). 000004 is no success: the call is made again, though nobody is mailed about it [I]."""


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """A call that is due: about an order, with fields of its own where the order does not tell them."""

    order: PlacedOrder
    activity: Activity
    fields: dict[str, str] | None = None

    @property
    def about(self) -> str:
        """The order that the call names, which may be a change of `order`."""
        return (self.fields or {}).get("orderId", self.order.order_id)

    @property
    def key(self) -> tuple[str, Activity, str]:
        """One message stands for each; a code's newest status takes the place of the one before."""
        return self.order.order_id, self.activity, self.about


class MessageState(StrEnum):
    """How far a message has come."""

    TRYING = "trying"
    DELIVERED = "delivered"
    FAILED = "failed"
    """Its schedule is over; the seller may restart it."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One call with its attempts so far and the newest verdict; `at` in epoch ms is when it became due, or was restarted."""

    number: int
    order_id: str
    activity: Activity
    at: Instant
    state: MessageState = MessageState.TRYING
    attempts: int = 0
    verdict: str = ""


class Messages:
    """The newest messages, each with its errand."""

    def __init__(self) -> None:
        self._messages: dict[tuple[str, Activity, str], tuple[Message, Errand]] = {}
        self._count = 0

    def open(self, errand: Errand, now: Instant) -> None:
        """Enter a call that is due; one that is known keeps its number."""
        known = self._messages.pop(errand.key, None)
        if known is None:
            self._count += 1
        number = known[0].number if known else self._count
        message = Message(number=number, order_id=errand.about, activity=errand.activity, at=now)
        self._messages[errand.key] = message, errand
        if len(self._messages) > MAX_MESSAGES:
            del self._messages[next(iter(self._messages))]

    def note(self, errand: Errand, *, attempt: int, ok: bool, verdict: str) -> None:
        """Write an attempt down."""
        if (known := self._messages.get(errand.key)) is None:
            return
        last = attempt > SCHEDULES[errand.activity].times
        state = MessageState.DELIVERED if ok else MessageState.FAILED if last else MessageState.TRYING
        message = msgspec.structs.replace(known[0], state=state, attempts=attempt, verdict=verdict)
        self._messages[errand.key] = message, known[1]

    def errand(self, number: int) -> Errand | None:
        """The call of a message."""
        return next((errand for message, errand in self._messages.values() if message.number == number), None)

    @property
    def all(self) -> list[Message]:
        """Every message that is kept, the newest last."""
        return [message for message, _ in self._messages.values()]
