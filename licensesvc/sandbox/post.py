"""One call to the seller over the network, and the transcript of it.

In: sending, bounds, what came back. Out: what the call is (`calls`), when it is made and what follows (`marketplace`).
"""

import asyncio
import time
from types import TracebackType
from typing import Final, Self

import httpx2
import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.outbound.trust import system_trust
from licensesvc.sandbox.calls import Answer, AnswerRefused, Call
from licensesvc.sandbox.chaos import Mischief
from licensesvc.sandbox.orders import Activity

MAX_ANSWER_BYTES: Final = 64 * 1024
SHOWN_CHARACTERS: Final = 4_096
"""Of an answer's body in a transcript."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """The transcript of one call; `at` in epoch ms, signatures masked, `status` None when no whole answer came.

    `about` is the order that the call names: `order_id` itself, or a change of it. `in_progress`: the seller answered 000004.
    """

    order_id: str
    about: str
    activity: Activity
    attempt: int
    at: Instant
    request: str
    request_body: str
    status: int | None
    headers: list[tuple[str, str]]
    body: str
    ok: bool
    in_progress: bool
    verdict: str
    ms: int
    mischief: Mischief = Mischief.NONE


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call: an answer, or why there is none, within `ms` milliseconds."""

    answer: Answer | None
    why_not: str
    ms: int


class Postman:
    """Carries calls to the seller; an async context manager."""

    def __init__(self, answer_seconds: float) -> None:
        self._answer_seconds = answer_seconds
        self._tls = system_trust()
        self._http = httpx2.AsyncClient(
            verify=self._tls,
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
        await self._http.aclose()

    async def carry(self, url: str, call: Call) -> Answered:
        """Send one call and wait for its answer; never raises what the network does."""
        started = time.monotonic_ns()
        answer, why_not = None, ""
        try:
            async with asyncio.timeout(self._answer_seconds):
                answer = await self._send(url, call)
        except TimeoutError:
            why_not = f"no whole answer within {self._answer_seconds:g} s"
        except httpx2.HTTPError as error:
            why_not = f"{type(error).__name__}: {error}"
        except AnswerRefused as error:
            why_not = str(error)
        return Answered(answer=answer, why_not=why_not, ms=(time.monotonic_ns() - started) // 1_000_000)

    async def drop(self, url: str, call: Call) -> str:
        """Send one call and close the socket without waiting for the answer; returns why that did not work, or nothing."""
        target = httpx2.URL(f"{url}?{call.query}")
        secure = target.scheme == "https"
        lines = [
            f"{call.method} {target.raw_path.decode('ascii')} HTTP/1.1",
            f"Host: {target.netloc.decode('ascii')}",
            *(("Content-Type: application/json", f"Content-Length: {len(call.body)}") if call.body else ()),
        ]
        try:
            async with asyncio.timeout(self._answer_seconds):
                _, writer = await asyncio.open_connection(
                    target.host, target.port or (443 if secure else 80), ssl=self._tls if secure else None
                )
                try:
                    writer.write("\r\n".join((*lines, "", "")).encode("ascii") + call.body)
                    await writer.drain()
                finally:
                    writer.close()
                await writer.wait_closed()
        except TimeoutError:
            return f"not sent within {self._answer_seconds:g} s"
        except OSError as error:
            return f"{type(error).__name__}: {error}"
        return ""

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


def text_headers(answer: Answer) -> list[tuple[str, str]]:
    """Header names and values as text."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
