"""Signed calls to the marketplace's open API (spec §§1.1, 1.2, 1.6).

In: order/query over strict TLS with bounds and fail-over. Out: retries (the outbox), reading the answer (`orders`).
"""

import asyncio
import ssl
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx2
import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.marketplace.huawei import aksk
from licensesvc.marketplace.huawei.orders import MalformedAnswer, OrderInfo, parse_order_answer

ORDER_QUERY_PATH = "/api/mkp-openapi-public/global/v1/order/query"
TOTAL_SECONDS = 3.0
CONNECT_SECONDS = 1.0
"""Short enough that the second host still gets its turn within the total."""
MAX_ANSWER_BYTES = 1024 * 1024


class MarketplaceUnreachable(Exception):
    """No host answered in time, or the connection broke."""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Where and as whom to call: base URLs, primary first, and the seller's AK/SK."""

    hosts: tuple[str, ...]
    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"Account(hosts={self.hosts!r}, access_key={self.access_key!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("hosts", self.hosts), ("access_key", self.access_key)]


class MarketplaceClient:
    """A pool of connections to marketplaces, shared by all accounts; use as an async context manager."""

    def __init__(
        self,
        tls: ssl.SSLContext | None = None,
        total_seconds: float = TOTAL_SECONDS,
        around: Callable[[str], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        """`around` gives the context of a call by its name: a span."""
        self._around = around
        self._total_seconds = total_seconds
        self._http = httpx2.AsyncClient(
            verify=tls or ssl.create_default_context(),
            timeout=httpx2.Timeout(total_seconds, connect=min(CONNECT_SECONDS, total_seconds)),
            follow_redirects=False,
            trust_env=False,
            # A compressed answer could unfold beyond any bound.
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def order_query(self, account: Account, order_id: str, line_id: str | None, now: Instant) -> OrderInfo:
        """Ask for one order, 3 s in total; the next host is tried only when no connection came about.

        Raises `MarketplaceUnreachable`, `MarketplaceRefusal` (an error code) or `MalformedAnswer`.
        """
        names = {"orderId": order_id} if line_id is None else {"orderId": order_id, "orderLineId": line_id}
        target = f"{ORDER_QUERY_PATH}?{urlencode(names, quote_via=quote)}"
        try:
            with self._around("order/query"):
                async with asyncio.timeout(self._total_seconds):
                    status, body = await self._get(account, target, now)
        except (TimeoutError, httpx2.TransportError) as error:
            raise MarketplaceUnreachable(f"{type(error).__name__}: {error}") from error
        try:
            order = parse_order_answer(body)
        except MalformedAnswer as error:
            raise MalformedAnswer(f"HTTP {status}: {error}") from None
        if order.order_id != order_id:
            raise MalformedAnswer("the answer is about another order")
        return order

    async def _get(self, account: Account, target: str, now: Instant) -> tuple[int, bytes]:
        unreachable: httpx2.TransportError | None = None
        for host in account.hosts:
            try:
                return await self._get_from(httpx2.URL(host.rstrip("/") + target), account, now)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                unreachable = error
        raise unreachable or httpx2.ConnectError("the account has no host")

    async def _get_from(self, url: httpx2.URL, account: Account, now: Instant) -> tuple[int, bytes]:
        path, _, query = url.raw_path.decode("ascii").partition("?")
        headers = [("Host", url.netloc.decode("ascii")), ("X-Sdk-Date", aksk.sdk_date(now))]
        authorization = aksk.sign(
            method="GET",
            path=path,
            query=query,
            headers=headers,
            body=b"",
            access_key=account.access_key,
            secret_key=account.secret_key,
        )
        answer = bytearray()
        async with self._http.stream("GET", url, headers=[*headers, ("Authorization", authorization)]) as response:
            if response.is_redirect:
                raise MalformedAnswer(f"redirect refused, HTTP {response.status_code}")
            async for chunk in response.aiter_raw():
                answer += chunk
                if len(answer) > MAX_ANSWER_BYTES:
                    raise MalformedAnswer(f"answer exceeds {MAX_ANSWER_BYTES} bytes")
        return response.status_code, bytes(answer)
