"""Configured calls reach the public address that was checked, and nothing else: hundreds of ways around, and not one connection."""

import asyncio
import ssl
from ipaddress import ip_address, ip_network

import httpx2
import pytest
import trustme

from licensesvc.outbound.addresses import METADATA, Policy, refusal
from licensesvc.outbound.client import Bounds, OutboundClient, OutboundFailed, OutboundRefused
from licensesvc.outbound.targets import MAX_URL, REFUSED_PORTS, parse_target
from licensesvc.outbound.transport import GuardedTransport, SystemResolver
from tests.outbound.payloads import ANSWERS, HOSTS, URLS

NOTHING_ALLOWED = Policy()
EVERYTHING = Policy(allowed=(ip_network("0.0.0.0/0"), ip_network("::/0")))
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts nobody; loading the system's trust is slow."""
LOOPBACK = Policy(allowed=(ip_network("127.0.0.0/8"), ip_network("::1/128")))


def always(*addresses):
    async def resolve(_host, _port):
        return addresses

    return resolve


async def post(policy, url, resolver=None, tls=None, **options):
    async with OutboundClient(policy, resolver=resolver or always("127.0.0.1"), tls=tls or TLS, **options) as client:
        return await client.post(url, headers={}, body=b"{}")


async def test_no_payload_connects(listener):
    """Names resolve to loopback, where somebody listens: whatever gets through is counted."""
    payloads = [f"https://{host}:{{p}}/" for host in HOSTS] + list(URLS)
    assert len(set(payloads)) == len(payloads) >= 250
    outcomes = {}
    async with OutboundClient(NOTHING_ALLOWED, resolver=always("127.0.0.1"), tls=TLS) as client:
        for payload in payloads:
            url = payload.replace("{p}", str(listener.port))
            try:
                outcomes[payload] = await client.post(url, headers={}, body=b"{}")
            except Exception as refused:  # noqa: BLE001 - the kind is what is asserted
                outcomes[payload] = type(refused)
    assert {payload: outcome for payload, outcome in outcomes.items() if outcome is not OutboundRefused} == {}
    assert listener.connections == 0


@pytest.mark.parametrize("policy", [NOTHING_ALLOWED, LOOPBACK])
async def test_no_payload_connects_through_an_httpx_client_either(listener, policy):
    """httpx normalizes a URL before the transport sees it, so what it makes of one is what is checked."""
    client = httpx2.AsyncClient(transport=GuardedTransport(policy, resolver=always("10.0.0.1"), tls=TLS))
    async with client:
        for payload in [f"https://{host}:{{p}}/" for host in HOSTS] + list(URLS):
            url = payload.replace("{p}", str(listener.port))
            try:
                await client.post(url)
            except (OutboundRefused, httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError):
                continue
            except httpx2.TransportError as reached:
                if policy is LOOPBACK:  # a plain loopback address may be called, and hangs up
                    continue
                raise AssertionError(payload) from reached
            raise AssertionError(payload)
    assert listener.connections == 0 or policy is LOOPBACK


@pytest.mark.parametrize("answer", ANSWERS, ids=str)
async def test_no_answer_of_a_name_server_connects(listener, answer):
    with pytest.raises(OutboundRefused):
        await post(NOTHING_ALLOWED, f"https://hooks.example:{listener.port}/", always(*answer))
    assert listener.connections == 0


async def test_control_the_same_calls_connect_without_the_guard(listener):
    """With every network allowed, the listener is reached: the counts above could have been others."""
    reached = ["127.0.0.1", "127.0.0.2", "[::1]", "localhost", "db", "hooks.example", "metadata.google.internal"]
    for host in reached:
        with pytest.raises(OutboundFailed):  # the listener hangs up
            await post(EVERYTHING, f"https://{host}:{listener.port}/")
    assert listener.connections == len(reached)


