"""A shop on a runtime, and the calls that software and the marketplace make to it, over ASGI without a socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import msgspec
import uvicorn
from litestar import Litestar

from licensesvc.app import create_app
from licensesvc.domain.connection import Connection, ErrorTable, Site
from licensesvc.domain.instants import PeriodUnit, to_datetime
from licensesvc.domain.order import OrderFacts, OrderType
from licensesvc.domain.policy import Term
from licensesvc.domain.product import DeliveryKind, Product
from licensesvc.marketplace.huawei import aksk, signature_v1, signature_v2
from licensesvc.services.access.manage_credentials import CreateCredential, create_credential
from licensesvc.services.catalog.manage_catalog import (
    CreatePolicy,
    CreateProduct,
    PeriodFields,
    create_policy,
    create_product,
)
from licensesvc.services.catalog.manage_connections import CreateConnection, create_connection
from licensesvc.services.licenses.issue_license import open_code
from licensesvc.services.orders.receive_order import ReceivedLine, receive_line
from licensesvc.services.runtime import Runtime
from licensesvc.settings import Settings
from licensesvc.storage.credentials import Scope
from licensesvc.web.forwarded import ForwardedFor
from tests.support_web import Clock, open_test_runtime, started

KEY = "0123456789abcdef-demo-key"
"""The callback key of every shop."""
ROOT = "/api/mkp-openapi-public/global"
ACTIVATE = f"{ROOT}/v1/license/activate"
HEARTBEAT = f"{ROOT}/v1/license/heartbeat"
ACTIVATE_ALL = f"{ROOT}/v2/license/activate"
HEARTBEAT_ALL = f"{ROOT}/v2/license/heartbeat"
USAGE = f"{ROOT}/v2/license/software-usage-info"
ORDER_QUERY = f"{ROOT}/v1/order/query"
HOST = "licenses.example"
PEER = "198.51.100.7"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """An access key and its secret."""

    access_key: str
    secret: str
    public_id: str


@dataclass(frozen=True, kw_only=True)
class Shop:
    """A connection that sells one product."""

    rt: Runtime
    connection: Connection
    product: Product

    @property
    def url(self) -> str:
        return f"/callbacks/{self.connection.public_id}"

    async def pair(self, scope: Scope = Scope.DEVICE) -> Pair:
        """A new credential; one of scope `device` is for the product."""
        command = CreateCredential(
            connection=self.connection.public_id,
            scope=scope,
            product=self.product.public_id if scope is Scope.DEVICE else None,
            name="software",
        )
        stored, secret = await self.rt.db.write(lambda tx: create_credential(tx, self.rt, command, by="test"))
        return Pair(access_key=stored.access_key, secret=secret, public_id=stored.public_id)

    async def sell(
        self, order_id: str = "CS1", order_type: OrderType = OrderType.NEW, *, code: str | None = None, **facts: Any
    ) -> ReceivedLine:
        """An order of one line for the product, as some source tells it."""
        told = OrderFacts(
            order_id=order_id,
            order_type=order_type,
            marketplace_product_id=self.product.marketplace_product_id,
            **facts,
        )
        return await self.rt.db.write(
            lambda tx: receive_line(
                tx, self.rt, self.connection, told, buyer=None, source="test", by="test", marketplace_code=code
            )
        )

    async def sell_code(self, order_id: str = "CS1", **facts: Any) -> str:
        """The code of a new license."""
        received = await self.sell(order_id, **facts)
        assert received.license is not None
        return await self.rt.db.read(lambda tx: open_code(tx, self.rt, received.license))


async def open_shop(
    rt: Runtime,
    *,
    name: str = "cn",
    sold: str = "OFFI100",
    kind: DeliveryKind = DeliveryKind.LICENSE_1_0,
    term: Term = Term.PERIOD,
    connection: Connection | None = None,
    wire_zone: str = "UTC",
    error_table: ErrorTable = ErrorTable.CURRENT,
    **policy: Any,
) -> Shop:
    """A connection (or a known one) with a policy (one year unless told) and a product."""
    terms = CreatePolicy(
        name=f"{name} {sold}",
        term=term,
        period=PeriodFields(unit=PeriodUnit.YEAR, count=1) if term is Term.PERIOD else None,
        **policy,
    )
    account = CreateConnection(
        name=name,
        site=Site.CN,
        wire_zone=wire_zone,
        error_table=error_table,
        callback_key=KEY,
        api_access_key="AKMARKET",
        api_secret="sk-of-the-marketplace",
    )

    async def make(tx: Any) -> Shop:
        opened = connection or (await create_connection(tx, rt, account, by="test")).connection
        made = await create_policy(tx, rt, terms, by="test")
        wanted = CreateProduct(
            connection=opened.public_id,
            policy=made.public_id,
            name="Widget",
            marketplace_product_id=sold,
            delivery_kind=kind,
        )
        return Shop(rt=rt, connection=opened, product=await create_product(tx, rt, wanted, by="test"))

    return await rt.db.write(make)


@dataclass(frozen=True, kw_only=True)
class Edge:
    """The real application on SQLite with a shop in it, and a pair of its software."""

    app: Litestar
    rt: Runtime
    clock: Clock
    shop: Shop
    pair: Pair

    async def call(self, path: str, fields: Any, **options: Any) -> "Answer":
        """One call of the shop's software to the open API."""
        return await call(self.app, options.pop("pair", self.pair), path, fields, self.clock.now, **options)

    async def ask_order(self, query: str, *, pair: Pair, **options: Any) -> "Answer":
        """One question about an order, with a query string as it stands."""
        target = f"{ORDER_QUERY}?{query}" if query else ORDER_QUERY
        headers = signed_headers(pair, target, b"", self.clock.now, method="GET")
        return await ask(self.app, "GET", target, headers=headers.items(), **options)

    async def written(self) -> list[int]:
        """Row counts of everything that a refused call must not change."""
        return await rows(self.rt, *TABLES)


