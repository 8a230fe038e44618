"""The sandbox's HTTP side: the marketplace's open API (spec §1.6) and the control routes of whoever runs the sandbox.

In: routes, who may call them, bodies. Out: what the marketplace does (`marketplace`), remembering (`state`).
"""

import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import httpx2
import msgspec
from litestar import Litestar, MediaType, Request, Response, Router, get, post, put
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ClientException, NotFoundException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT, HTTP_409_CONFLICT

from licensesvc.domain.instants import Instant
from licensesvc.domain.order import default_line_id
from licensesvc.marketplace.huawei.client import ORDER_QUERY_PATH
from licensesvc.marketplace.huawei.orders import OrderInfo, order_answer, order_failure
from licensesvc.marketplace.huawei.orders_mock import MOCK_ORDERS
from licensesvc.marketplace.huawei.result_codes import OrderCode, gateway_error
from licensesvc.marketplace.huawei.wire import SignatureRefused, query_parameters
from licensesvc.sandbox.clock import wall_clock
from licensesvc.sandbox.gateway import Gateway
from licensesvc.sandbox.marketplace import ANSWER_SECONDS, Delivery, Marketplace, NoSeller
from licensesvc.sandbox.orders import NewOrder, PlacedOrder, order_info
from licensesvc.sandbox.state import State
from licensesvc.strictjson import decode_object

MAX_BODY_BYTES: Final = 16 * 1024
LISTED_ORDERS: Final = 100
"""The newest ones; older ones are asked for by id."""
MAX_URL: Final = 512

_LOCAL_HOST: Final = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_LOOPBACK: Final = re.compile(r"127\.[0-9.]+|::1")
# Browsers send Origin with whatever could change something, proxies bring strangers to our own loopback address.
_FOREIGN_HEADERS: Final = ("origin", "forwarded", "x-forwarded-for")
_PORTS: Final = frozenset({None, *range(1, 65_536)})
_QUERY_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")

_T = TypeVar("_T")


class OrderWithDeliveries(PlacedOrder, frozen=True, kw_only=True):
    """An order and transcripts of calls about it, oldest first."""

    deliveries: list[Delivery]


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """The newest orders, newest first, and how many there are."""

    orders: list[PlacedOrder]
    total: int


class Seller(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The seller's production URL: http or https, no query (the signature goes there), no user, no fragment."""

    callback_url: str

    def __post_init__(self) -> None:
        """Refuse an address that cannot be called."""
        try:
            url = httpx2.URL(self.callback_url)
        except httpx2.InvalidURL as error:
            raise ValueError(f"callback_url: {error}") from None
        callable_url = url.scheme in {"http", "https"} and url.host and url.port in _PORTS and not url.userinfo
        if not callable_url or {"?", "#"} & set(self.callback_url) or len(self.callback_url) > MAX_URL:
            raise ValueError(
                f"callback_url is an http(s) URL without query, user and fragment, up to {MAX_URL} characters"
            )


def create_sandbox(
    state: State,
    *,
    time_factor: float = 1.0,
    answer_seconds: float = ANSWER_SECONDS,
    clock: Callable[[], Instant] = wall_clock,
) -> Litestar:
    """Wire the sandbox up; `time_factor` stretches the waits between retries, 1 is the marketplace's own time."""
    marketplace = Marketplace(state, time_factor=time_factor, answer_seconds=answer_seconds, clock=clock)
    gateway = Gateway(state.api_access_key, state.api_secret, clock)
    control = Router(
        "/sandbox",
        guards=[local_programs_only],
        route_handlers=[place_order, list_orders, show_order, redeliver, set_seller, healthz],
    )
    return Litestar(
        [order_query, control],
        dependencies={
            "memory": Provide(lambda: state, sync_to_thread=False),
            "marketplace": Provide(lambda: marketplace, sync_to_thread=False),
            "gateway": Provide(lambda: gateway, sync_to_thread=False),
        },
        exception_handlers={NoSeller: _no_seller},
        lifespan=[marketplace],
        request_max_body_size=MAX_BODY_BYTES,
        openapi_config=None,
        logging_config=None,
    )


@get(ORDER_QUERY_PATH)
async def order_query(
    request: Request[Any, Any, Any], memory: NamedDependency[State], gateway: NamedDependency[Gateway]
) -> Response[bytes]:
    """Answer order/query (spec §1.6): the nine mock orders and the placed ones."""
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


@post("/orders")
async def place_order(
    request: Request[Any, Any, Any], marketplace: NamedDependency[Marketplace], memory: NamedDependency[State]
) -> OrderWithDeliveries:
    """Place an order and make the first attempt of each call that it makes due."""
    order = marketplace.place(_read(await request.body(), NewOrder))
    deliveries = await marketplace.deliver(order)
    return _with_deliveries(_placed(memory, order.order_id), deliveries)


@get("/orders")
async def list_orders(memory: NamedDependency[State]) -> Orders:
    """List the newest orders."""
    newest = list(memory.orders.values())[-LISTED_ORDERS:]
    return Orders(orders=newest[::-1], total=len(memory.orders))


@get("/orders/{order_id:str}")
async def show_order(
    order_id: FromPath[str], marketplace: NamedDependency[Marketplace], memory: NamedDependency[State]
) -> OrderWithDeliveries:
    """Show one order and every transcript of it that is still kept."""
    return _with_deliveries(_placed(memory, order_id), marketplace.deliveries(order_id))


@post("/orders/{order_id:str}/redeliver", status_code=HTTP_200_OK)
async def redeliver(
    order_id: FromPath[str], marketplace: NamedDependency[Marketplace], memory: NamedDependency[State]
) -> OrderWithDeliveries:
    """Make the order's calls again, as the seller does by hand under 生产接口消息 (spec §2.6)."""
    deliveries = await marketplace.deliver(_placed(memory, order_id))
    return _with_deliveries(_placed(memory, order_id), deliveries)


@put("/seller", status_code=HTTP_204_NO_CONTENT)
async def set_seller(request: Request[Any, Any, Any], memory: NamedDependency[State]) -> None:
    """Tell the seller's production URL."""
    memory.set_seller(_read(await request.body(), Seller).callback_url)


@get("/healthz")
async def healthz() -> dict[str, str]:
    """Tell that the sandbox is up."""
    return {"status": "ok"}


def local_programs_only(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Let in programs on this machine: the control routes have no other protection."""
    peer = connection.client.host if connection.client else ""
    host = connection.headers.get("host", "")
    if (
        not _LOOPBACK.fullmatch(peer)
        or not _LOCAL_HOST.fullmatch(host)
        or any(name in connection.headers for name in _FOREIGN_HEADERS)
    ):
        raise PermissionDeniedException("the control routes are for programs on this machine")


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


def _read(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.convert(decode_object(body), kind)
    except ValueError as error:
        raise ClientException(str(error)) from None


def _placed(memory: State, order_id: str) -> PlacedOrder:
    try:
        return memory.orders[order_id]
    except KeyError:
        raise NotFoundException(f"no order {order_id}") from None


def _with_deliveries(order: PlacedOrder, deliveries: list[Delivery]) -> OrderWithDeliveries:
    return OrderWithDeliveries(**msgspec.structs.asdict(order), deliveries=deliveries)


def _no_seller(_: Request[Any, Any, Any], error: NoSeller) -> Response[dict[str, Any]]:
    return Response(
        {"status_code": HTTP_409_CONFLICT, "detail": str(error)},
        status_code=HTTP_409_CONFLICT,
        media_type=MediaType.JSON,
    )
