"""Signed calls to the marketplace's open API (spec §§1.1, 1.2, 1.9).

In: one call over strict TLS with bounds, fail-over and the breaker; order/query. Out: retries (the outbox, the relay), reading
answers (`orders`, `answers`), the calls about license codes (`open_api_client`).

No answer is trusted: whatever a host does, a caller sees the bytes of an answer or one of `MarketplaceUnreachable`,
`MarketplaceRefusal`, `MalformedAnswer` and `BreakerOpen`.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlencode

import httpx2
import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.marketplace.huawei import aksk
from licensesvc.marketplace.huawei.answers import refuses_signature
from licensesvc.marketplace.huawei.breaker import Breaker
from licensesvc.marketplace.huawei.orders import MalformedAnswer, OrderInfo, parse_order_answer
from licensesvc.outbound.trust import system_trust

ORDER_QUERY_PATH: Final = "/api/mkp-openapi-public/global/v1/order/query"
TOTAL_SECONDS: Final = 3.0
"""Of one call, both hosts and every wait together."""
CONNECT_SECONDS: Final = 1.0
"""Short enough that the second host still gets its turn within the total."""
MAX_ANSWER_BYTES: Final = 1024 * 1024
MAX_CONNECTIONS: Final = 32
"""To all marketplaces together; who finds none free waits, within the total."""
ACCOUNTS_KEPT: Final = 1_000
"""Breakers in memory; beyond, the oldest is forgotten."""

_NOTHING_SENT: Final = (httpx2.ConnectError, httpx2.ConnectTimeout)


class MarketplaceUnreachable(Exception):
    """No host answered in time, or the connection broke; unless `sent` is False the call may have had its effect."""

    def __init__(self, message: str, *, sent: bool = True) -> None:
        super().__init__(message)
        self.sent = sent


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """Where and as whom to call: base URLs, primary first, and the seller's AK/SK."""

    hosts: tuple[str, ...]
    access_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"Account(hosts={self.hosts!r}, access_key={self.access_key!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("hosts", self.hosts), ("access_key", self.access_key)]


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """What came back: the body whatever the status, for both generations mean other things by it (spec §1.8)."""

    status: int
    body: bytes


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
        self._breakers: dict[Account, Breaker] = {}
        self._http = httpx2.AsyncClient(
            verify=tls or system_trust(),
            timeout=httpx2.Timeout(total_seconds, connect=min(CONNECT_SECONDS, total_seconds)),
            limits=httpx2.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
            follow_redirects=False,
            trust_env=False,
            # A compressed answer could unfold beyond any bound.
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # none is kept, none is sent
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    def refusals(self) -> Mapping[str, int]:
        """Consecutive authentication refusals by access key, where there are any; beyond 5 the gateway locks the key."""
        counts: dict[str, int] = {}
        for account, breaker in self._breakers.items():
            if breaker.refusals:
                counts[account.access_key] = max(breaker.refusals, counts.get(account.access_key, 0))
        return counts

    async def order_query(self, account: Account, order_id: str, line_id: str | None, now: Instant) -> OrderInfo:
        """Ask for one order (spec §1.6).

        Raises `MarketplaceUnreachable`, `MarketplaceRefusal` (an error code), `MalformedAnswer` or `BreakerOpen`.
        """
        names = {"orderId": order_id} if line_id is None else {"orderId": order_id, "orderLineId": line_id}
        target = f"{ORDER_QUERY_PATH}?{urlencode(names, quote_via=quote)}"
        answered = await self.call(account, "GET", target, b"", now, name="order/query")
        try:
            order = parse_order_answer(answered.body)
        except MalformedAnswer as error:
            raise MalformedAnswer(f"HTTP {answered.status}: {error}") from None
        if order.order_id != order_id:
            raise MalformedAnswer("the answer is about another order")
        return order

    async def call(
        self, account: Account, method: str, target: str, body: bytes, now: Instant, *, name: str
    ) -> Answered:
        """One signed call, `TOTAL_SECONDS` in total; the next host is tried only when no connection came about.

        Raises `MarketplaceUnreachable`, `MalformedAnswer` (a redirect, too much) or `BreakerOpen`.
        """
        breaker = self._breaker(account)
        entered = False
        with self._around(name):
            try:
                async with asyncio.timeout(self._total_seconds):
                    await breaker.enter(now)
                    entered = True
                    answered = await self._send(account, method, target, body, now)
            except TimeoutError as error:
                raise MarketplaceUnreachable(f"no answer in {self._total_seconds} s", sent=entered) from error
            except httpx2.TransportError as error:
                sent = not isinstance(error, (*_NOTHING_SENT, httpx2.PoolTimeout))
                raise MarketplaceUnreachable(f"{type(error).__name__}: {error}", sent=sent) from error
            finally:
                if entered:
                    breaker.leave()
        self._judge(account, breaker, answered, now)
        return answered

    def _breaker(self, account: Account) -> Breaker:
        """A corrected secret is another account, so it is tried at once."""
        breaker = self._breakers.get(account)
        if breaker is None:
            if len(self._breakers) >= ACCOUNTS_KEPT:
                del self._breakers[next(iter(self._breakers))]
            breaker = self._breakers[account] = Breaker()
        return breaker

    def _judge(self, account: Account, breaker: Breaker, answered: Answered, now: Instant) -> None:
        match refuses_signature(answered.status, answered.body):
            case True:
                breaker.refused(now)
            case False:
                breaker.accepted()
                for other, same_key in self._breakers.items():
                    if other.access_key == account.access_key and same_key is not breaker:
                        same_key.refusals = 0  # the gateway counts by key, whatever the secret was

    async def _send(self, account: Account, method: str, target: str, body: bytes, now: Instant) -> Answered:
        unreachable: httpx2.TransportError | None = None
        for host in account.hosts:
            try:
                return await self._send_to(httpx2.URL(host.rstrip("/") + target), account, method, body, now)
            except _NOTHING_SENT as error:
                unreachable = error
        raise unreachable or httpx2.ConnectError("the account has no host")

    async def _send_to(self, url: httpx2.URL, account: Account, method: str, body: bytes, now: Instant) -> Answered:
        path, _, query = url.raw_path.decode("ascii").partition("?")
        headers = [("Host", url.netloc.decode("ascii")), ("X-Sdk-Date", aksk.sdk_date(now))]
        if body:
            headers.append(("Content-Type", "application/json;charset=UTF-8"))
        authorization = aksk.sign(
            method=method,
            path=path,
            query=query,
            headers=headers,
            body=body,
            access_key=account.access_key,
            secret_key=account.secret_key,
        )
        answer = bytearray()
        sent = [*headers, ("Authorization", authorization)]
        async with self._http.stream(method, url, headers=sent, content=body or None) as response:
            if response.is_redirect:
                raise MalformedAnswer(f"redirect refused, HTTP {response.status_code}")
            async for chunk in response.aiter_raw():
                answer += chunk
                if len(answer) > MAX_ANSWER_BYTES:
                    raise MalformedAnswer(f"answer exceeds {MAX_ANSWER_BYTES} bytes")
        return Answered(status=response.status_code, body=bytes(answer))
