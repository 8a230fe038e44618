"""What the shipped profiles pass on, byte for byte, what they refuse, and what they try again: against upstreams that keep every byte."""

import asyncio
import contextlib
import socket
import ssl

import pytest
import trustme

from tests.support_proxy import Files, free_port, running_caddy, running_nginx

LIMIT_S = 20.0
SIGN = b'sign_type="HMAC-SHA256", signature= "q83vEjRWeJA="'
ANSWER = b"HTTP/1.1 %s\r\ncontent-length: 2\r\nconnection: close\r\n%s\r\n\r\nok"
PROXIES = {"nginx": running_nginx, "caddy": running_caddy}


class Upstream:
    """Answers every request the same way, or hangs up on it; keeps what it was sent."""

    def __init__(self):
        self.requests = []
        self.status = b"200 OK"
        self.header = b"Body-Sign: " + SIGN
        self.hangs_up = False
        self.port = 0

    async def __call__(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
            self.requests.append(head + await reader.readexactly(length))
            if not self.hangs_up:
                writer.write(ANSWER % (self.status, self.header))
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


class Proxy:
    def __init__(self, name, authority, port):
        self.name = name
        self.port = port
        self.context = ssl.create_default_context()
        authority.configure_trust(self.context)

    async def ask(self, request):
        """Send bytes over TLS and return the answer's bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.context)
        try:
            async with asyncio.timeout(LIMIT_S):
                writer.write(request)
                return await reader.read()
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
async def upstreams():
    async with contextlib.AsyncExitStack() as stack:
        made = [Upstream(), Upstream()]
        for upstream in made:
            server = await asyncio.start_server(upstream, "127.0.0.1", 0)
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)
            upstream.port = server.sockets[0].getsockname()[1]
        yield made


@pytest.fixture(params=PROXIES)
def start(request, authority, tmp_path):
    """Start the proxy in front of these ports."""
    with contextlib.ExitStack() as stack:

        def start(*ports):
            files = Files(authority, tmp_path)
            return Proxy(request.param, authority, stack.enter_context(PROXIES[request.param](tmp_path, files, ports)))

        yield start


def request(method=b"GET", path=b"/", *headers, body=b"", host=b"licenses.example"):
    lines = [b"%s %s HTTP/1.1" % (method, path), b"Host: " + host, b"Connection: close", *headers]
    if body or method == b"POST":
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + body


@pytest.mark.parametrize(
    "path",
    [
        b"/callbacks/con_1?activity=getLicense&orderId=CS%2F1&a=b+c&empty=",
        b"/a/%2e/b%2Fc/%E8%AE%B8?x=%20",
        b"/api/mkp-openapi-public/global/v1/license/activate",
    ],
)
async def test_host_path_query_and_body_arrive_as_they_were_sent(start, upstreams, path):
    proxy = start(upstreams[0].port)

    answer = await proxy.ask(
        request(b"POST", path, b"X-Sdk-Date: 20250522T020304Z", body=b'{"a": 1}', host=b"Licenses.Example:8443")
    )

    assert answer.startswith(b"HTTP/1.1 200 ")
    [arrived] = upstreams[0].requests
    head, _, body = arrived.partition(b"\r\n\r\n")
    assert head.startswith(b"POST %s HTTP/1.1\r\n" % path)
    assert b"\r\nhost: licenses.example:8443\r\n" in head.lower()
    assert b"Licenses.Example:8443" in head
    assert body == b'{"a": 1}'


async def test_the_control_a_spoilt_profile_is_noticed(authority, tmp_path, upstreams):
    spoilt = {"proxy_pass http://licensesvc;": "proxy_pass http://licensesvc/;", "$http_host;": "$host;"}
    with running_nginx(tmp_path, Files(authority, tmp_path), [upstreams[0].port], spoilt=spoilt) as port:
        await Proxy("nginx", authority, port).ask(request(b"GET", b"/a/%2e/b", host=b"Licenses.Example:8443"))

    [arrived] = upstreams[0].requests
    assert b"/a/%2e/b" not in arrived
    assert b"Licenses.Example:8443" not in arrived


@pytest.mark.parametrize("status", [b"200 OK", b"403 Forbidden", b"500 Oops"])
@pytest.mark.parametrize("name", [b"Body-Sign", b"body-sign"])
async def test_body_sign_leaves_in_its_own_case_once(start, upstreams, status, name):
    upstreams[0].status, upstreams[0].header = status, name + b": " + SIGN
    proxy = start(upstreams[0].port)

    answer = await proxy.ask(request())

    head = answer.partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 " + status[:3])
    assert b"\r\nBody-Sign: " + SIGN in head
    assert head.lower().count(b"body-sign") == 1


async def test_an_answer_without_body_sign_gets_none(start, upstreams):
    upstreams[0].header = b"x-other: 1"
    proxy = start(upstreams[0].port)

    assert b"body-sign" not in (await proxy.ask(request())).lower()


async def test_what_a_client_says_about_its_address_is_not_passed_on(start, upstreams):
    proxy = start(upstreams[0].port)

    await proxy.ask(request(b"GET", b"/", b"X-Forwarded-For: 1.2.3.4"))

    [arrived] = upstreams[0].requests
    assert b"x-forwarded-for: 127.0.0.1\r\n" in arrived.lower()
    assert b"1.2.3.4" not in arrived


@pytest.mark.parametrize("method", [b"POST", b"GET"])
async def test_what_never_reached_one_node_goes_to_the_other(start, upstreams, method):
    proxy = start(free_port(), upstreams[1].port)

    for _ in range(4):
        assert (await proxy.ask(request(method, b"/", body=b""))).startswith(b"HTTP/1.1 200 ")
    assert len(upstreams[1].requests) == 4


async def test_a_post_that_was_sent_is_never_repeated(start, upstreams):
    for upstream in upstreams:
        upstream.hangs_up = True
    proxy = start(*(upstream.port for upstream in upstreams))

    for number in range(3):
        answer = await proxy.ask(request(b"POST", b"/", body=b"%d" % number))
        assert answer.startswith((b"HTTP/1.1 502 ", b"HTTP/1.1 503 "))

    bodies = [sent[-1:] for upstream in upstreams for sent in upstream.requests]
    assert len(bodies) == len(set(bodies)) >= 1


async def test_http_2_is_not_spoken(start, upstreams):
    proxy = start(upstreams[0].port)
    proxy.context.set_alpn_protocols(["h2", "http/1.1"])

    def negotiated():
        with (
            socket.create_connection(("127.0.0.1", proxy.port), LIMIT_S) as plain,
            proxy.context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            return secure.selected_alpn_protocol()

    assert await asyncio.to_thread(negotiated) in {"http/1.1", None}