async def test_control_odd_spellings_are_loopback_for_readers_without_the_guard(listener):
    """An HTTP client takes the first ones for loopback, sockets the others."""
    by_client = [
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.1",
        "0",
        "user:pw@127.0.0.1",
        "a.example@127.0.0.1",
    ]
    async with httpx2.AsyncClient(trust_env=False, verify=TLS) as client:
        for spelling in by_client:
            with pytest.raises(httpx2.TransportError):
                await client.post(f"http://{spelling}:{listener.port}/")
    by_socket = [
        "0177.0.0.1",
        "0177.0.0.01",
        "127.0.1",
        "１２７.０.０.１",
        "127。0。0。1",
        "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
        "::ffff:127.0.0.1",
    ]
    for spelling in by_socket:
        reader, writer = await asyncio.open_connection(spelling, listener.port)
        assert await reader.read() == b""
        writer.close()
    assert listener.connections == len(by_client) + len(by_socket)


class Rebinding:
    """A name server that says something public first and loopback ever after."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, _host, _port):
        self.asked += 1
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]]


async def test_a_name_that_is_bound_anew_between_check_and_connect_changes_nothing(listener, monkeypatch):
    """The address that was checked is the one that is connected to, and the name is asked for once."""
    connected = []

    async def create_connection(_loop, _factory, host, port, **_options):
        connected.append((host, port))
        raise ConnectionRefusedError

    monkeypatch.setattr(type(asyncio.get_running_loop()), "create_connection", create_connection)
    names = Rebinding("9.9.9.9", "127.0.0.1")
    with pytest.raises(OutboundFailed):
        await post(NOTHING_ALLOWED, f"https://hooks.example:{listener.port}/", names)
    assert connected == [("9.9.9.9", listener.port)]
    assert names.asked == 1
    with pytest.raises(OutboundRefused):
        await post(NOTHING_ALLOWED, f"https://hooks.example:{listener.port}/", names)
    assert len(connected) == 1
    assert listener.connections == 0


async def test_the_next_address_is_tried_when_one_does_not_connect():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        answer = await post(LOOPBACK, f"http://hooks.example:{port}/", always("127.0.0.2", "127.0.0.1"))
    assert answer.status == 204


async def test_a_redirect_is_an_answer_and_nothing_more(listener):
    location = f"http://127.0.0.1:{listener.port}/secret"
    listener.answer = f"HTTP/1.1 307 X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
    answer = await post(LOOPBACK, f"http://127.0.0.1:{listener.port}/hook")
    assert answer.status == 307
    assert listener.connections == 1


async def test_proxies_of_the_environment_are_not_used(listener, monkeypatch):
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{listener.port}")
    with pytest.raises(OutboundRefused):
        await post(NOTHING_ALLOWED, "https://hooks.example/")
    assert listener.connections == 0


async def test_plain_http_is_for_loopback_alone(listener):
    some = Policy(allowed=(ip_network("10.0.0.0/8"),))
    with pytest.raises(OutboundRefused, match="https://"):
        await post(some, f"http://10.0.0.1:{listener.port}/")
    both = Policy(allowed=(*LOOPBACK.allowed, ip_network("10.0.0.0/8")))
    for resolved in ("10.0.0.1", "9.9.9.9"):
        with pytest.raises(OutboundRefused, match="without TLS"):
            await post(both, f"http://hooks.example:{listener.port}/", always(resolved))
    assert listener.connections == 0


@pytest.mark.parametrize("network", METADATA, ids=str)
def test_metadata_is_refused_whatever_is_allowed(network):
    first = network.network_address + min(1, network.num_addresses - 1)
    assert refusal(first, EVERYTHING) == "a cloud's metadata service"
    if first.version == 4:
        for prefix in ("::ffff:0:0", "64:ff9b::", "64:ff9b:1::", "::"):
            assert refusal(ip_address(int(ip_address(prefix)) + int(first)), EVERYTHING) is not None, prefix


@pytest.mark.parametrize(
    "address",
    [
        *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
        *(
            "128.0.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
        ),
        *(
            "223.255.255.255",
            "2606:4700::1",
            "2400:3200::1",
            "2001:4860:4860::8888",
            "2a00:1450::1",
            "2003::1",
            "3ffe::1",
        ),
    ],
)
def test_public_addresses_may_be_called(address):
    assert refusal(ip_address(address), NOTHING_ALLOWED) is None


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://hooks.example", "hooks.example", 443),
        ("https://Hooks.Example/a/b?c=d&e=%20", "hooks.example", 443),
        ("https://hooks.example:8443/", "hooks.example", 8443),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", 443),
        ("https://1.1.1.1/", "1.1.1.1", 443),
        ("https://[2606:4700:0::1]:65535/", "2606:4700::1", 65535),
        ("https://a-b.1c.example/~x/:@!$&'()*+,;=", "a-b.1c.example", 443),
        ("https://hooks.example/?token=" + "a" * (MAX_URL - 29), "hooks.example", 443),
    ],
)
def test_honest_urls_are_read(url, host, port):
    target = parse_target(url, NOTHING_ALLOWED)
    assert (target.host, target.port) == (host, port)


@pytest.mark.parametrize("port", sorted(REFUSED_PORTS))
def test_dangerous_ports_are_refused_on_loopback_too(port):
    with pytest.raises(OutboundRefused, match="port"):
        parse_target(f"http://127.0.0.1:{port}/", LOOPBACK)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


async def tls_server(authority, name):
    """A server with a certificate for `name`, the server names it was asked for, and its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    asked = []
    context.sni_callback = lambda _socket, server_name, _context: asked.append(server_name)
    heard = []

    async def serve(reader, writer):
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    return server, server.sockets[0].getsockname()[1], asked, heard


