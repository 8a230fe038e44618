"""The outgoing client against real local servers: what it sends, how it fails, when it tries the next host."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from licensesvc.domain.instants import parse_rfc3339
from licensesvc.marketplace.huawei import aksk
from licensesvc.marketplace.huawei.client import Account, MarketplaceClient, MarketplaceUnreachable
from licensesvc.marketplace.huawei.orders import MalformedAnswer, MarketplaceRefusal, order_answer
from licensesvc.marketplace.huawei.orders_mock import MOCK_ORDERS

NOW = parse_rfc3339("2025-05-22T02:03:04Z")
ORDER = MOCK_ORDERS["MOCKPERIODYEARNEW"]
SECRET = "SKEXAMPLE000000000000000000000000000001"

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Content-Type: application/json", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def self_signed(path: Path, address: str) -> Path:
    """Write a fresh key and a certificate for this address, its own authority, valid around now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test marketplace")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem + certificate.public_bytes(Encoding.PEM))
    return path


@asynccontextmanager
async def served(
    talk: Callable[[bytes, Writer], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that reads one request head a connection and hands it to `talk`; yields its base URL and the heads."""
    heads: list[bytes] = []

    async def connected(reader: Reader, writer: Writer) -> None:
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await talk(heads[-1], writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    async with server:
        scheme = "https" if tls else "http"
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


def answering(data: bytes) -> Callable[[bytes, Writer], Awaitable[None]]:
    async def talk(_head: bytes, writer: Writer) -> None:
        writer.write(data)

    return talk


@pytest.fixture
async def client():
    async with MarketplaceClient() as client:
        yield client


@pytest.fixture
def refusing():
    """A loopback address where nobody listens, held so that nobody else can."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def account(*hosts: str) -> Account:
    return Account(hosts=hosts, access_key="AKEXAMPLE0000000001", secret_key=SECRET)


async def test_order_is_asked_for_with_a_signature_that_matches(client):
    async with served(answering(response(order_answer(ORDER)))) as (host, heads):
        order = await client.order_query(account(host), ORDER.order_id, f"{ORDER.order_id}-000001", NOW)

    assert order == ORDER
    request_line, *lines = heads[0].decode().rstrip().split("\r\n")
    method, target, _ = request_line.split(" ")
    path, _, query = target.partition("?")
    assert (method, path) == ("GET", "/api/mkp-openapi-public/global/v1/order/query")
    assert query == "orderId=MOCKPERIODYEARNEW&orderLineId=MOCKPERIODYEARNEW-000001"
    headers = [tuple(line.split(": ", 1)) for line in lines]
    signed = aksk.parse_request(
        method, path.encode(), query.encode(), [(name.lower().encode(), value.encode()) for name, value in headers]
    )
    assert signed.date == NOW
    assert aksk.matches(signed, SECRET.encode(), b"")
    assert dict(headers)["Accept-Encoding"] == "identity"


async def test_strange_order_id_stays_one_signed_parameter(client):
    async with served(answering(response(b'{"resultCode":"MKT.0101","resultMsg":"no"}'))) as (host, heads):
        with pytest.raises(MarketplaceRefusal):
            await client.order_query(account(host + "/"), "a&b=c/云 +%", None, NOW)

    method, target, _ = heads[0].split(b"\r\n")[0].split(b" ")
    path, _, query = target.partition(b"?")
    assert query == b"orderId=a%26b%3Dc%2F%E4%BA%91%20%2B%25"
    headers = [tuple(line.split(b": ", 1)) for line in heads[0].rstrip().split(b"\r\n")[1:]]
    signed = aksk.parse_request(method.decode(), path, query, [(name.lower(), value) for name, value in headers])
    assert aksk.matches(signed, SECRET.encode(), b"")


@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized", "500 Internal Server Error"])
async def test_error_code_decides_whatever_the_status(client, status):
    body = b'{"resultCode":"MKT.0150","resultMsg":"Illegal operation"}'
    async with served(answering(response(body, status))) as (host, _):
        with pytest.raises(MarketplaceRefusal) as refusal:
            await client.order_query(account(host), "CS1", None, NOW)

    assert (refusal.value.result_code, refusal.value.message) == ("MKT.0150", "Illegal operation")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (response(b"<html>bad gateway</html>", "502 Bad Gateway"), "HTTP 502: not readable"),
        (response(b"{}"), "HTTP 200: neither"),
        (response(b'{"resultCode":"MKT.0000"}'), "HTTP 200: "),
        (response(order_answer(ORDER), "200 OK", "Content-Encoding: gzip"), "another order"),
        (response(order_answer(ORDER)), "another order"),
        (response(b"", "302 Found", "Location: http://127.0.0.1:1/"), "redirect refused, HTTP 302"),
        (response(order_answer(ORDER), "307 Temporary Redirect", "Location: /"), "redirect refused, HTTP 307"),
    ],
)
async def test_answer_that_is_not_the_protocol_is_malformed(client, data, reason):
    async with served(answering(data)) as (host, heads):
        with pytest.raises(MalformedAnswer, match=reason):
            await client.order_query(account(host), "CS1", None, NOW)

    assert len(heads) == 1


