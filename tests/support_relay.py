"""A shop whose connection relays, the real application before it, and a marketplace behind it that can misbehave and go away."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
from litestar import Litestar

from licensesvc.domain.instants import format_stamp, zone_of
from licensesvc.domain.product import DeliveryKind
from licensesvc.marketplace.huawei import aksk
from licensesvc.marketplace.huawei.client import MarketplaceClient
from licensesvc.services.access.authenticate_software import SoftwareGate
from licensesvc.services.access.limit_attempts import Limiter, limits
from licensesvc.services.outbox_worker import OutboxWorker
from licensesvc.services.relay.relay import RelayDesk
from licensesvc.services.relay.relay_calls import RelayCalls
from licensesvc.services.relay.relay_usage import resume_reports
from licensesvc.services.runtime import Runtime
from licensesvc.settings import Settings
from licensesvc.web.forwarded import ForwardedFor
from licensesvc.web.openapi_compat.routes import compatible_routes
from tests.support_edges import ROOT, Answer, Pair, Shop, call, change, open_shop
from tests.support_raw import response
from tests.support_web import Clock

ACTIVATE, ACTIVATE_ALL = "/v1/license/activate", "/v2/license/activate"
QUERY, QUERY_ALL = "/v1/license/heartbeat", "/v2/license/heartbeat"
USAGE = "/v2/license/software-usage-info"
SOLD = "OFFI100"
TLS = ssl.create_default_context()
SECRET = b"sk-of-the-marketplace"
EXPIRES = "20271118110640"


@dataclass
class Code:
    """A code as the marketplace has it; `status` None is not activated."""

    order_id: str
    status: str | None = None
    product_id: str = SOLD
    expire_time: str = EXPIRES
    amount: int = 2


@dataclass
class FakeMarketplace:
    """The marketplace's open API on a socket; `mishap` says what goes wrong with a call, and `mishaps` with which ones.

    `sent` counts how often each (code, day, client) was told, whatever the marketplace made of it.
    """

    clock: Clock
    codes: dict[str, Code] = field(default_factory=dict)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    sent: Counter[tuple[str, str, str | int]] = field(default_factory=Counter)
    mishap: str | None = None
    spoils: frozenset[str] = frozenset({ACTIVATE, ACTIVATE_ALL, QUERY, QUERY_ALL, USAGE})
    shape: str = "list"
    gate: asyncio.Event | None = None
    """Holds every call until it is set; `arrived` tells that one waits."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def paths(self) -> list[str]:
        return [path for path, _ in self.calls]

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Nobody listens any more: connections are refused."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            line, *lines = head.rstrip().split(b"\r\n")
            headers = [tuple(text.split(b": ", 1)) for text in lines]
            headers = [(name.lower(), value) for name, value in headers]
            body = await reader.readexactly(int(dict(headers)[b"content-length"]))
            method, target, _ = line.decode().split(" ")
            signed = aksk.parse_request(method, target.encode(), b"", headers)
            assert signed.access_key == "AKMARKET"
            assert aksk.matches(signed, SECRET, body)
            self.arrived.set()
            if self.gate is not None:
                await self.gate.wait()
            if (answer := self._answer(target.removeprefix(ROOT), msgspec.json.decode(body))) is not None:
                writer.write(answer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _answer(self, path: str, fields: Any) -> bytes | None:
        mishap = self.mishap if path in self.spoils else None
        if mishap == "gateway":
            return response(b'{"error_code":"APIG.0301","error_msg":"no"}', "401 Unauthorized")
        if mishap == "internal":
            return response(b'{"error_code":"92020001","error_msg":"internal error"}')
        if mishap == "html":
            return response(b"<html>maintenance</html>", "503 Service Unavailable")
        self.calls.append((path, fields))
        if mishap == "lost before":
            return None
        document = getattr(self, _HANDLERS[path])(fields)
        if mishap == "lost after":
            return None
        return response(msgspec.json.encode(document), "200 OK", "Connection: close")

    def _activate(self, fields: Any) -> Any:
        code = self.codes.get(fields["license"])
        if (no := _no_activation(code)) is not None:
            return no
        code.status = "ALIVE"
        info = {"status": "ALIVE", **_facts(code)}
        return _ok(data={"license_code_info": msgspec.json.encode(info).decode()})

    def _activate_all(self, fields: Any) -> Any:
        assert len(fields["license_list"]) <= 100
        codes = [self.codes.get(name) for name in fields["license_list"]]
        if any(_no_activation(code) for code in codes):
            return _no("92020020")
        for code in codes:
            code.status = "ALIVE"
        return _ok()

    def _query(self, fields: Any) -> Any:
        name = fields["license"]
        return _no_query(self.codes.get(name)) or _ok(data=self._info(name))

    def _query_all(self, fields: Any) -> Any:
        names = fields["license_list"]
        assert len(names) <= 100
        if any(_no_query(self.codes.get(name)) for name in names):
            return _no("92020020")
        infos = [self._info(name) for name in names]
        return _ok(data=infos if self.shape == "list" else {"list": infos})

    def _info(self, name: str) -> Mapping[str, Any]:
        code = self.codes[name]
        return {"license_code": name, "status": code.status, "activate_time": "20261118110640", **_facts(code)}

    def _usage(self, fields: Any) -> Any:
        assert len(fields["usage_info"]) <= 100
        day = format_stamp(self.clock(), zone_of("Asia/Shanghai"))[:8]
        failed = []
        for said in fields["usage_info"]:
            assert len(said["software_usage_Info"]) <= 100
            if _no_query(self.codes.get(said["license"])):
                failed.append(said["license"])
                continue
            for item in said["software_usage_Info"]:
                assert len(item) == 1
                self.sent[said["license"], day, next(iter(item.values()))] += 1
        return _ok(data={"check_fail_list": failed})


_HANDLERS = {ACTIVATE: "_activate", ACTIVATE_ALL: "_activate_all", QUERY: "_query", QUERY_ALL: "_query_all", USAGE: "_usage"}  # fmt: skip


def _ok(**more: Any) -> Mapping[str, Any]:
    return {"error_code": "92020000", "error_msg": "success", **more}


def _no(error_code: str) -> Mapping[str, Any]:
    return {"error_code": error_code, "error_msg": "no"}


def _no_activation(code: Code | None) -> Mapping[str, Any] | None:
    if code is None:
        return _no("92020005")
    return None if code.status is None else _no("92020003")


def _no_query(code: Code | None) -> Mapping[str, Any] | None:
    if code is None:
        return _no("92020005")
    return _no("92020011") if code.status is None else None


def _facts(code: Code) -> Mapping[str, Any]:
    return {
        "expire_time": code.expire_time,
        "product_id": code.product_id,
        "amount": code.amount,
        "order_id": code.order_id,
    }


@dataclass(kw_only=True)
class Rig:
    """The application with its relay, on a database; `restart` puts another process in its place."""

    rt: Runtime
    clock: Clock
    market: FakeMarketplace
    shop: Shop
    pair: Pair
    app: ForwardedFor
    reporting: OutboxWorker
    _life: AsyncExitStack

    async def call(self, path: str, fields: Any, **options: Any) -> Answer:
        """One call of the shop's software."""
        return await call(self.app, options.pop("pair", self.pair), ROOT + path, fields, self.clock.now, **options)

    async def code(self, path: str, code: str, **options: Any) -> str:
        """The error code that a call about one code is answered with."""
        answer = await self.call(path, {"license": code}, **options)
        return str(answer.json["error_code"])

    async def activate(self, code: str = "PL1", **options: Any) -> str:
        return await self.code(ACTIVATE, code, **options)

    async def query(self, code: str = "PL1", **options: Any) -> Any:
        """`data` of an answered query."""
        answer = await self.call(QUERY, {"license": code}, **options)
        assert answer.json["error_code"] == "92020000", answer.json
        return answer.json["data"]

    async def sell(self, code: str = "PL1", order_id: str = "CS1", **facts: Any) -> None:
        """An order whose code we have been told; the marketplace has it too."""
        self.market.codes[code] = Code(order_id)
        await self.shop.sell(order_id, code=code, **facts)

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.rt.db.read(lambda tx: tx.all(sql))]

    async def restart(self) -> None:
        """End this process and begin another on the same database."""
        await self._life.aclose()
        await self.begin()

    async def begin(self) -> None:
        self.app, self.reporting, self._life = await begin(self.rt)


