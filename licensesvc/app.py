"""Composition root: opens what a process needs and puts the application together."""

import asyncio
import secrets
import shlex
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog
from litestar import Litestar
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from licensesvc import logs
from licensesvc.domain.instants import Instant
from licensesvc.marketplace.huawei.client import MarketplaceClient
from licensesvc.metrics import Metrics
from licensesvc.outbound.addresses import Policy
from licensesvc.outbound.client import OutboundClient
from licensesvc.services.access.authenticate_software import SoftwareGate
from licensesvc.services.access.limit_attempts import Limiter, limits
from licensesvc.services.catalog.open_connection import CallbackDoors
from licensesvc.services.guard.watch_delisting import DelistingWatch
from licensesvc.services.mail.mailer import Mailer, mail_server
from licensesvc.services.outbox_worker import OutboxWorker
from licensesvc.services.reconciliation.reconcile import Reconciler, plan_of
from licensesvc.services.relay.relay import RelayDesk
from licensesvc.services.relay.relay_calls import RelayCalls
from licensesvc.services.relay.relay_usage import resume_reports
from licensesvc.services.restarts.restart_message import Restarter
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.supervision_clock import SupervisionClock
from licensesvc.services.upkeep.follow_keys import KeyFollower
from licensesvc.services.upkeep.housekeeping import Housekeeping
from licensesvc.services.upkeep.readiness import Readiness
from licensesvc.services.upkeep.rotate_vault import VaultResealer
from licensesvc.services.upkeep.sealed_values import require_vault
from licensesvc.services.webhooks.webhook_dispatcher import WebhookDispatcher
from licensesvc.settings import Settings
from licensesvc.signing import keyset, vault
from licensesvc.signing.privatefiles import private_directory
from licensesvc.signing.signer import KeysetSigner
from licensesvc.storage.migrate import migrate, pending
from licensesvc.storage.port import Database, OnBatch
from licensesvc.storage.sqlite import open_sqlite
from licensesvc.storage.sqlite_reader import open_sqlite_reader
from licensesvc.web.admin import admin_router
from licensesvc.web.buyer.pages import style_sheet
from licensesvc.web.buyer.routes import buyer_router
from licensesvc.web.callbacks.routes import callback_routes
from licensesvc.web.delivery_packs import verify
from licensesvc.web.docs import openapi_config, problem_kind
from licensesvc.web.forwarded import ForwardedFor
from licensesvc.web.health import healthz, readyz
from licensesvc.web.metrics_page import MetricsDoor
from licensesvc.web.native.routes import jwks, native_router
from licensesvc.web.observed import Observed
from licensesvc.web.openapi_compat.routes import compatible_routes
from licensesvc.web.problems import problem_response
from licensesvc.web.request_ids import RequestIds

if TYPE_CHECKING:
    from licensesvc.web.traced import Tracing

_log = structlog.get_logger(__name__)


class NotReady(Exception):
    """The data directory cannot be served as it is; the text says what to do."""


def now() -> Instant:
    """The clock of a running process: epoch milliseconds UTC."""
    return time.time_ns() // 1_000_000


def create_data(settings: Settings) -> list[str]:
    """Create what is missing of data directory and keys, all private; return what was created."""
    private_directory(settings.data)
    _refuse_lost_keys(settings)
    private_directory(settings.proofs_dir)
    created = []
    if not settings.signing_keys_file.exists():
        keyset.create(settings.signing_keys_file, now())
        created.append(str(settings.signing_keys_file))
    if not settings.vault_keys_file.exists():
        vault.create(settings.vault_keys_file)
        created.append(str(settings.vault_keys_file))
    return created


def require_data(settings: Settings) -> None:
    """Raise NotReady unless `init` has made the data directory; nothing is created."""
    _refuse_lost_keys(settings)
    if not settings.signing_keys_file.exists() or not settings.vault_keys_file.exists():
        raise NotReady(
            f"{settings.data} holds no keys: run `licensesvc init --data-dir {shlex.quote(settings.data_dir)}`"
        )


