"""The sandbox as an application: the marketplace's open API and the control routes, wired up.

In: what is made and who gets it, order/query (spec §1.6). Out: the other calls (`open_api`), the control routes (`control`).
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from litestar import Litestar, MediaType, Request, Response, get
from litestar.di import NamedDependency, Provide
from litestar.status_codes import HTTP_200_OK, HTTP_409_CONFLICT

from licensesvc.domain.instants import Instant
from licensesvc.domain.order import default_line_id
from licensesvc.marketplace.huawei.client import ORDER_QUERY_PATH
from licensesvc.marketplace.huawei.orders import OrderInfo, order_answer, order_failure
from licensesvc.marketplace.huawei.orders_mock import MOCK_ORDERS
from licensesvc.marketplace.huawei.result_codes import OrderCode, gateway_error
from licensesvc.marketplace.huawei.wire import SignatureRefused, query_parameters
from licensesvc.sandbox.changes import NoSuchChange
from licensesvc.sandbox.chaos import Wish
from licensesvc.sandbox.clock import wall_clock
from licensesvc.sandbox.control import control_router, set_chaos
from licensesvc.sandbox.gateway import Gateway
from licensesvc.sandbox.marketplace import ANSWER_SECONDS, Marketplace, NoSeller, TradingFrozen
from licensesvc.sandbox.open_api import OpenApi, open_api_router
from licensesvc.sandbox.orders import PlacedOrder, order_info
from licensesvc.sandbox.outage import Outage
from licensesvc.sandbox.probes import Probes
from licensesvc.sandbox.state import State

MAX_BODY_BYTES: Final = 16 * 1024

_QUERY_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")


def create_sandbox(
    state: State,
    *,
    time_factor: float = 1.0,
    answer_seconds: float = ANSWER_SECONDS,
    clock: Callable[[], Instant] = wall_clock,
    upper_case: bool = False,
    chaos: Wish | None = None,
) -> Litestar:
    """Wire the sandbox up; `time_factor` stretches the waits between retries and probes, 1 is the marketplace's own time."""
    marketplace = Marketplace(
        state,
        time_factor=time_factor,
        answer_seconds=answer_seconds,
        clock=clock,
        upper_case=upper_case,
    )
    probes = Probes(marketplace.ask, state.callback_key, clock, time_factor)
    marketplace.may_sell = probes.may_sell
    gateway = Gateway(state.api_access_key, state.api_secret, clock)
    open_api = OpenApi(state, clock)
    outage = Outage()
    set_chaos(marketplace, outage, chaos)
    return Litestar(
        [order_query, open_api_router(), control_router()],
        dependencies={
            "memory": Provide(lambda: state, sync_to_thread=False),
            "marketplace": Provide(lambda: marketplace, sync_to_thread=False),
            "gateway": Provide(lambda: gateway, sync_to_thread=False),
            "open_api": Provide(lambda: open_api, sync_to_thread=False),
            "outage": Provide(lambda: outage, sync_to_thread=False),
            "probes": Provide(lambda: probes, sync_to_thread=False),
            "clock": Provide(lambda: clock, sync_to_thread=False),
        },
        exception_handlers=dict.fromkeys((NoSeller, TradingFrozen, NoSuchChange), _conflict),
        lifespan=[marketplace, lambda _app: _replaying(probes)],
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=None,
        logging_config=None,
    )


@get(ORDER_QUERY_PATH)
async def order_query(
    request: Request[Any, Any, Any],
    memory: NamedDependency[State],
    gateway: NamedDependency[Gateway],
    outage: NamedDependency[Outage],
) -> Response[bytes]:
    """Answer order/query (spec §1.6): the nine mock orders and the placed ones."""
    if (away := await outage.refusal()) is not None:
        return away
    # The gateway takes IAM tokens as well as signatures; the sandbox has given none away [I].
    if "x-auth-token" in request.headers:
        return _open_api(*order_failure(OrderCode.ILLEGAL_TOKEN))
    scope = request.scope
    try:
        gateway.admit(
            scope["method"],
            scope["raw_path"],
            scope["query_string"],
            list(scope["headers"]),
            await request.body(),
        )
    except SignatureRefused as error:
        return _open_api(*gateway_error(error.reason, secrets.token_hex(16)))
    found = _find_order(scope["query_string"], memory.orders)
    if isinstance(found, OrderCode):
        return _open_api(*order_failure(found))
    return _open_api(HTTP_200_OK, order_answer(found))


def _find_order(query_string: bytes, placed: Mapping[str, PlacedOrder]) -> OrderInfo | OrderCode:
    try:
        parameters = query_parameters(query_string)
    except SignatureRefused:
        return OrderCode.INVALID_PARAMETER
    if not {"orderId"} <= parameters.keys() <= {"orderId", "orderLineId"}:
        return OrderCode.INVALID_PARAMETER
    if not all(_QUERY_ID.fullmatch(value) for value in parameters.values()):
        return OrderCode.INPUT_FAILURE
    order_id = parameters["orderId"]
    # An order that nobody placed is not this seller's: the documentation has no other code for it [I].
    if order_id not in MOCK_ORDERS and order_id not in placed:
        return OrderCode.ILLEGAL_OPERATION
    if parameters.get("orderLineId", default_line_id(order_id)) != default_line_id(order_id):
        return OrderCode.ILLEGAL_OPERATION
    return MOCK_ORDERS[order_id] if order_id in MOCK_ORDERS else order_info(placed[order_id])


def _open_api(status: int, body: bytes) -> Response[bytes]:
    return Response(body, status_code=status, media_type="application/json;charset=UTF-8")


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
