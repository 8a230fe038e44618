"""Alerts through webhooks and gateways, over real sockets: a row says where, what and with which secret."""

import asyncio
from contextlib import asynccontextmanager
from ipaddress import ip_network

import msgspec
import pytest

from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import MINUTE
from licensesvc.outbound.addresses import Policy
from licensesvc.outbound.client import Bounds, OutboundClient
from licensesvc.services.guard.manage_alert_channels import CreateChannel, create_channel
from licensesvc.services.guard.watch_delisting import DelistingWatch
from licensesvc.services.guard.webhook_template import MAX_TEMPLATE_BYTES, PLACEHOLDERS
from licensesvc.services.outbox_worker import OutboxWorker
from licensesvc.storage.alert_channels import ChannelKind
from tests.support_edges import change
from tests.support_guard import reported

LOOPBACK = Policy(allowed=(ip_network("127.0.0.0/8"),))
PUBLIC = Policy()
SECRET = "Bearer canary-secret"
PHONE = "+86 13800000000"


@pytest.fixture(params=["sqlite"])
def engine(request):
    return request.param


class Gateway:
    """Keeps what it is sent and answers as it is told; `answer` empty = never."""

    def __init__(self):
        self.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        self.heads = []
        self.bodies = []
        self.connections = 0
        self._closing = asyncio.Event()

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                lowered = {name.lower(): value for name, value in headers.items()}
                self.bodies.append(await reader.readexactly(int(lowered["content-length"])))
                self.heads.append((head.split("\r\n")[0], lowered))
                if not self.answer:
                    await self._closing.wait()
                    return
                writer.write(self.answer)
                await writer.drain()
        except asyncio.IncompleteReadError:
            return
        finally:
            writer.close()

    @asynccontextmanager
    async def listening(self):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            self._closing.set()
            server.close()
            await server.wait_closed()


@pytest.fixture
def gateway():
    return Gateway()


async def webhook(rt, address, policy=LOOPBACK, **fields):
    command = CreateChannel(**{"name": "gateway", "kind": ChannelKind.WEBHOOK, "address": address, **fields})
    return await rt.db.write(lambda tx: create_channel(tx, rt, command, policy, by="owner"))


async def work(rt, policy=LOOPBACK, times=1):
    async with OutboundClient(policy, bounds=Bounds(total_seconds=0.3, step_seconds=0.3)) as outbound:
        worker = OutboxWorker(rt, None, None, outbound)
        for _ in range(times):
            await worker.work_once()


async def item(rt):
    return await rt.db.read(lambda tx: tx.one("SELECT * FROM outbox ORDER BY id DESC LIMIT 1"))


async def raised(shop):
    await reported(shop, "2026-11", 5)
    await DelistingWatch(shop.rt).look()


async def test_a_webhook_without_a_template_is_sent_every_fact(rt, shop, gateway):
    async with gateway.listening() as port:
        await webhook(rt, f"http://127.0.0.1:{port}/alerts?a=b", language="en")
        await raised(shop)
        await work(rt)

    ((line, headers),) = gateway.heads
    assert line == "POST /alerts?a=b HTTP/1.1"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("licensesvc/")
    sent = msgspec.json.decode(gateway.bodies[0])
    assert set(sent) == set(PLACEHOLDERS) - {"recipient"}
    assert (sent["event"], sent["gauge"], sent["level"], sent["value"], sent["limit"]) == (
        "raised",
        "failed_orders",
        "critical",
        "5",
        "5",
    )
    assert sent["connection"] == shop.connection.public_id
    assert sent["text"].count("\n") > 5
    assert (await item(rt))["done_at"] is not None


