"""The real application on a small stock, with a clock that stands still, asked from chosen addresses."""

import dataclasses
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from litestar import Litestar

from licensesvc.app import create_app, open_runtime
from licensesvc.marketplace.huawei import aksk
from licensesvc.services.runtime import Runtime
from licensesvc.settings import Settings
from licensesvc.web.forwarded import ForwardedFor
from tests.support_load import ACTIVATE
from tests.support_stock import Stock, make_stock
from tests.support_web import Clock, started

HERE = "198.51.100.7"
ELSEWHERE = "198.51.100.8"
UNKNOWN = "LS-00000-00000-00000-00000-00000"


@dataclass(frozen=True)
class Limited:
    """The application; `settings` are its limits."""

    litestar: Litestar
    app: ForwardedFor
    rt: Runtime
    stock: Stock
    clock: Clock

    async def call(
        self, method: str, path: str, body: Any = None, *, address: str = HERE, headers: Mapping[str, str] | None = None
    ) -> httpx2.Response:
        """One request from an address."""
        transport = httpx2.ASGITransport(self.app, raise_app_exceptions=False, client=(address, 4711))
        async with httpx2.AsyncClient(transport=transport, base_url="http://licenses.example") as http:
            return await http.request(method, path, content=body, headers=headers)

    async def activate(self, code: str, *, address: str = HERE, path: str = ACTIVATE) -> httpx2.Response:
        """A signed call of the compatible API."""
        body = msgspec.json.encode({"license": code})
        headers = [
            ("host", "licenses.example"),
            ("content-type", "application/json"),
            ("x-sdk-date", aksk.sdk_date(self.clock())),
        ]
        keys = {"access_key": self.stock.access_key, "secret_key": self.stock.secret_key}
        signature = aksk.sign(method="POST", path=path, query="", headers=headers, body=body, **keys)
        return await self.call(
            "POST", path, body, address=address, headers=dict([*headers, ("authorization", signature)])
        )

    async def post(self, path: str, document: Any, *, address: str = HERE) -> httpx2.Response:
        """A call of the native API."""
        return await self.call(
            "POST",
            path,
            msgspec.json.encode(document),
            address=address,
            headers={"content-type": "application/json"},
        )

    async def count(self, table: str) -> int:
        """How many rows a table has."""
        row = await self.rt.db.read(lambda tx: tx.one(f"SELECT count(*) AS n FROM {table}"))  # noqa: S608
        assert row is not None
        return int(row["n"])


@asynccontextmanager
async def open_limited(directory: Path, *, seats: int = 1, **settings: Any) -> AsyncIterator[Limited]:
    """An application with these settings on a new stock of two licenses."""
    stock = await make_stock(directory / "data", licenses=2, seats=seats)
    configured = Settings(data_dir=str(stock.data_dir), **settings)
    clock = Clock(time.time_ns() // 1_000_000)  # after the orders of the stock
    async with open_runtime(configured) as opened:
        rt = dataclasses.replace(opened, clock=clock)
        app = create_app(rt, configured)
        async with started(app):
            yield Limited(app, ForwardedFor(app, configured.trusted_networks), rt, stock, clock)