async def test_tls_and_host_keep_the_name_of_the_url(authority):
    server, port, asked, heard = await tls_server(authority, "hooks.example")
    async with server:
        tls = ssl.create_default_context()
        authority.configure_trust(tls)
        answer = await post(LOOPBACK, f"https://hooks.example:{port}/hook?a=b", tls=tls)
        assert (answer.status, answer.body) == (200, b"ok")
        assert asked == ["hooks.example"]
        assert heard[0].startswith(b"POST /hook?a=b HTTP/1.1\r\n")
        assert f"host: hooks.example:{port}\r\n".encode() in heard[0].lower()


async def test_a_certificate_for_another_name_or_of_nobody_is_refused(authority):
    server, port, _, heard = await tls_server(authority, "other.example")
    async with server:
        tls = ssl.create_default_context()
        authority.configure_trust(tls)
        with pytest.raises(OutboundFailed, match="certificate"):
            await post(LOOPBACK, f"https://hooks.example:{port}/", tls=tls)
        with pytest.raises(OutboundFailed, match="certificate"):
            await post(LOOPBACK, f"https://other.example:{port}/")
    assert heard == []


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 20_000, 200, b"x" * 100),
        (b"HTTP/1.1 500 No\r\nRetry-After: 7\r\nContent-Length: 3\r\n\r\nabc", 500, b"abc"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", 200, b"abc"),
    ],
)
async def test_of_an_answer_only_the_beginning_is_read_and_as_it_came(listener, answer, status, body):
    listener.answer = answer
    got = await post(LOOPBACK, f"http://127.0.0.1:{listener.port}/", bounds=Bounds(answer_bytes=100))
    assert (got.status, got.body) == (status, body)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000,
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"\x00\x01\x02",
    ],
    ids=["cut", "cut chunk", "endless header", "odd status", "no http", "noise"],
)
async def test_an_answer_that_is_cut_or_none_is_a_failure(listener, answer):
    listener.answer = answer
    with pytest.raises(OutboundFailed):
        await post(LOOPBACK, f"http://127.0.0.1:{listener.port}/")


async def test_a_name_server_that_hangs_is_bounded():
    async def hang(_host, _port):
        await asyncio.Event().wait()

    with pytest.raises(OutboundFailed, match="ConnectTimeout"):
        await post(NOTHING_ALLOWED, "https://hooks.example/", hang, bounds=Bounds(step_seconds=0.01))
    with pytest.raises(OutboundFailed, match="within"):
        await post(NOTHING_ALLOWED, "https://hooks.example/", hang, bounds=Bounds(total_seconds=0.01))


async def test_the_systems_resolver_asks_once_for_callers_at_the_same_time():
    resolver = SystemResolver()
    try:
        first, second = await asyncio.gather(resolver("localhost", 443), resolver("localhost", 443))
        assert "127.0.0.1" in first
        assert first is second
        with pytest.raises(OSError):
            await resolver("no-such-name.invalid", 443)
    finally:
        resolver.close()


async def test_nothing_of_a_url_reaches_an_error():
    with pytest.raises(OutboundRefused) as refused:
        await post(NOTHING_ALLOWED, "https://127.0.0.1/hook?token=SECRET")
    assert "SECRET" not in str(refused.value)