async def test_a_text_message_gateway_is_a_row(rt, shop, gateway):
    template = {"to": ["$recipient"], "body": {"text": "$subject: $value/$limit $$", "urgent": True, "tries": 3}}
    async with gateway.listening() as port:
        address = f"http://127.0.0.1:{port}/sms"
        fields = {"recipient": PHONE, "template": template, "secret_header": "X-Api-Key", "secret": SECRET}
        stored = await webhook(rt, address, language="en", **fields)
        await raised(shop)
        await work(rt)

    assert gateway.heads[0][1]["x-api-key"] == SECRET
    sent = msgspec.json.decode(gateway.bodies[0])
    assert sent["to"] == [PHONE]
    assert sent["body"]["text"].startswith("[critical] Failed orders this month")
    assert sent["body"]["text"].endswith("5/5 $")
    assert (sent["body"]["urgent"], sent["body"]["tries"]) == (True, 3)
    assert SECRET.encode() not in stored.secret
    kept = await rt.db.read(
        lambda tx: tx.all("SELECT payload AS kept FROM outbox UNION ALL SELECT detail FROM audit_events")
    )
    for personal in ("canary", "1380000", address):
        assert personal not in str([row["kept"] for row in kept])


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ("200 OK", "done"),
        ("202 Accepted", "done"),
        ("302 Found", "later"),
        ("400 Bad Request", "later"),
        ("401 Unauthorized", "later"),
        ("410 Gone", "given up"),
        ("429 Too Many Requests", "later"),
        ("503 Service Unavailable", "later"),
    ],
)
async def test_what_an_answer_means(rt, shop, gateway, caplog, status, outcome):
    async with gateway.listening() as port:
        elsewhere = f"http://127.0.0.1:{port}/elsewhere"
        gateway.answer = f"HTTP/1.1 {status}\r\nLocation: {elsewhere}\r\nContent-Length: 6\r\nConnection: close\r\n\r\ncanary".encode()
        await webhook(rt, f"http://127.0.0.1:{port}/canary-path")
        await raised(shop)
        await work(rt)

    row = await item(rt)
    assert (row["done_at"] is not None, row["given_up_at"] is not None) == (outcome == "done", outcome == "given up")
    assert gateway.connections == 1  # no redirect is followed
    assert "canary" not in f"{row['last_error']} {caplog.text}"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
    ],
)
async def test_a_gateway_that_answers_badly_is_asked_again_under_the_same_key(rt, shop, clock, gateway, answer):
    gateway.answer = answer
    async with gateway.listening() as port:
        await webhook(rt, f"http://127.0.0.1:{port}/")
        await raised(shop)
        await work(rt)
        assert (await item(rt))["last_error"].startswith("AlertDelayed")
        clock.now += MINUTE
        gateway.answer = b"HTTP/1.1 204 No Content\r\n\r\n"
        await work(rt)

    assert (await item(rt))["done_at"] is not None
    first, second = (headers["idempotency-key"] for _, headers in gateway.heads)
    assert first == second


async def test_an_endless_answer_is_read_to_its_bound(rt, shop, gateway):
    gateway.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 100_000
    async with gateway.listening() as port:
        await webhook(rt, f"http://127.0.0.1:{port}/")
        await raised(shop)
        await work(rt)

    assert (await item(rt))["done_at"] is not None


async def test_an_address_that_may_not_be_called_any_more_is_not(rt, shop, gateway):
    async with gateway.listening() as port:
        await webhook(rt, f"http://127.0.0.1:{port}/")
        await raised(shop)
        await work(rt, policy=PUBLIC)
        await change(rt, "UPDATE alert_channels SET address = $1", f"https://127.0.0.1:{port}/")
        await change(rt, "UPDATE outbox SET due_at = 0")
        await work(rt, policy=PUBLIC)

    assert gateway.connections == 0
    assert "loopback" in (await item(rt))["last_error"]


FORBIDDEN = [
    "http://gateway.example/",
    "ftp://gateway.example/",
    "https://user:pw@gateway.example/",
    "https://gateway.example/#x",
    "https://gateway.example:22/",
    "https://localhost/",
    "https://metadata.internal/",
    "https://2130706433/",
    "https://gateway.example/\r\nX: y",
    "https://gateway.example/ä",
    "gateway.example",
    "https://",
    "a@b.example",
]


async def test_an_address_that_never_may_be_called_is_refused_and_not_quoted(rt):
    for address in FORBIDDEN:
        with pytest.raises(InvalidParameter) as refused:
            await webhook(rt, address, PUBLIC)
        assert "gateway" not in str(refused.value), address


@pytest.mark.parametrize(
    "fields",
    [
        {"template": {"text": "$secret"}},
        {"template": {"text": "$"}},
        {"template": {"text": "100 $ off"}},
        {"template": {"deep": [{"text": "${subject.__class__}"}]}},
        {"template": {"text": "x" * MAX_TEMPLATE_BYTES}},
        {"secret": "x"},
        {"secret_header": "X-Key"},
        {"secret_header": "Host", "secret": "x"},
        {"secret_header": "content-LENGTH", "secret": "x"},
    ],
)
async def test_a_webhook_that_cannot_work_is_refused(rt, fields):
    with pytest.raises(InvalidParameter):
        await webhook(rt, "https://gateway.example/", PUBLIC, **fields)


@pytest.mark.parametrize("name", ['","admin":"true', "$recipient ${text}", "a\nb\\", "\u2028\u202e<script>"])
async def test_a_hostile_name_stays_in_its_place(rt, shop, gateway, name):
    await change(rt, "UPDATE connections SET name = $1", name)
    async with gateway.listening() as port:
        await webhook(rt, f"http://127.0.0.1:{port}/", template={"s": "$subject"}, recipient=PHONE)
        await raised(shop)
        await work(rt)

    sent = msgspec.json.decode(gateway.bodies[0])
    assert set(sent) == {"s"}
    assert PHONE not in sent["s"]


async def test_a_process_that_makes_no_calls_leaves_the_alert_to_others(rt, shop):
    await webhook(rt, "https://gateway.example/", PUBLIC)
    await raised(shop)
    await OutboxWorker(rt, None).work_once()

    row = await item(rt)
    assert (row["done_at"], row["given_up_at"], row["attempts"]) == (None, None, 1)
