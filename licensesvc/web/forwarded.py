"""Whose request it is: the peer, or whom a trusted proxy names in `X-Forwarded-For`.

In: reading and believing the header. Out: `web/asgi.py:client_address`, which hands the outcome to everybody else.

Anybody may send the header. Each proxy appends the address that it saw, so the entries are true from the right for as long as
the one who wrote them is trusted: the right-most address that is no trusted proxy is the client. What stands left of it, or of
anything that is no address, is the client's own invention.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from licensesvc.web.asgi import CLIENT_ADDRESS

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

HEADER: Final = b"x-forwarded-for"
IPV6_PREFIX: Final = 64
"""Bits of an IPv6 address that one customer of a provider has for themselves."""
MAX_HOPS: Final = 32
"""Entries read, from the right."""

_CACHED: Final = 4_096
"""Addresses; never whole headers, whose size is the client's choice."""

_ENTRY: Final = re.compile(
    r"\[(?P<v6>[0-9A-Fa-f:.]{2,45})\](?::\d{1,5})?|(?P<v4>[0-9.]{7,15}):\d{1,5}|(?P<plain>[0-9A-Fa-f:.]{2,45})"
)


class ForwardedFor:
    """Puts the client's address into the scope of every request."""

    def __init__(self, app: ASGIApp, trusted: Iterable[Network]) -> None:
        self._app = app
        self._trusted = tuple(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the scope on."""
        if scope["type"] == ScopeType.HTTP:
            peer = scope.get("client")
            entries = [value for name, value in scope["headers"] if name == HEADER]
            scope[CLIENT_ADDRESS] = client_of(peer[0], entries, self._trusted) if peer else ""  # type: ignore[typeddict-unknown-key]
        await self._app(scope, receive, send)


def client_of(peer: str, headers: Sequence[bytes], trusted: Sequence[Network]) -> str:
    """The address to hold responsible, IPv6 by its /64; `headers` are the values of all `X-Forwarded-For`, in order."""
    client = _address(peer.partition("%")[0])
    if client is None:
        return peer[:64]
    if headers and _among(client, trusted):
        for entry in reversed(b",".join(headers).rsplit(b",", MAX_HOPS)[-MAX_HOPS:]):
            hop = _address_of(entry)
            if hop is None:
                break
            client = hop
            if not _among(hop, trusted):
                break
    return _shown(client)


def _address_of(entry: bytes) -> Address | None:
    """One entry: an address, as some proxies write it with a port."""
    match = _ENTRY.fullmatch(entry.strip().decode("latin-1"))
    return _address(match["v6"] or match["v4"] or match["plain"]) if match else None


@lru_cache(_CACHED)
def _address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


@lru_cache(_CACHED)
def _shown(address: Address) -> str:
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, IPV6_PREFIX), strict=False))
    return str(address)


def _among(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
