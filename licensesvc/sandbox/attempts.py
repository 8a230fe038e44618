"""One attempt at a call to the seller, with the mischief that befalls it, and the transcripts.

In: what is sent, in which order, and what counts as right. Out: when it is made and what follows (`marketplace`), bytes (`calls`, `post`).
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from licensesvc.domain.instants import Instant
from licensesvc.marketplace.huawei.result_codes import CallbackCode
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.sandbox import calls
from licensesvc.sandbox.calls import Answer, AnswerRefused, Call, InProgress
from licensesvc.sandbox.chaos import REFUSED, Chaos, Fate, Mischief, signed_at
from licensesvc.sandbox.messages import Errand
from licensesvc.sandbox.orders import V1_ACTIVITIES
from licensesvc.sandbox.post import SHOWN_CHARACTERS, Answered, Delivery, Postman, text_headers

MAX_DELIVERIES: Final = 1_000
"""Transcripts kept, of all orders together."""
MAX_VERDICT: Final = 300
"""Characters: a seller's resultMsg may be as long as its answer."""


class Accept(Protocol):
    """Takes what the seller answered to a right call; raises AnswerRefused or SignatureRefused where it does not count."""

    def __call__(self, errand: Errand, answer: Answer) -> None:
        """Take it."""


class Attempts:
    """Makes attempts at one seller's URL, and remembers them."""

    def __init__(
        self,
        postman: Postman,
        access_key: str,
        clock: Callable[[], Instant],
        accept: Accept,
        *,
        upper_case: bool,
    ) -> None:
        self._postman = postman
        self._access_key = access_key
        self._clock = clock
        self._accept = accept
        self._upper_case = upper_case
        self._transcripts: deque[Delivery] = deque(maxlen=MAX_DELIVERIES)

    @property
    def transcripts(self) -> list[Delivery]:
        """Every transcript that is kept, oldest first."""
        return list(self._transcripts)

    async def make(self, url: str, errand: Errand, number: int, fate: Fate, chaos: Chaos | None) -> Delivery:
        """Make one attempt; what is returned is the right call, whatever was done beside it."""
        mischief = fate.mischief
        if mischief is Mischief.NONE or chaos is None:
            return await self._call(url, errand, number)
        delivery, mistaken = await self._disturbed(url, errand, number, fate)
        chaos.note(mischief, mistaken=mistaken)
        return delivery

    async def _disturbed(self, url: str, errand: Errand, number: int, fate: Fate) -> tuple[Delivery, bool]:
        """The right call, and whether the seller took the mischief otherwise than it should."""
        mischief, v1 = fate.mischief, errand.activity in V1_ACTIVITIES
        match mischief:
            case Mischief.BAD_SIGNATURE | Mischief.STALE_TIMESTAMP:
                key = self._access_key + ("x" if mischief is Mischief.BAD_SIGNATURE else "")
                call = self._compose(errand, signed_at(self._clock(), mischief, v1=v1), key=key)
                wrong = self._keep(url, errand, number, call, await self._postman.carry(url, call), mischief)
                return await self._call(url, errand, number), not wrong.ok
            case Mischief.REUSED_NONCE:
                # License 1.0 has no nonce: the same bytes once more are a repeat there.
                call = self._compose(errand, self._clock())
                delivery = self._keep(url, errand, number, call, await self._postman.carry(url, call), Mischief.NONE)
                again = Mischief.DUPLICATE if v1 else mischief
                replay = self._keep(url, errand, number, call, await self._postman.carry(url, call), again)
                return delivery, not replay.ok
            case Mischief.DUPLICATE:
                delivery = await self._call(url, errand, number, mischief)
                repeat = await self._call(url, errand, number, mischief)
                return delivery, delivery.ok and not repeat.ok
            case Mischief.CONCURRENT_DUPLICATE:
                both = await asyncio.gather(
                    self._call(url, errand, number, mischief), self._call(url, errand, number, mischief)
                )
                # One of two at the same moment may be told that the other is in progress.
                best = max(both, key=lambda delivery: delivery.ok)
                return best, not all(delivery.ok or delivery.in_progress for delivery in both)
            case Mischief.DROP_ANSWER:
                call = self._compose(errand, self._clock())
                why_not = await self._postman.drop(url, call)
                lost = Answered(answer=None, why_not=why_not, ms=0)
                self._keep(url, errand, number, call, lost, mischief)
                delivery = await self._call(url, errand, number)
                return delivery, not delivery.ok
            case _:
                delivery = await self._call(url, errand, number, mischief, skew=fate.skew)
                return delivery, not delivery.ok

    async def _call(
        self, url: str, errand: Errand, number: int, mischief: Mischief = Mischief.NONE, *, skew: int = 0
    ) -> Delivery:
        call = self._compose(errand, self._clock() + skew)
        return self._keep(url, errand, number, call, await self._postman.carry(url, call), mischief)

    def _compose(self, errand: Errand, at: Instant, *, key: str | None = None) -> Call:
        return calls.compose(
            errand.activity, errand.order, key or self._access_key, at, fields=errand.fields, upper=self._upper_case
        )

    def _keep(
        self, url: str, errand: Errand, number: int, call: Call, answered: Answered, mischief: Mischief
    ) -> Delivery:
        """Judge the answer and keep the transcript."""
        answer, verdict, in_progress = answered.answer, answered.why_not, False
        try:
            if answer is not None and mischief in REFUSED:
                calls.read_refusal(answer, CallbackCode.UNAUTHENTICATED)
            elif answer is not None:
                self._accept(errand, answer)
        except InProgress as error:
            verdict, in_progress = str(error), True
        except (AnswerRefused, SignatureRefused) as error:
            verdict = str(error)
        delivery = Delivery(
            order_id=errand.order.order_id,
            about=errand.about,
            activity=errand.activity,
            attempt=number,
            at=self._clock(),
            request=f"{call.method} {url}?{call.masked_query}",
            request_body=call.body.decode(),
            status=answer.status if answer else None,
            headers=text_headers(answer) if answer else [],
            body=answer.body.decode(errors="replace")[:SHOWN_CHARACTERS] if answer else "",
            ok=not verdict,
            in_progress=in_progress,
            verdict=verdict[:MAX_VERDICT] or _WELL.get(mischief, "success"),
            ms=answered.ms,
            mischief=mischief,
        )
        self._transcripts.append(delivery)
        return delivery


_WELL: Final = {
    **dict.fromkeys(REFUSED, "refused as it should be"),
    Mischief.DROP_ANSWER: "sent, and hung up before the answer",
}
