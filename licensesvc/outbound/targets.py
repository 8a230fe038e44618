r"""A configured URL, read so strictly that no two readers can disagree about its host.

In: one spelling of a host, the ports that may be called. Out: resolving it. What browsers, libc and libraries read differently (octal,
hexadecimal, decimal or shortened IPv4 addresses, zone ids, Unicode digits, `\\`, `@`, blanks) is refused, not interpreted.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

import msgspec

from licensesvc.outbound.addresses import Address, OutboundRefused, Policy, is_loopback, refusal

MAX_URL: Final = 1_000
"""Characters of a configured URL."""
_MAX_NAME: Final = 253
_PORTS: Final = {"https": 443, "http": 80}
_LEAST_FREE_PORT: Final = 1_024
_LAST_PORT: Final = 65_535

REFUSED_PORTS: Final = frozenset(
    {
        *(1433, 1521, 1719, 1720, 1723, 2049, 2375, 2376, 2379, 2380, 3306, 3389, 3659, 4045, 4190, 5060, 5061, 5432),
        *(5672, 5900, 5984, 6000, 6379, 6443, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 9042, 9092, 9200, 9300),
        *(10080, 10250, 10255, 11211, 27017, 27018, 50070),
    }
)
"""Databases, cluster managers, and what browsers refuse: a request there is an attack. Of the ports below 1024 only 443 is called (80: `http`)."""

_PRIVATE_NAMES: Final = (
    "localhost",
    "local",
    "localdomain",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "home.arpa",
)
"""Ends of names that only a private network resolves (RFC 6761, 6762, 8375, ICANN)."""

_URL: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9.-]{1,253}))"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<path>/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?"
    r"(?P<query>\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*)?",
    re.ASCII,
)
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
"""A last label like this makes the whole name an IPv4 address, says the WHATWG URL standard."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a call goes: `host` in lower case, `address` when the URL names one instead of a name."""

    scheme: str
    host: str
    port: int
    address: Address | None


def parse_target(url: str, policy: Policy) -> Target:
    """Read a configured URL; raises OutboundRefused. An address in it is checked here already, those of a name when it is called."""
    found = _URL.fullmatch(url) if len(url) <= MAX_URL else None
    if found is None:
        raise OutboundRefused(
            f"the URL must be https://host[:port]/path, in ASCII, without user, fragment or odd characters, at most {MAX_URL} characters"
        )
    scheme = found["scheme"]
    if scheme == "http" and not policy.allows_loopback:
        raise OutboundRefused("the URL must begin with https://")
    port = int(found["port"] or _PORTS[scheme])
    if (port < _LEAST_FREE_PORT and port != _PORTS[scheme]) or port > _LAST_PORT or port in REFUSED_PORTS:
        raise OutboundRefused(f"port {port} is never called")
    if found["six"] is not None:
        return _of_address(scheme, _six(found["six"]), port, policy)
    host = found["name"].lower()
    labels = host.split(".")
    if len(host) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise OutboundRefused("the host is no name")
    if _NUMBER.fullmatch(labels[-1]):
        return _of_address(scheme, _four(host), port, policy)
    if not policy.allowed and (len(labels) == 1 or any(f".{host}".endswith(f".{end}") for end in _PRIVATE_NAMES)):
        raise OutboundRefused("the host is a name of a private network")
    return Target(scheme=scheme, host=host, port=port, address=None)


def _of_address(scheme: str, address: Address, port: int, policy: Policy) -> Target:
    if (reason := refusal(address, policy)) is not None:
        raise OutboundRefused(f"the address is {reason}")
    if scheme == "http" and not is_loopback(address):
        raise OutboundRefused("the URL must begin with https://: only loopback may be called without TLS")
    return Target(scheme=scheme, host=address.compressed, port=port, address=address)


def _four(host: str) -> IPv4Address:
    try:
        return IPv4Address(host)  # four decimal numbers without leading zeros, nothing else
    except AddressValueError:
        raise OutboundRefused("an IPv4 address is written as four decimal numbers") from None


def _six(text: str) -> IPv6Address:
    try:
        return IPv6Address(text)
    except AddressValueError:
        raise OutboundRefused("the text in brackets is no IPv6 address") from None
