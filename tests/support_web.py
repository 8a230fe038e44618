"""An application on a new SQLite database with keys of its own, a clock that stands still, and a client for each role."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from litestar import Litestar
from litestar.di import Provide
from litestar.types import ControllerRouterHandler

from licensesvc.marketplace.huawei.client import MarketplaceClient
from licensesvc.services.access.authenticate_software import SoftwareGate
from licensesvc.services.access.limit_attempts import Limiter, limits
from licensesvc.services.access.manage_tokens import CreateToken, create_token
from licensesvc.services.catalog.open_connection import CallbackDoors
from licensesvc.services.guard.watch_delisting import DelistingWatch
from licensesvc.services.reconciliation.reconcile import Reconciler, plan_of
from licensesvc.services.restarts.restart_message import Restarter
from licensesvc.services.runtime import Runtime
from licensesvc.services.upkeep.rotate_vault import VaultResealer
from licensesvc.settings import Settings
from licensesvc.signing import keyset, vault
from licensesvc.signing.privatefiles import private_directory
from licensesvc.signing.signer import KeysetSigner
from licensesvc.storage.credentials import Role
from licensesvc.storage.migrate import migrate
from licensesvc.storage.port import Database
from licensesvc.storage.sqlite import open_sqlite
from licensesvc.web.admin import admin_router
from licensesvc.web.buyer.pages import style_sheet
from licensesvc.web.buyer.routes import buyer_router
from licensesvc.web.delivery_packs import verify
from licensesvc.web.docs import openapi_config, problem_kind
from licensesvc.web.problems import problem_response
from licensesvc.web.request_ids import RequestIds
from tests.support_storage import create_sqlite

START = 1_795_000_000_000
"""2026-11-18T11:06:40Z."""


@dataclass
class Clock:
    """Shows `now` until a test moves it."""

    now: int = START

    def __call__(self) -> int:
        return self.now


@dataclass(frozen=True, kw_only=True)
class Site:
    """The application with clients that carry a token of each role; `stranger` carries none."""

    app: Litestar
    rt: Runtime
    clock: Clock
    stranger: httpx2.AsyncClient
    reader: httpx2.AsyncClient
    operator: httpx2.AsyncClient
    owner: httpx2.AsyncClient
    tokens: Mapping[str, str] = field(default_factory=dict)

    async def rows(self) -> dict[str, int]:
        """How many rows each table has."""

        async def count(tx: Any) -> dict[str, int]:
            tables = await tx.all("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
            return {
                row["name"]: (await tx.one(f"SELECT count(*) AS n FROM {row['name']}"))["n"]  # noqa: S608
                for row in tables
            }

        return await self.rt.db.read(count)

    async def audit_kinds(self) -> list[str]:
        """The kinds of all audit events, in order."""

        async def kinds(tx: Any) -> list[str]:
            return [row["kind"] for row in await tx.all("SELECT kind FROM audit_events ORDER BY chain, seq")]

        return await self.rt.db.read(kinds)


@asynccontextmanager
async def open_test_runtime(directory: Path, clock: Clock) -> AsyncIterator[Runtime]:
    """A runtime on a new data directory."""
    data = private_directory(directory / "data")
    await create_sqlite(data / "licensesvc.db")
    db = await open_sqlite(data / "licensesvc.db")
    try:
        yield await make_runtime(db, data, clock)
    finally:
        await db.close()


async def make_runtime(db: Database, data: Path, clock: Clock) -> Runtime:
    """A runtime on a database without rows, whose tables are brought up to date; with new keys in the data directory."""
    await migrate(db, now=clock())
    return Runtime(
        db=db,
        vault=vault.create(data / "vault-keys.json"),
        signer=KeysetSigner(keyset.create(data / "signing-keys.json", clock())),
        clock=clock,
        entropy=secrets.token_bytes,
        issuer="https://licenses.example",
        proofs_dir=private_directory(data / "proofs"),
    )


def make_app(
    rt: Runtime, *, more: list[ControllerRouterHandler] | None = None, client: MarketplaceClient | None = None
) -> Litestar:
    """The admin API and the API page, as the server puts them together; `more` adds routes."""
    return _app_of(_tools(rt, client), more or [])


def _tools(rt: Runtime, client: MarketplaceClient | None = None) -> dict[str, object]:
    """What the routes are given, by name."""
    settings = Settings(data_dir=str(rt.proofs_dir.parent), public_url="https://licenses.example/")
    restarter = Restarter(rt, client or MarketplaceClient(), lambda: None)
    return {
        "runtime": rt,
        "settings": settings,
        "gate": SoftwareGate(rt),
        "doors": CallbackDoors(rt),
        "limiter": Limiter(rt, limits(unknown_codes=60, bad_tokens=20, seats_given_back=1_000)),
        "resealer": VaultResealer(rt, settings.vault_keys_file),
        "restarter": restarter,
        "reconciler": Reconciler(rt, restarter.client, plan_of(Settings(reconcile_per_minute=6_000))),
        "guard": DelistingWatch(rt),
    }


def _app_of(tools: Mapping[str, object], more: list[ControllerRouterHandler]) -> Litestar:
    return Litestar(
        [admin_router(), buyer_router(), style_sheet, verify, problem_kind, *more],
        dependencies={name: _given(tools, name) for name in tools},
        exception_handlers={Exception: problem_response},
        openapi_config=openapi_config(),
        logging_config=None,
    )


def _given(tools: Mapping[str, object], name: str) -> Provide:
    return Provide(lambda: tools[name], sync_to_thread=False)


_idle_apps: list[tuple[Litestar, dict[str, object]]] = []


@contextmanager
def _lent_app(rt: Runtime) -> Iterator[Litestar]:
    """An application that earlier tests used, with tools of its own: registering its routes takes longer than most tests."""
    tools = _tools(rt)
    if _idle_apps:
        app, used = _idle_apps.pop()
        used.update(tools)
    else:
        used = tools
        app = _app_of(used, [])
    yield app
    _idle_apps.append((app, used))


@asynccontextmanager
async def started(app: Litestar) -> AsyncIterator[None]:
    """The application's lifespan in a task of its own, for a fixture begins and ends in different tasks."""
    running, finish = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with app.lifespan():
            running.set()
            await finish.wait()

    life = asyncio.create_task(live())
    await asyncio.wait({life, waiting := asyncio.create_task(running.wait())}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        if life.done():
            life.result()
        yield
    finally:
        finish.set()
        await life


@asynccontextmanager
async def open_site(directory: Path, *, more: list[ControllerRouterHandler] | None = None) -> AsyncIterator[Site]:
    """The whole site; its clients talk to the application without a socket."""
    clock = Clock()
    async with AsyncExitStack() as opened:
        rt = await opened.enter_async_context(open_test_runtime(directory, clock))
        app = make_app(rt, more=more) if more else opened.enter_context(_lent_app(rt))
        await opened.enter_async_context(started(app))
        tokens = {}
        for role in Role:
            command = CreateToken(name=role, role=role)
            _, tokens[role.value] = await rt.db.write(lambda tx, c=command: create_token(tx, rt, c, by="cli"))

        async def client(token: str | None) -> httpx2.AsyncClient:
            return await opened.enter_async_context(
                httpx2.AsyncClient(
                    transport=httpx2.ASGITransport(RequestIds(app), raise_app_exceptions=False),
                    base_url="http://licenses.example",
                    headers={"authorization": f"Bearer {token}"} if token else {},
                )
            )

        yield Site(
            app=app,
            rt=rt,
            clock=clock,
            tokens=tokens,
            stranger=await client(None),
            reader=await client(tokens["reader"]),
            operator=await client(tokens["operator"]),
            owner=await client(tokens["owner"]),
        )


async def make_catalog(site: Site, *, delivery_kind: str = "LICENSE_1_0") -> dict[str, str]:
    """A connection, a policy and a product; their ids by kind."""
    connection = await created(site, "connections", {"name": f"cn {delivery_kind}", "site": "cn"})
    policy = await created(
        site, "policies", {"name": f"year {delivery_kind}", "term": "PERIOD", "period": {"unit": "YEAR", "count": 1}}
    )
    product = await created(
        site,
        "products",
        {
            "connection": connection["id"],
            "policy": policy["id"],
            "name": "Widget",
            "marketplace_product_id": "OFFI100",
            "delivery_kind": delivery_kind,
        },
    )
    return {"connection": connection["id"], "policy": policy["id"], "product": product["id"]}


async def make_order(site: Site, catalog: Mapping[str, str], order_id: str = "CS123", **line: Any) -> dict[str, Any]:
    """An order of one line, entered by hand."""
    body = {
        "connection": catalog["connection"],
        "order_id": order_id,
        "lines": [{"product": catalog["product"], **line}],
    }
    return await created(site, "orders", body)


async def created(site: Site, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """What the owner has created with one POST."""
    response = await site.owner.post(f"/admin/v1/{path}", json=body)
    assert response.status_code == 201, response.text
    return response.json()