TABLES = [
    "orders",
    "order_lines",
    "licenses",
    "license_states",
    "license_codes",
    "license_documents",
    "activations",
    "supervision_cases",
    "supervision_events",
    "outbox",
    "nonces",
    "audit_events",
    "signature_failures",
    "buyers",
    "usage_days",
    "usage_clients",
]


@asynccontextmanager
async def open_edge(directory: Path, *, lock_scope: str = "key-and-address") -> AsyncIterator[Edge]:
    """The application as the server puts it together, its lifespan running."""
    clock = Clock()
    async with open_test_runtime(directory, clock) as rt:
        settings = Settings(data_dir=str(directory / "data"), lock_scope=lock_scope)
        app = create_app(rt, settings)
        shop = await open_shop(rt, seats=2)
        async with started(app):
            yield Edge(
                app=ForwardedFor(app, settings.trusted_networks), rt=rt, clock=clock, shop=shop, pair=await shop.pair()
            )


async def rows(rt: Runtime, *tables: str) -> list[int]:
    """How many rows each of these tables has."""

    async def count(tx: Any) -> list[int]:
        return [(await tx.one(f"SELECT COUNT(*) AS n FROM {table}"))["n"] for table in tables]  # noqa: S608

    return await rt.db.read(count)


async def change(rt: Runtime, sql: str, *args: Any) -> None:
    """One statement, past every service."""
    assert await rt.db.write(lambda tx: tx.run(sql, *args)) == 1


class Answer(msgspec.Struct, frozen=True):
    """What an application answered."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def header(self, name: str) -> str | None:
        """Found as the marketplace finds it: in exactly this case."""
        return dict(self.headers).get(name.encode(), b"").decode() or None


async def ask(
    app: Any,
    method: str,
    target: str,
    *,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    peer: str = PEER,
    pieces: int = 1,
) -> Answer:
    """One HTTP request straight into the application, its body in so many pieces."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": (peer, 40000),
        "server": (HOST, 80),
        "state": {},
    }
    size = -(-len(body) // pieces) or 1
    waiting = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if not waiting:
            return {"type": "http.disconnect"}
        piece = waiting.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["type"] == "http.response.start"
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(sent[0]["status"], list(sent[0]["headers"]), content)


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[int]:
    """The port of a real server for an application whose lifespan runs already."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app, http="httptools", ws="none", log_config=None, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        while not server.started:  # noqa: ASYNC110 - the server has no event to wait for
            await asyncio.sleep(0.002)
        server.should_exit = True
        await task


async def exchange(port: int, *sent: bytes) -> bytes:
    """Everything that a server answers to these bytes until it closes the connection."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for piece in sent:
            writer.write(piece)
            await writer.drain()
        received = await reader.read()
        writer.close()
        await writer.wait_closed()
    return received


def raw_request(method: str, target: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """The bytes of a request after which the server closes the connection."""
    lines = {**headers, "Content-Length": str(len(body)), "Connection": "close"}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body


def signed_headers(
    pair: Pair, path: str, body: bytes, now: int, *, method: str = "POST", more: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The headers of a signed call of the open API."""
    headers = {
        "Host": HOST,
        "X-Sdk-Date": aksk.sdk_date(now),
        "Content-Type": "application/json;charset=UTF-8",
        **(more or {}),
    }
    raw, _, query = path.partition("?")
    authorization = aksk.sign(
        method=method,
        path=raw,
        query=query,
        headers=list(headers.items()),
        body=body,
        access_key=pair.access_key,
        secret_key=pair.secret,
    )
    return {**headers, "Authorization": authorization}


async def call(app: Any, pair: Pair, path: str, fields: Any, now: int, **options: Any) -> Answer:
    """One signed call of the open API; `fields` are sent as JSON, bytes as they stand."""
    body = fields if isinstance(fields, bytes) else msgspec.json.encode(fields)
    return await ask(app, "POST", path, headers=signed_headers(pair, path, body, now).items(), body=body, **options)


def get_license_target(shop: Shop, now: int, *, key: str = KEY, **changes: str | None) -> str:
    """The URL of a signed getLicense call; a parameter that is None is left out."""
    fields: dict[str, str | None] = {
        "activity": "getLicense",
        "businessId": "biz-1",
        "customerId": "cust-1",
        "orderId": "CS1",
        "productId": shop.product.marketplace_product_id,
        "timeStamp": to_datetime(now).strftime("%Y%m%d%H%M%S") + f"{now % 1000:03}",
        **changes,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    token = signature_v1.auth_token(given.items(), key)
    return f"{shop.url}?{urlencode({**given, 'authToken': token})}"


def notify_target(shop: Shop, body: bytes, now: int, *, nonce: str = "nonce1", key: str = KEY) -> str:
    """The URL of a signed order notification."""
    signature = signature_v2.sign_url(body, key, nonce, now)
    return f"{shop.url}?signature={signature}&timestamp={now}&nonce={nonce}"


def notification(order_id: str = "CS1", **changes: Any) -> bytes:
    """The body of an order notification; a field that is None is left out."""
    fields = {"activity": "orderNotify", "orderId": order_id, "orderLineId": f"{order_id}-000001", **changes}
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not None})
