"""The real server over TLS, alone and behind the shipped proxies: the official signer, Body-Sign on the wire, certificates, draining."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import warnings

import httpx2
import msgspec
import pytest
import trustme
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer

from licensesvc.app import open_runtime
from licensesvc.domain.connection import Site
from licensesvc.marketplace.huawei import signature_v1
from licensesvc.services.catalog.manage_connections import CreateConnection, create_connection
from licensesvc.settings import Settings
from tests.support_load import ACTIVATE, ILLEGAL_STATE, SUCCESS
from tests.support_process import CHECKOUT, running, serving
from tests.support_proxy import Files, running_caddy, running_nginx
from tests.support_stock import make_stock

LIMIT_S = 20.0
CALLBACK_KEY = "0123456789abcdef-demo-key"


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def files(authority, tmp_path):
    return Files(authority, tmp_path)


@pytest.fixture
async def stock(tmp_path):
    return await make_stock(tmp_path / "data", licenses=3)


@pytest.fixture
async def callback_path(stock):
    """The production URL of a connection with a callback key."""
    command = CreateConnection(name="signed", site=Site.CN, callback_key=CALLBACK_KEY)
    async with open_runtime(Settings(data_dir=str(stock.data_dir))) as rt:
        made = await rt.db.write(lambda tx: create_connection(tx, rt, command, by="test"))
    return f"/callbacks/{made.connection.public_id}"


@pytest.fixture(params=["direct", "nginx", "caddy"])
def port(request, stock, files, tmp_path):
    """Where the server is reached over HTTPS."""
    with contextlib.ExitStack() as stack:
        if request.param == "direct":
            tls = ("--tls-cert", str(files.cert), "--tls-key", str(files.key))
            yield stack.enter_context(running(*serving(stock.data_dir), *tls, log=tmp_path / "log")).port
        else:
            server = stack.enter_context(running(*serving(stock.data_dir), log=tmp_path / "log"))
            proxy = running_nginx if request.param == "nginx" else running_caddy
            yield stack.enter_context(proxy(tmp_path, files, [server.port]))


def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def signed_by_the_sdk(stock, port, code):
    """An activation as the official SDK signs and sends it."""
    request = SdkRequest(
        method="POST",
        schema="https",
        host=f"127.0.0.1:{port}",
        resource_path=ACTIVATE,
        query_params=[],
        header_params={"Content-Type": "application/json"},
        body=msgspec.json.encode({"license": code}),
    )
    signer = Signer(BasicCredentials(ak=stock.access_key, sk=stock.secret_key, project_id="unused"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return signer.sign(request)


async def test_the_official_sdk_signs_over_https(authority, stock, port):
    [code, *_] = stock.licenses
    async with httpx2.AsyncClient(verify=trusting(authority), trust_env=False, timeout=LIMIT_S) as http:
        outcomes = []
        for _ in range(2):
            signed = signed_by_the_sdk(stock, port, code)
            answer = await http.post(
                f"https://127.0.0.1:{port}{signed.uri}", content=signed.body, headers=signed.header_params
            )
            outcomes.append(answer.json()["error_code"])
        forged = signed_by_the_sdk(stock, port, code)
        other = await http.post(
            f"https://127.0.0.1:{port}{forged.uri}", content=forged.body + b" ", headers=forged.header_params
        )

    assert outcomes == [SUCCESS, ILLEGAL_STATE]
    assert (other.status_code, other.json()["error_code"]) == (401, "APIG.0301")


async def test_body_sign_on_the_wire(authority, callback_path, port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(authority))
    writer.write(f"GET {callback_path}?activity=x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    async with asyncio.timeout(LIMIT_S):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()

    assert head.count(b"\r\nBody-Sign: ") == head.lower().count(b"body-sign") == 1
    sent = re.search(rb"\r\nBody-Sign: ([^\r]*)", head)[1]
    assert sent.decode() == signature_v1.body_sign(body, CALLBACK_KEY)


@contextlib.contextmanager
def https_server(stock, files, tmp_path):
    tls = ("--tls-cert", str(files.cert), "--tls-key", str(files.key))
    with running(*serving(stock.data_dir), *tls, log=tmp_path / "log") as server:
        yield server


def handshake(port, context):
    with (
        socket.create_connection(("127.0.0.1", port), LIMIT_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        return secure.version(), secure.selected_alpn_protocol()


async def test_tls_1_2_and_newer_without_http_2_and_a_control_socket_without_tls(authority, stock, files, tmp_path):
    with https_server(stock, files, tmp_path) as server:
        modern, older, oldest = (trusting(authority) for _ in range(3))
        modern.set_alpn_protocols(["h2", "http/1.1"])
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            oldest.minimum_version = ssl.TLSVersion.TLSv1
            oldest.maximum_version = ssl.TLSVersion.TLSv1_1
        oldest.set_ciphers("ALL:@SECLEVEL=0")

        assert handshake(server.port, modern) == ("TLSv1.3", "http/1.1")
        assert handshake(server.port, older)[0] == "TLSv1.2"
        with pytest.raises(OSError):
            handshake(server.port, oldest)

        transport = httpx2.AsyncHTTPTransport(uds=str(stock.data_dir / "control.sock"))
        async with httpx2.AsyncClient(transport=transport) as http:
            assert (await http.get("http://localhost/healthz")).text == "ok\n"


async def test_a_renewed_certificate_is_taken_up_on_sighup_and_a_bad_one_is_not(authority, stock, files, tmp_path):
    new_authority = trustme.CA()
    with https_server(stock, files, tmp_path) as server:
        files.cert.write_bytes(b"no certificate")
        server.process.send_signal(signal.SIGHUP)
        await until(lambda: "certificate_not_reloaded" in (tmp_path / "log").read_text())
        assert handshake(server.port, trusting(authority))

        Files(new_authority, tmp_path)
        server.process.send_signal(signal.SIGHUP)
        await until(lambda: "certificate_reloaded" in (tmp_path / "log").read_text())
        assert handshake(server.port, trusting(new_authority))
        with pytest.raises(ssl.SSLCertVerificationError):
            handshake(server.port, trusting(authority))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda files: files.key.chmod(0o644), "lets others in"),
        (lambda files: files.key.chmod(0o660), "lets others in"),
        (lambda files: files.key.unlink(), "No such file"),
        (lambda files: files.key.write_bytes(b"-----BEGIN CERTIFICATE-----\n"), "cannot use tls_cert"),
        (lambda files: files.cert.write_bytes(files.key.read_bytes()), "cannot use tls_cert"),
        (lambda files: files.key.write_bytes(trustme.CA().private_key_pem.bytes()), "cannot use tls_cert"),
        (lambda files: files.key.write_bytes(encrypted(files.key.read_bytes())), "passphrase"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_one_line(stock_dir, files, spoil, said):
    spoil(files)

    ended = serve_once(stock_dir, "--tls-cert", files.cert, "--tls-key", files.key)

    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert said in ended.stderr
    checked = licensesvc("check-config", "--data-dir", stock_dir, TLS_CERT=files.cert, TLS_KEY=files.key)
    assert (checked.returncode, checked.stderr) == (2, ended.stderr)


@pytest.mark.parametrize("option", ["--tls-cert", "--tls-key"])
def test_one_half_of_a_certificate_is_refused(stock_dir, option):
    ended = serve_once(stock_dir, option, "/nowhere")

    assert (ended.returncode, ended.stderr) == (2, "licensesvc: tls_cert and tls_key go together: set both or none\n")


async def test_draining_is_told_before_anything_is_refused(stock, tmp_path):
    (stock.data_dir / "licensesvc.toml").write_text("drain_seconds = 1.5\n")
    with running(*serving(stock.data_dir), log=tmp_path / "log") as server:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", trust_env=False) as http:
            ready = await http.get("/readyz")
            assert (ready.status_code, ready.headers.get("connection")) == (200, None)
            server.process.send_signal(signal.SIGTERM)

            async def red():
                return (await http.get("/readyz")).status_code == 503

            async with asyncio.timeout(LIMIT_S):
                while not await red():
                    pass
            for path, status in (("/readyz", 503), ("/healthz", 200), ("/v1/.well-known/jwks.json", 404)):
                answer = await http.get(path)
                assert (answer.status_code, answer.headers["connection"]) == (status, "close")
        assert await asyncio.to_thread(server.process.wait, LIMIT_S) == 0


@pytest.fixture
def stock_dir(tmp_path):
    subprocess.run([sys.executable, "-m", "licensesvc", "init", "--data-dir", tmp_path / "d"], cwd=CHECKOUT, check=True)
    return tmp_path / "d"


def serve_once(data_dir, *options):
    return licensesvc("serve", "--data-dir", data_dir, "--port", "0", *options)


def licensesvc(*arguments, **settings):
    return subprocess.run(
        [sys.executable, "-m", "licensesvc", *map(str, arguments)],
        env={**os.environ, **{f"LICENSESVC_{name}": str(value) for name, value in settings.items()}},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def encrypted(pem):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )


async def until(condition):
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - another process has no event to wait for
            await asyncio.sleep(0.02)