def _refuse_lost_keys(settings: Settings) -> None:
    lost = [str(file) for file in (settings.signing_keys_file, settings.vault_keys_file) if not file.exists()]
    if lost and settings.database_file.exists():
        raise NotReady(
            f"{settings.database_file} is there, but not {' and '.join(lost)}: put back what belongs to it, or restore a"
            " backup; new keys would neither open nor verify anything that it holds"
        )


async def open_database(settings: Settings, on_batch: OnBatch | None = None) -> Database:
    """Open the database that the settings name."""
    if not settings.database_url:
        return await open_sqlite(settings.database_file, chain=settings.node, on_batch=on_batch)
    from licensesvc.storage.postgres import open_postgres  # noqa: PLC0415 - asyncpg is an extra

    return await open_postgres(settings.database_url, chain=settings.node, on_batch=on_batch)


async def open_reader(settings: Settings) -> Database:
    """Open the database for a command that only reads, also beside the server that writes."""
    if settings.database_url:
        return await open_database(settings)
    return await open_sqlite_reader(settings.database_file)


async def migrate_database(settings: Settings) -> list[str]:
    """Bring the schema up to date; return the names of the migrations that ran."""
    db = await open_database(settings)
    try:
        return await migrate(db, now=now())
    finally:
        await db.close()


@asynccontextmanager
async def open_runtime(
    settings: Settings,
    opening: Callable[[Settings], Awaitable[Database]] = open_database,
    on_sign: Callable[[float], None] | None = None,
) -> AsyncIterator[Runtime]:
    """Load the keys and open the database; raises NotReady, and what loading keys or opening the database raises."""
    require_data(settings)
    signer = KeysetSigner(keyset.load(settings.signing_keys_file), on_sign=on_sign)
    secrets_vault = vault.load(settings.vault_keys_file)
    repair = f"run `licensesvc migrate --data-dir {shlex.quote(settings.data_dir)}`"
    if not settings.database_url and not settings.database_file.exists():  # opening it would make it
        raise NotReady(f"there is no database in {settings.data}: {repair}, or restore it from a backup")
    db = await opening(settings)
    try:
        if missing := await pending(db):
            raise NotReady(f"the database lacks migrations ({', '.join(missing)}): {repair}")
        await db.read(lambda tx: require_vault(tx, secrets_vault))
        yield Runtime(
            db=db,
            vault=secrets_vault,
            signer=signer,
            clock=now,
            entropy=secrets.token_bytes,
            issuer=settings.issuer,
            proofs_dir=settings.proofs_dir,
        )
    finally:
        await db.close()