async def test_answer_above_a_mebibyte_is_cut_off(client):
    async def endless(_head: bytes, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" " * 65536)
            await writer.drain()

    async with served(endless) as (host, _):
        with pytest.raises(MalformedAnswer, match="1048576 bytes"):
            await client.order_query(account(host), "CS1", None, NOW)


async def test_slow_answer_is_given_up_in_total_time():
    gone = asyncio.Event()

    async def dripping(_head: bytes, writer: Writer) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)  # each byte comes well inside the time-out of one read
        finally:
            gone.set()

    async with MarketplaceClient(total_seconds=0.2) as client, served(dripping) as (host, heads):
        async with asyncio.timeout(2):
            with pytest.raises(MarketplaceUnreachable):
                await client.order_query(account(host, host), "CS1", None, NOW)
            await gone.wait()

    assert len(heads) == 1


async def test_refused_connection_fails_over_to_the_next_host(client, refusing):
    async with served(answering(response(order_answer(ORDER)))) as (host, heads):
        order = await client.order_query(account(refusing, host), ORDER.order_id, None, NOW)

    assert order == ORDER
    # The second host has a signature of its own: the host name is signed.
    assert f"Host: {host.removeprefix('http://')}\r\n".encode() in heads[0]


async def test_unreachable_hosts_are_reported(client, refusing):
    with pytest.raises(MarketplaceUnreachable, match="ConnectError"):
        await client.order_query(account(refusing, refusing), "CS1", None, NOW)


async def test_account_without_hosts_is_unreachable(client):
    with pytest.raises(MarketplaceUnreachable, match="no host"):
        await client.order_query(account(), "CS1", None, NOW)


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{", b"not http\r\n\r\n"])
async def test_broken_connection_does_not_fail_over(client, data):
    async with (
        served(answering(data)) as (broken, broken_heads),
        served(answering(response(order_answer(ORDER)))) as (second, second_heads),
    ):
        with pytest.raises(MarketplaceUnreachable):
            await client.order_query(account(broken, second), ORDER.order_id, None, NOW)

    assert (len(broken_heads), len(second_heads)) == (1, 0)


@pytest.mark.parametrize(
    ("certified", "trusted", "accepted"),
    [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("127.0.0.2", True, False)],
)
async def test_only_a_trusted_certificate_for_this_host_is_spoken_to(tmp_path, certified, trusted, accepted):
    certificate = self_signed(tmp_path / "server.pem", certified)
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_side.load_cert_chain(certificate)
    client_side = ssl.create_default_context(cafile=certificate) if trusted else None
    async with (
        served(answering(response(order_answer(ORDER))), server_side) as (host, heads),
        MarketplaceClient(client_side) as client,
    ):
        asked = client.order_query(account(host), ORDER.order_id, None, NOW)
        if accepted:
            assert await asked == ORDER
        else:
            with pytest.raises(MarketplaceUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
                await asked

    assert len(heads) == accepted


async def test_proxy_settings_of_the_environment_are_ignored(monkeypatch, refusing):
    monkeypatch.setenv("HTTP_PROXY", refusing)
    monkeypatch.setenv("ALL_PROXY", refusing)
    async with (
        MarketplaceClient() as client,
        served(answering(response(order_answer(ORDER)))) as (host, _),
    ):
        assert await client.order_query(account(host), ORDER.order_id, None, NOW) == ORDER


def test_secret_key_is_never_shown():
    shown = account("http://127.0.0.1")

    assert SECRET not in repr(shown) + str(shown) + repr(shown.__rich_repr__())
