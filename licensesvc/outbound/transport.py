"""An httpx2 transport that resolves once, checks every address, and connects to one of those and no other.

In: the guard of a connection. Out: bounds of a whole call (`client`). TLS and `Host` keep the name of the URL, so certificates are checked against
it. There is no second look at the name between check and connect, no proxy from the environment, no redirect.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Any, Final, TypeAlias

import httpcore2
import httpx2

from licensesvc.outbound.addresses import Address, OutboundRefused, Policy, is_loopback, refusal
from licensesvc.outbound.targets import parse_target
from licensesvc.outbound.trust import system_trust

Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a name, as texts; raises OSError when there are none."""

ADDRESSES_TRIED: Final = 3
"""Addresses of one name that are tried when connections fail."""
_LOOKUPS_AT_ONCE: Final = 16
_IDLE_CONNECTIONS: Final = 16
_IDLE_SECONDS: Final = 15.0


class SystemResolver:
    """Asks the system, in threads of its own: a name server that hangs holds up nobody who needs the shared ones.

    One name is looked up once at a time, so a name that hangs holds one thread however often it is called.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUPS_AT_ONCE, thread_name_prefix="lookup")
        self._under_way: dict[str, asyncio.Future[list[str]]] = {}

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of `host`."""
        lookup = self._under_way.get(host)
        if lookup is None:
            lookup = asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port)
            self._under_way[host] = lookup
            lookup.add_done_callback(lambda done: self._finished(host, done))
        return await asyncio.shield(lookup)

    def _finished(self, host: str, lookup: asyncio.Future[list[str]]) -> None:
        del self._under_way[host]
        if not lookup.cancelled():
            lookup.exception()  # seen, also when whoever asked has gone

    def close(self) -> None:
        """Let the threads end."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for _, _, _, _, where in found))


def checked(host: str, texts: Iterable[str], policy: Policy, *, loopback_only: bool = False) -> list[Address]:
    """The addresses of `host`, all of which may be called; raises OutboundRefused when one may not, or there is none."""
    addresses = []
    for text in texts:
        try:
            address = ip_address(text)
        except ValueError:
            raise OutboundRefused("the host has an address that is none") from None
        reason = "a zone's" if "%" in text else refusal(address, policy)
        if reason is None and loopback_only and not is_loopback(address):
            reason = "not loopback, and only loopback may be called without TLS"
        if reason is not None:
            raise OutboundRefused(f"{host} has an address that is {reason}")
        addresses.append(address)
    if not addresses:
        raise OutboundRefused("the host has no address")
    return addresses


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Give it to an `httpx2.AsyncClient`: whatever that client is told to call is checked first. Raises OutboundRefused, and what httpx2 raises."""

    def __init__(self, policy: Policy, *, tls: ssl.SSLContext | None = None, resolver: Resolver | None = None) -> None:
        self._policy = policy
        self._system = None if resolver else SystemResolver()
        resolve = resolver or self._system
        assert resolve is not None
        trust = tls or system_trust()
        self._pools = {
            scheme: httpcore2.AsyncConnectionPool(
                ssl_context=trust,
                max_connections=None,  # whoever calls is bounded; one slow host must not use up the others' connections
                max_keepalive_connections=_IDLE_CONNECTIONS,
                keepalive_expiry=_IDLE_SECONDS,
                network_backend=_CheckedBackend(resolve, policy, loopback_only=scheme == "http"),
            )
            for scheme in ("https", "http")
        }

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request where that is allowed."""
        target = parse_target(str(request.url), self._policy)
        assert isinstance(request.stream, httpx2.AsyncByteStream)
        with _as_httpx_errors():
            answer = await self._pools[target.scheme].handle_async_request(
                httpcore2.Request(
                    method=request.method,
                    url=httpcore2.URL(
                        scheme=target.scheme, host=target.host, port=target.port, target=request.url.raw_path
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                    extensions=request.extensions,
                )
            )
        return httpx2.Response(
            answer.status, headers=answer.headers, stream=_Stream(answer), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            await pool.aclose()
        if self._system:
            self._system.close()


class _CheckedBackend(httpcore2.AnyIOBackend):
    def __init__(self, resolve: Resolver, policy: Policy, *, loopback_only: bool) -> None:
        self._resolve = resolve
        self._policy = policy
        self._loopback_only = loopback_only

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the backend's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve, check all, then connect to one of the very addresses that were checked."""
        failure: httpcore2.NetworkError | httpcore2.TimeoutException | None = None
        for address in (await self._addresses(host, port, timeout))[:ADDRESSES_TRIED]:
            try:
                # An address as text is connected to as it is: nothing looks up a name again.
                return await super().connect_tcp(str(address), port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        assert failure is not None
        raise failure

    async def _addresses(self, host: str, port: int, timeout: float | None) -> list[Address]:  # noqa: ASYNC109
        try:
            named: Sequence[str] = [str(ip_address(host))]
        except ValueError:
            try:
                async with asyncio.timeout(timeout):
                    named = await self._resolve(host, port)
            except TimeoutError:
                raise httpcore2.ConnectTimeout("the name was not resolved in time") from None
            except (OSError, UnicodeError):
                raise httpcore2.ConnectError("the name cannot be resolved") from None
        return checked(host, named, self._policy, loopback_only=self._loopback_only)


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, answer: httpcore2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx_errors():
            async for part in self._answer.aiter_stream():
                yield part

    async def aclose(self) -> None:
        with _as_httpx_errors():
            await self._answer.aclose()


@contextlib.contextmanager
def _as_httpx_errors() -> Iterator[None]:
    try:
        yield
    except (httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
        same_name: type[httpx2.TransportError] = getattr(httpx2, type(error).__name__, httpx2.TransportError)
        raise same_name(str(error)) from error
