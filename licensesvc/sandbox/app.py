"""The sandbox as an application: the marketplace's open API and the control routes, wired up.

In: what is made and who gets it. Out: the open API (`open_api`), the control routes (`control`).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from litestar import Litestar, MediaType, Request, Response
from litestar.di import Provide
from litestar.status_codes import HTTP_409_CONFLICT

from licensesvc.domain.instants import Instant
from licensesvc.sandbox.changes import NoSuchChange
from licensesvc.sandbox.chaos import Wish
from licensesvc.sandbox.clock import wall_clock
from licensesvc.sandbox.control import control_router, set_chaos
from licensesvc.sandbox.gateway import Gateway
from licensesvc.sandbox.mails import MailServer
from licensesvc.sandbox.marketplace import ANSWER_SECONDS, Marketplace, NoSeller, TradingFrozen
from licensesvc.sandbox.open_api import OpenApi, open_api_routes
from licensesvc.sandbox.outage import Outage
from licensesvc.sandbox.probes import Probes
from licensesvc.sandbox.state import State, StateError

MAX_BODY_BYTES: Final = 16 * 1024
"""Of the control routes."""


def create_sandbox(
    state: State,
    *,
    time_factor: float = 1.0,
    answer_seconds: float = ANSWER_SECONDS,
    clock: Callable[[], Instant] = wall_clock,
    upper_case: bool = False,
    chaos: Wish | None = None,
    mail_server: MailServer | None = None,
) -> Litestar:
    """Wire the sandbox up; `time_factor` stretches the waits between retries and probes, 1 is the marketplace's own time."""
    marketplace = Marketplace(
        state,
        time_factor=time_factor,
        answer_seconds=answer_seconds,
        clock=clock,
        upper_case=upper_case,
        mail_server=mail_server,
    )
    probes = Probes(marketplace.ask, state, clock, time_factor, marketplace.mailbox)
    marketplace.may_sell = probes.may_sell
    gateway = Gateway(state.api_access_key, state.api_secret, clock)
    open_api = OpenApi(state, clock)
    outage = Outage()
    set_chaos(marketplace, outage, chaos)
    return Litestar(
        [*open_api_routes(open_api, gateway, outage), control_router()],
        dependencies={
            "memory": Provide(lambda: state, sync_to_thread=False),
            "marketplace": Provide(lambda: marketplace, sync_to_thread=False),
            "open_api": Provide(lambda: open_api, sync_to_thread=False),
            "outage": Provide(lambda: outage, sync_to_thread=False),
            "probes": Provide(lambda: probes, sync_to_thread=False),
            "clock": Provide(lambda: clock, sync_to_thread=False),
        },
        exception_handlers=dict.fromkeys((NoSeller, TradingFrozen, NoSuchChange, StateError), _conflict),
        lifespan=[marketplace, lambda _app: _replaying(probes)],
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=None,
        logging_config=None,
    )


@asynccontextmanager
async def _replaying(probes: Probes) -> AsyncIterator[None]:
    task = asyncio.create_task(probes.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _conflict(_: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    return Response(
        {"status_code": HTTP_409_CONFLICT, "detail": str(error)},
        status_code=HTTP_409_CONFLICT,
        media_type=MediaType.JSON,
    )
