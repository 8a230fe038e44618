"""A sandbox and a stand-in for the seller's server, both behind real sockets on loopback."""

import asyncio
import contextlib
import socket
import time
from types import SimpleNamespace

import httpx2
import pytest
import uvicorn

from licensesvc.domain.instants import MINUTE
from licensesvc.marketplace.huawei import callbacks, signature_v1, signature_v2
from licensesvc.marketplace.huawei.result_codes import CallbackCode
from licensesvc.marketplace.huawei.wire import SignatureRefused, query_parameters
from licensesvc.sandbox.app import create_sandbox
from licensesvc.sandbox.state import State, sandbox_file

LICENSE = "LS-0123456789ABCDEFGHJKMNPQ"


def now():
    return time.time_ns() // 1_000_000


@contextlib.asynccontextmanager
async def serve(app, http="httptools"):
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=http, ws="none", log_config=None, lifespan="auto", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        # Connections made before the server is ready wait in the listener's queue.
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await until(lambda: server.started)
        server.should_exit = True
        await task


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - the code under test has no event to wait for
            await asyncio.sleep(0.002)


async def eventually(ask, wanted):
    """What `ask` answers as soon as it is what is wanted."""
    async with asyncio.timeout(30):
        while not wanted(found := await ask()):  # noqa: ASYNC110 - the code under test has no event to wait for
            await asyncio.sleep(0.005)
    return found


class Seller:
    """Checks what the sandbox sends with the marketplace functions and signs its answers.

    `script` holds one dict per coming answer that says what to do differently; afterwards all answers are right. `by_order` gives each
    order a license of its own.
    """

    def __init__(self, key):
        self.key = key
        self.calls = []
        self.queries = []
        self.headers = []
        self.bodies = []
        self.script = []
        self.nonces = set()
        self.url = ""
        self.now = now
        self.by_order = False

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        different = self.script.pop(0) if self.script else {}
        answer = self.answer(scope, body)
        if different.get("hang"):
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        answer = different.get("body", answer)
        sign = different.get("sign", signature_v1.body_sign)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
        if sign:
            headers.append((different.get("header", b"Body-Sign"), sign(answer, self.key).encode()))
        await send({"type": "http.response.start", "status": different.get("status", 200), "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def answer(self, scope, body):
        query = scope["query_string"]
        try:
            if scope["method"] == "GET":
                request = signature_v1.verify_auth_token(query_parameters(query), self.key, self.now(), 15 * MINUTE)
                call = callbacks.parse_v1(request.parameters)
            else:
                verified = signature_v2.verify_url_signature(query, body, self.key, self.now())
                self.use_nonce(verified.nonce)
                if b'"newInstance"' in body:
                    return b'{"resultCode":"000000","resultMsg":"success.","instanceId":"i-1"}'
                call = callbacks.parse_v2(body)
        except SignatureRefused as error:
            return callbacks.result(CallbackCode.UNAUTHENTICATED, error.reason)
        self.calls.append(call)
        self.queries.append(query.decode())
        self.headers.append(dict(scope["headers"]))
        self.bodies.append(body)
        if isinstance(call, callbacks.GetLicense):
            return callbacks.get_license_success(f"{LICENSE}{call.order_id if self.by_order else ''}", call.business_id)
        return callbacks.result(CallbackCode.SUCCESS)

    def use_nonce(self, nonce):
        if nonce in self.nonces:
            raise SignatureRefused("the nonce was used before")
        self.nonces.add(nonce)

    def kinds(self):
        return [type(call).__name__ for call in self.calls]


@pytest.fixture
def state(tmp_path):
    return State.open(sandbox_file(tmp_path))


@pytest.fixture
async def seller(state):
    # h11 writes header names as they are given; httptools would lower-case them.
    seller = Seller(state.callback_key)
    async with serve(seller, http="h11") as url:
        seller.url = f"{url}/callbacks/con_1"
        yield seller


@pytest.fixture
def run_sandbox(state):
    """Start a sandbox; the default factor makes an hour 3.6 ms."""

    @contextlib.asynccontextmanager
    async def run(state=state, **options):
        app = create_sandbox(state, **{"time_factor": 1e-6, **options})
        async with serve(app) as url, httpx2.AsyncClient(base_url=url, trust_env=False) as http:
            yield SimpleNamespace(url=url, http=http, state=state)

    return run


@pytest.fixture
async def sandbox(run_sandbox):
    async with run_sandbox() as running:
        yield running


@pytest.fixture
async def local(state):
    """A sandbox without a socket, which cannot call a seller."""
    transport = httpx2.ASGITransport(create_sandbox(state))
    url = "http://localhost"
    async with httpx2.AsyncClient(transport=transport, base_url=url) as http:
        yield SimpleNamespace(url=url, http=http, state=state)


@pytest.fixture
async def paired(sandbox, seller):
    """A sandbox that knows the seller."""
    response = await sandbox.http.put("/sandbox/seller", json={"callback_url": seller.url})
    assert response.status_code == 204
    return sandbox


@pytest.fixture(name="until")
def until_fixture():
    return until


@pytest.fixture
def serve_app():
    return serve
