"""One bounded call: so many seconds in all, so many bytes back, no redirect followed, nothing decompressed.

In: the call and what came back. Out: what a status means, trying again.
"""

import asyncio
import ssl
from types import TracebackType
from typing import Final, Self

import httpx2
import msgspec

from licensesvc.outbound.addresses import OutboundRefused, Policy
from licensesvc.outbound.targets import parse_target
from licensesvc.outbound.transport import GuardedTransport, Resolver

__all__ = ["Answer", "Bounds", "OutboundClient", "OutboundFailed", "OutboundRefused"]


class OutboundFailed(Exception):
    """No complete answer came: the text names the kind of failure, never the URL."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds for the whole call and for each step of it, bytes of an answer that are read."""

    total_seconds: float = 15.0
    step_seconds: float = 5.0
    answer_bytes: int = 4_096


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Status and beginning of an answer; `retry_after` is the header as it came."""

    status: int
    body: bytes
    retry_after: str | None


DEFAULT_BOUNDS: Final = Bounds()


class OutboundClient:
    """Makes guarded calls; use as an async context manager. `tls` and `resolver` replace the system's, for tests."""

    def __init__(
        self,
        policy: Policy,
        *,
        bounds: Bounds = DEFAULT_BOUNDS,
        tls: ssl.SSLContext | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self._policy = policy
        self._bounds = bounds
        self._http = httpx2.AsyncClient(
            transport=GuardedTransport(policy, tls=tls, resolver=resolver),
            timeout=httpx2.Timeout(bounds.step_seconds),
            follow_redirects=False,
            trust_env=False,
            headers={"Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def post(self, url: str, *, headers: dict[str, str], body: bytes) -> Answer:
        """POST `body`. Raises OutboundRefused (never called) and OutboundFailed (no complete answer in time)."""
        parse_target(url, self._policy)  # as it is written; the transport sees what httpx2 makes of it
        try:
            async with asyncio.timeout(self._bounds.total_seconds):
                return await self._post(url, headers, body)
        except TimeoutError:
            raise OutboundFailed(f"no complete answer within {self._bounds.total_seconds:g} s") from None
        except (httpx2.TransportError, httpx2.InvalidURL, ssl.SSLError) as error:
            raise OutboundFailed(_kind(error)) from None

    async def _post(self, url: str, headers: dict[str, str], body: bytes) -> Answer:
        beginning = bytearray()
        async with self._http.stream("POST", url, headers=headers, content=body) as response:
            async for part in response.aiter_raw():
                beginning += part
                if len(beginning) > self._bounds.answer_bytes:
                    break
        return Answer(
            status=response.status_code,
            body=bytes(beginning[: self._bounds.answer_bytes]),
            retry_after=response.headers.get("retry-after"),
        )


def _kind(error: Exception) -> str:
    # The text of a certificate error says what is wrong with it; others add nothing.
    return (
        f"{type(error).__name__}: certificate refused" if "CERTIFICATE" in str(error).upper() else type(error).__name__
    )
