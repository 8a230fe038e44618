"""Whose request it is, whatever a hostile client writes into `X-Forwarded-For`."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.settings import Settings, SettingsError, load
from licensesvc.web.asgi import client_address
from licensesvc.web.forwarded import MAX_HOPS, ForwardedFor, client_of

PROXIES = Settings(trusted_proxies="127.0.0.0/8, ::1, 10.0.0.0/8, fd00::/8").trusted_networks
CLIENT = "203.0.113.9"

noise = st.binary(max_size=60).filter(lambda value: b"\n" not in value)
addresses = st.ip_addresses().map(str)
outside = st.ip_addresses().filter(
    lambda a: not any((getattr(a, "ipv4_mapped", None) or a) in network for network in PROXIES)
)
inside = st.one_of(st.ip_addresses(network="10.0.0.0/8"), st.ip_addresses(network="fd00::/8")).map(str)


@pytest.mark.parametrize(
    ("peer", "headers", "client"),
    [
        (CLIENT, [], CLIENT),
        (CLIENT, [b"1.2.3.4"], CLIENT),  # nobody's proxy
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", [b"203.0.113.9"], CLIENT),
        ("127.0.0.1", [b"1.2.3.4, 203.0.113.9"], CLIENT),
        ("127.0.0.1", [b"1.2.3.4", b"203.0.113.9"], CLIENT),
        ("127.0.0.1", [b"1.2.3.4, 203.0.113.9, 10.1.1.1"], CLIENT),
        ("127.0.0.1", [b"203.0.113.9:4711"], CLIENT),
        ("127.0.0.1", [b"\t203.0.113.9  "], CLIENT),
        ("127.0.0.1", [b"1.2.3.4, unknown"], "127.0.0.1"),
        ("127.0.0.1", [b"1.2.3.4, unknown, 10.1.1.1"], "10.1.1.1"),
        ("127.0.0.1", [b"1.2.3.4,"], "127.0.0.1"),
        ("127.0.0.1", [b""], "127.0.0.1"),
        ("127.0.0.1", [b"10.1.1.1, 10.1.1.2"], "10.1.1.1"),
        ("127.0.0.1", [b"2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::/64"),
        ("127.0.0.1", [b"[2001:db8:1:2:3:4:5:6]:443"], "2001:db8:1:2::/64"),
        ("127.0.0.1", [b"::ffff:203.0.113.9"], CLIENT),
        ("::ffff:127.0.0.1", [b"203.0.113.9"], CLIENT),
        ("::1", [b"203.0.113.9"], CLIENT),
        ("::1%lo", [b"203.0.113.9"], CLIENT),
        ("fd00::5", [b"203.0.113.9"], CLIENT),
        ("2001:db8::1", [b"203.0.113.9"], "2001:db8::/64"),
        ("127.0.0.1", [b"0177.0.0.1"], "127.0.0.1"),
        ("127.0.0.1", ["１.2.3.4".encode()], "127.0.0.1"),
        ("testclient", [b"203.0.113.9"], "testclient"),
    ],
)
def test_the_right_most_untrusted_entry_is_the_client(peer, headers, client):
    assert client_of(peer, headers, PROXIES) == client


@given(peer=outside, headers=st.lists(noise | addresses.map(str.encode), max_size=4))
def test_nobody_who_is_no_proxy_can_be_somebody_else(peer, headers):
    assert client_of(str(peer), headers, PROXIES) == client_of(str(peer), [], PROXIES)


@given(
    invented=st.lists(noise | addresses.map(str.encode), max_size=4),
    client=outside,
    proxies=st.lists(inside, max_size=5),
)
def test_what_a_client_invents_stays_without_effect(invented, client, proxies):
    true = ", ".join([str(client), *proxies]).encode()

    assert client_of("127.0.0.1", [*invented, true], PROXIES) == client_of(str(client), [], PROXIES)


@given(headers=st.lists(noise, max_size=4), peer=addresses | st.text(max_size=40))
def test_no_header_and_no_peer_is_too_strange(headers, peer):
    client = client_of(peer, headers, PROXIES)

    assert len(client) <= 64


@given(host=st.integers(0, 2**64 - 1))
def test_all_addresses_of_one_ipv6_customer_are_one(host):
    address = ipaddress.IPv6Address((0x20010DB8_00010002 << 64) | host)

    assert client_of(str(address), [], PROXIES) == "2001:db8:1:2::/64"


def test_a_long_chain_is_read_only_so_far():
    chain = b", ".join([CLIENT.encode(), *[b"10.0.0.1"] * MAX_HOPS])

    assert client_of("127.0.0.1", [chain], PROXIES) == "10.0.0.1"


async def test_the_scope_carries_it_and_a_unix_socket_has_none():
    seen = []

    async def app(scope, _receive, _send):
        seen.append(client_address(scope))

    site = ForwardedFor(app, PROXIES)
    headers = [(b"host", b"a"), (b"x-forwarded-for", b"203.0.113.9")]
    for client in (("127.0.0.1", 5), None, ("198.51.100.7", 5)):
        await site({"type": "http", "headers": headers, "client": client}, None, None)

    assert seen == [CLIENT, "", "198.51.100.7"]


@pytest.mark.parametrize("text", ["10.0.0.1/8", "example.com", "10.0.0.0/33", "a,b", "10.0.0.0 10.0.0.1"])
def test_networks_that_are_none_are_refused(text):
    with pytest.raises(SettingsError, match="environment"):
        load({}, {"LICENSESVC_TRUSTED_PROXIES": text})


@pytest.mark.parametrize(("text", "count"), [("", 0), ("10.0.0.1", 1), (" 10.0.0.0/8 ,, ::1,", 2)])
def test_networks_are_listed_with_commas(text, count):
    assert len(load({}, {"LICENSESVC_TRUSTED_PROXIES": text}).trusted_networks) == count
