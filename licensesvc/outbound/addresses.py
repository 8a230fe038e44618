"""Which addresses a configured call may reach: a deny list in words, and exceptions that the operator names.

In: values only. Out: names, sockets. `ipaddress.is_global` decides nothing here: on Python 3.11 it calls 64:ff9b::127.0.0.1 and 2002:7f00:1:: global.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, TypeAlias

import msgspec

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


class OutboundRefused(Exception):
    """The call is not made: its URL, port or address is none that may be called. The text says why, in words without the URL."""


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """Networks that may be called although the deny list holds them; a loopback network among them also allows `http`."""

    allowed: tuple[Network, ...] = ()

    @property
    def allows_loopback(self) -> bool:
        """Whether `http` is worth a look: it is spoken on loopback only."""
        return any(_overlaps(network, loopback) for network in self.allowed for loopback in _LOOPBACK)


_LOOPBACK: Final = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")

DENIED: Final[tuple[tuple[Network, str], ...]] = tuple(
    (ip_network(text), reason)
    for text, reason in (
        ("0.0.0.0/8", "unspecified"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "6to4"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarking"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::ffff:0:0:0/96", "IPv4-translated"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("100::/64", "discarded"),
        ("2001::/32", "Teredo"),
        ("2001:2::/48", "for benchmarking"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "for documentation"),
        ("5f00::/16", "reserved"),
        ("fc00::/7", "unique local"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
"""IANA's special-purpose registries (RFC 6890 and later), and what carries an IPv4 address inside an IPv6 one."""

METADATA: Final[tuple[Network, ...]] = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # AWS, Azure, Google, Huawei Cloud, …: nothing in it is ever a receiver
        "100.100.100.200/32",  # Alibaba Cloud
        "168.63.129.16/32",  # Azure; looks public
        "192.0.0.192/32",  # Oracle Cloud
        "fd00:ec2::/32",  # AWS
        "fd20:ce::/32",  # Google
        "fe80::/10",
    )
)
"""Where clouds hand out credentials to whoever asks from inside: refused whatever the policy allows."""

_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_LOW_32_BITS: Final = (*_NAT64, IPv6Network("::/96"), IPv6Network("::ffff:0:0:0/96"))
_ISATAP: Final = frozenset({0x0000_5EFE, 0x0200_5EFE})
"""The upper half of an interface identifier whose lower half is an IPv4 address (RFC 5214)."""


def refusal(address: Address, policy: Policy) -> str | None:
    """Why this address must not be called; None = it may be."""
    inner = embedded(address)
    if _within(address, METADATA) or (inner is not None and _within(inner, METADATA)):
        return "a cloud's metadata service"
    if _within(address, policy.allowed):
        return None
    for network, reason in DENIED:
        if address in network:
            return reason
    if isinstance(address, IPv6Address):
        if address not in _GLOBAL_UNICAST:
            return "not global"
        if inner is not None:  # ISATAP: DENIED holds all other forms
            return "ISATAP"
    return None


def is_loopback(address: Address) -> bool:
    """Whether only this host is meant, in the plain forms of that."""
    return _within(address, _LOOPBACK)


def embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one carries, where a router or a kernel may take it out again."""
    if isinstance(address, IPv4Address):
        return None
    if (plain := address.ipv4_mapped or address.sixtofour) is not None:
        return plain
    if (teredo := address.teredo) is not None:
        return teredo[1]
    number = int(address)
    if any(address in network for network in _LOW_32_BITS) or (number >> 32) & 0xFFFF_FFFF in _ISATAP:
        return IPv4Address(number & 0xFFFF_FFFF)
    return None


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def _overlaps(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)