async def begin(rt: Runtime) -> tuple[ForwardedFor, OutboxWorker, AsyncExitStack]:
    """A process with the compatible routes alone, as the application wires them, and no background work of its own."""
    settings = Settings(data_dir=str(rt.proofs_dir.parent))
    life = AsyncExitStack()
    client = await life.enter_async_context(MarketplaceClient(TLS))
    gate = SoftwareGate(rt)
    limiter = Limiter(rt, limits(unknown_codes=60, bad_tokens=20, seats_given_back=1_000))
    desk = await life.enter_async_context(RelayDesk(rt, RelayCalls(rt, client, window_s=0.2), limiter))
    await gate.load()
    await resume_reports(rt)
    app = Litestar(compatible_routes(rt, gate, limiter, desk), openapi_config=None, logging_config=None)
    return ForwardedFor(app, settings.trusted_networks), OutboxWorker(rt, client), life


@asynccontextmanager
async def open_rig(rt: Runtime, clock: Clock, mode: str = "single", **shop: Any) -> AsyncIterator[Rig]:
    """One process, one marketplace, one product whose codes the marketplace makes."""
    market = FakeMarketplace(clock)
    await market.start()
    opened = await open_shop(rt, kind=DeliveryKind.LICENSE_2_0, sold=SOLD, **shop)
    await change(rt, "UPDATE connections SET base_url = $1, relay = $2", market.url, mode)
    app, reporting, life = await begin(rt)
    pair = await opened.pair()
    rig = Rig(rt=rt, clock=clock, market=market, shop=opened, pair=pair, app=app, reporting=reporting, _life=life)
    try:
        yield rig
    finally:
        await rig._life.aclose()
        await market.stop()


async def states(rig: Rig) -> list[tuple]:
    """Kind of code, state, order and amount of every license."""
    return await rig.rows(
        "SELECT c.kind, s.state, l.order_id, l.amount FROM licenses l JOIN license_states s ON s.license_id = l.id"
        " JOIN license_codes c ON c.license_id = l.id ORDER BY l.id"
    )
