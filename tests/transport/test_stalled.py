"""2,000 stalled connections, at the server and at the shipped nginx, while an honest program is served; in the end all are cut."""

import asyncio
import contextlib
import functools
import resource
import ssl
import statistics
import time

import httpx2
import pytest
import trustme

from tests.support_load import HEARTBEAT, send
from tests.support_process import running, serving
from tests.support_proxy import Files, running_nginx
from tests.support_stock import make_stock

STALLED = 2_000
CUT_S = 10.0
SLACK_S = 5.0
"""For a busy machine."""
HONEST = 300
HEAD = b"POST /v1/licenses/validate HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n"


class Stalled(asyncio.Protocol):
    """Sends a little and stops; knows when it was cut."""

    def __init__(self, said):
        self._said = said
        self.cut = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self._said)

    def connection_lost(self, _error):
        if not self.cut.done():
            self.cut.set_result(time.monotonic())


@pytest.fixture(autouse=True)
def descriptors():
    """Both ends of nothing but our own sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = STALLED + 500
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"the limit of open files is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.asynccontextmanager
async def stalled(port, said):
    """Open the connections, a hundred at a time."""
    loop = asyncio.get_running_loop()
    clients = []
    try:
        for begin in range(0, STALLED, 100):
            opened = [
                loop.create_connection(functools.partial(Stalled, said[number % len(said)]), "127.0.0.1", port)
                for number in range(begin, begin + 100)
            ]
            clients += [client for _, client in await asyncio.gather(*opened)]
        yield clients
    finally:
        for client in clients:
            client.transport.abort()


async def all_cut(clients, began):
    async with asyncio.timeout(CUT_S + SLACK_S + 20):
        return max(await asyncio.gather(*(client.cut for client in clients))) - began


async def test_the_server_serves_on_and_cuts_them(tmp_path):
    stock = await make_stock(tmp_path / "data", licenses=1)
    [code] = stock.licenses
    calls = [stock.signed_post(HEARTBEAT, code) for _ in range(HONEST)]
    with running(*serving(stock.data_dir), log=tmp_path / "log") as server:
        before = await send(server.port, calls, connections=4)
        began = time.monotonic()
        async with stalled(server.port, (b"", HEAD[:1], HEAD[:30], HEAD)) as clients:
            during = await send(server.port, calls, connections=4)
            assert sum(not client.cut.done() for client in clients) == STALLED
            seconds = await all_cut(clients, began)

    quiet, loaded = (statistics.median(seconds_of(load)) for load in (before, during))  # a busy machine moves the tail
    assert {answer.status for answer in (*before.answers, *during.answers)} == {200}
    assert loaded < 2 * quiet + 0.05
    assert seconds < CUT_S + SLACK_S


@pytest.mark.parametrize("behind", ["nginx", "nothing"])
async def test_handshakes_that_stall_are_cut_while_others_are_served(tmp_path, behind):
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    stock = await make_stock(tmp_path / "data", licenses=1)
    files = Files(authority, tmp_path)
    tls = ("--tls-cert", str(files.cert), "--tls-key", str(files.key)) if behind == "nothing" else ()
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(running(*serving(stock.data_dir), *tls, log=tmp_path / "log")).port
        if behind == "nginx":
            port = stack.enter_context(running_nginx(tmp_path, files, [port]))
        began = time.monotonic()
        async with (
            stalled(port, (b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01")) as clients,
            httpx2.AsyncClient(verify=context, trust_env=False, timeout=20) as http,
        ):
            for _ in range(50):
                assert (await http.get(f"https://127.0.0.1:{port}/healthz")).status_code == 200
            assert sum(not client.cut.done() for client in clients) == STALLED
            assert await all_cut(clients, began) < CUT_S + SLACK_S + 5


def seconds_of(load):
    return [answer.seconds for answer in load.answers]