def create_app(
    rt: Runtime,
    settings: Settings,
    *,
    outbox: bool = True,
    readiness: Readiness | None = None,
    guard: DelistingWatch | None = None,
    tracing: "Tracing | None" = None,
    on_webhook: Callable[[str], None] | None = None,
) -> Litestar:
    """Put the application together; its lifespan does the background work, without the outbox where a command uses it for a moment.

    `on_webhook` is told the outcome of each attempt to deliver a message.
    """
    ready = readiness or create_readiness(rt, settings)
    watch = guard or DelistingWatch(rt)
    gate = SoftwareGate(rt, settings.lock_scope)
    doors = CallbackDoors(rt)
    limiter = Limiter(
        rt,
        limits(
            unknown_codes=settings.limit_unknown_codes,
            bad_tokens=settings.limit_bad_tokens,
            seats_given_back=settings.limit_seats_given_back,
        ),
    )
    client = MarketplaceClient(around=tracing.call) if tracing else MarketplaceClient()
    watch.count_refusals(client.refusals)
    desk = RelayDesk(rt, RelayCalls(rt, client), limiter)
    outbound = OutboundClient(Policy(allowed=settings.reachable_networks))
    worker = OutboxWorker(rt, client, _mailer(settings), outbound, settings.public_url)
    resealer = VaultResealer(rt, settings.vault_keys_file)
    restarter = Restarter(rt, client, worker.wake)
    reconciler = Reconciler(rt, client, plan_of(settings))
    background = {"vault": resealer.run}
    if outbox:
        follower = KeyFollower(rt, settings.signing_keys_file, settings.vault_keys_file)
        housekeeping = Housekeeping(rt, settings, partial(open_reader, settings))
        webhooks = WebhookDispatcher(
            rt,
            OutboundClient(Policy(allowed=settings.reachable_networks)),
            failing_days=settings.webhook_failing_days,
            on_attempt=on_webhook,
        )
        background |= {"outbox": worker.run, "keys": follower.run, "housekeeping": housekeeping.run}
        background |= {"reconciliation": reconciler.run, "guard": watch.run, "supervision": SupervisionClock(rt).run}
        background["webhooks"] = webhooks.run

    @asynccontextmanager
    async def working(_app: Litestar) -> AsyncIterator[None]:
        await gate.load()
        if outbox:
            await resume_reports(rt)
        async with client, desk, outbound:
            tasks = [asyncio.create_task(run(), name=name) for name, run in background.items()]
            for task in tasks:
                task.add_done_callback(_report)
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    return Litestar(
        route_handlers=[
            *compatible_routes(rt, gate, limiter, desk),
            *callback_routes(rt, worker, doors),
            native_router(),
            admin_router(),
            buyer_router(),
            style_sheet,
            verify,
            jwks,
            healthz,
            readyz,
            problem_kind,
        ],
        dependencies={
            "runtime": Provide(lambda: rt, sync_to_thread=False),
            "settings": Provide(lambda: settings, sync_to_thread=False),
            "gate": Provide(lambda: gate, sync_to_thread=False),
            "doors": Provide(lambda: doors, sync_to_thread=False),
            "limiter": Provide(lambda: limiter, sync_to_thread=False),
            "readiness": Provide(lambda: ready, sync_to_thread=False),
            "resealer": Provide(lambda: resealer, sync_to_thread=False),
            "restarter": Provide(lambda: restarter, sync_to_thread=False),
            "reconciler": Provide(lambda: reconciler, sync_to_thread=False),
            "guard": Provide(lambda: watch, sync_to_thread=False),
        },
        exception_handlers={HTTPException: problem_response, Exception: problem_response},
        openapi_config=openapi_config(),
        lifespan=[working],
        logging_config=None,
    )


def create_readiness(rt: Runtime, settings: Settings) -> Readiness:
    """The checks behind `/readyz`."""
    return Readiness(rt, settings.data, settings.least_free_mib * 1024 * 1024)


@asynccontextmanager
async def open_observed_app(rt: Runtime, settings: Settings, metrics: Metrics) -> AsyncIterator[ASGIApp]:
    """What a server serves: the application with request ids, access line, metrics, and traces where they are configured."""
    readiness = create_readiness(rt, settings)
    guard = DelistingWatch(rt)
    tracing = _open_tracing(settings)
    app = create_app(rt, settings, readiness=readiness, guard=guard, tracing=tracing, on_webhook=metrics.webhook)
    observed = Observed(app, metrics, logs.AccessLog(settings.log_level))
    traced: ASGIApp = observed
    if tracing:
        from licensesvc.web.traced import Traced  # noqa: PLC0415 - an extra

        traced = Traced(observed, tracing)
    try:
        named = RequestIds(ForwardedFor(traced, settings.trusted_networks))
        yield MetricsDoor(named, rt, metrics, readiness, settings.metrics_port, guard)
    finally:
        if tracing:
            await asyncio.to_thread(tracing.close)


def _open_tracing(settings: Settings) -> "Tracing | None":
    if not settings.otlp_endpoint:
        return None
    try:
        from licensesvc.web.traced import open_tracing  # noqa: PLC0415 - an extra

        return open_tracing(settings.otlp_endpoint, settings.node)
    except ImportError:
        raise NotReady("otlp_endpoint is set: install licensesvc[telemetry], or unset it") from None


def _mailer(settings: Settings) -> Mailer | None:
    if not settings.smtp_url or not settings.mail_from:
        return None
    return Mailer(mail_server(settings.smtp_url), settings.mail_from)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical("background_work_stopped", work=task.get_name(), action="restart the server", exc_info=error)
