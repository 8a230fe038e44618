"""The control routes of whoever runs the sandbox: orders and what becomes of them, codes, messages, mails, probes, outages, chaos.

In: routes and who may call them. Out: their bodies (`shown`), the marketplace's own API (`open_api`), what the marketplace does (`marketplace`).
"""

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
from litestar import Request, Router, get, post, put
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.exceptions import ClientException, NotFoundException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT

from licensesvc.domain.instants import Instant
from licensesvc.sandbox.changes import Change, Terms
from licensesvc.sandbox.chaos import Chaos, Wish
from licensesvc.sandbox.codes import make_test
from licensesvc.sandbox.mails import Mail
from licensesvc.sandbox.marketplace import Marketplace
from licensesvc.sandbox.messages import Message
from licensesvc.sandbox.open_api import OpenApi
from licensesvc.sandbox.orders import NewOrder, PlacedOrder
from licensesvc.sandbox.outage import Outage
from licensesvc.sandbox.post import Delivery
from licensesvc.sandbox.probes import Probes, ProductOnSale, Round, SaveCases
from licensesvc.sandbox.shown import (
    ApplyForCodes,
    ChangedOrder,
    ChaosState,
    Codes,
    CodeView,
    Orders,
    OrderWithDeliveries,
    ProbeState,
    Seller,
    SetChaos,
    SetOutage,
    code_view,
    publishable,
)
from licensesvc.sandbox.state import State
from licensesvc.strictjson import decode_object

LISTED_ORDERS: Final = 100
"""The newest ones; older ones are asked for by id."""
LISTED_CODES: Final = 1_000

_LOCAL_HOST: Final = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_LOOPBACK: Final = re.compile(r"127\.[0-9.]+|::1")
# Browsers send Origin with whatever could change something, proxies bring strangers to our own loopback address.
_FOREIGN_HEADERS: Final = ("origin", "forwarded", "x-forwarded-for")

_T = TypeVar("_T")


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
    """Show one order and every transcript of it, and of its changes, that is still kept."""
    return _with_deliveries(_placed(memory, order_id), marketplace.deliveries(order_id))


@post("/orders/{order_id:str}/redeliver", status_code=HTTP_200_OK)
async def redeliver(
    order_id: FromPath[str], marketplace: NamedDependency[Marketplace], memory: NamedDependency[State]
) -> OrderWithDeliveries:
    """Make the order's calls again (spec §2.6); those of its changes are restarted as messages."""
    deliveries = await marketplace.deliver(_placed(memory, order_id))
    return _with_deliveries(_placed(memory, order_id), deliveries)


@post("/orders/{order_id:str}/changes/{kind:str}", status_code=HTTP_200_OK)
async def change_order(
    order_id: FromPath[str],
    kind: FromPath[str],
    request: Request[Any, Any, Any],
    marketplace: NamedDependency[Marketplace],
    memory: NamedDependency[State],
) -> ChangedOrder:
    """Renew, refund, freeze, … a purchase, and tell the seller; the body, which may be empty, has the terms of a renewal."""
    if kind not in list(Change):
        raise NotFoundException(f"a change is one of {', '.join(Change)}")
    body = await request.body()
    terms = _read(body, Terms) if body else None
    changed, deliveries = await marketplace.change(Change(kind), _placed(memory, order_id), terms)
    return ChangedOrder(order=changed.order, deliveries=deliveries)


@get("/messages")
async def list_messages(marketplace: NamedDependency[Marketplace]) -> list[Message]:
    """List the calls to the seller (生产接口消息), the newest last."""
    return marketplace.messages.all


@post("/messages/{number:int}/restart", status_code=HTTP_200_OK)
async def restart_message(number: FromPath[int], marketplace: NamedDependency[Marketplace]) -> list[Delivery]:
    """Make a call again by hand, with its whole schedule (spec §2.6)."""
    made = await marketplace.restart(number)
    if made is None:
        raise NotFoundException(f"no message {number}")
    return made


@get("/codes")
async def list_codes(
    memory: NamedDependency[State], open_api: NamedDependency[OpenApi], clock: NamedDependency[Callable[[], Instant]]
) -> Codes:
    """List the newest codes that the sandbox has made."""
    known, now = list(memory.codes.values()), clock()
    return Codes(
        codes=[code_view(code, now) for code in known[-LISTED_CODES:]],
        total=len(known),
        usage=open_api.usage(),
        publishable=publishable(known),
    )


@post("/test-codes")
async def apply_for_codes(
    request: Request[Any, Any, Any], memory: NamedDependency[State], clock: NamedDependency[Callable[[], Instant]]
) -> list[CodeView]:
    """Apply for test codes (spec §5.4)."""
    wish, now = _read(await request.body(), ApplyForCodes), clock()
    made = [make_test(wish.product_id, wish.days, now) for _ in range(wish.count)]
    memory.put(codes=made)
    return [code_view(code, now) for code in made]


@get("/mails")
async def list_mails(marketplace: NamedDependency[Marketplace]) -> list[Mail]:
    """What the marketplace has mailed about failures, oldest first."""
    return list(marketplace.mailbox.kept)


@post("/probes/cases")
async def save_cases(request: Request[Any, Any, Any], probes: NamedDependency[Probes]) -> list[str]:
    """Save debug cases, which are replayed from now on."""
    return probes.save(_read(await request.body(), SaveCases))


@post("/probes/replay", status_code=HTTP_200_OK)
async def replay_cases(probes: NamedDependency[Probes]) -> list[Round]:
    """Replay all saved cases now."""
    return await probes.replay()


@post("/probes/thaw", status_code=HTTP_204_NO_CONTENT)
async def thaw_product(request: Request[Any, Any, Any], probes: NamedDependency[Probes]) -> None:
    """Let a frozen product be traded again."""
    probes.thaw(_read(await request.body(), ProductOnSale).product_id)


@get("/probes")
async def show_probes(probes: NamedDependency[Probes], memory: NamedDependency[State]) -> ProbeState:
    """Show the saved cases and their replays."""
    saved = {product: sorted(dialects) for product, dialects in memory.debug_cases.items()}
    return ProbeState(
        saved=saved,
        rounds=probes.rounds,
        failing_days={product: probes.failing_days(product) for product in saved},
        frozen=probes.frozen,
    )


@put("/outage", status_code=HTTP_204_NO_CONTENT)
async def set_outage(request: Request[Any, Any, Any], outage: NamedDependency[Outage]) -> None:
    """Stop or start the open API."""
    outage.kind = _read(await request.body(), SetOutage).kind


@put("/chaos", status_code=HTTP_204_NO_CONTENT)
async def put_chaos(
    request: Request[Any, Any, Any], marketplace: NamedDependency[Marketplace], outage: NamedDependency[Outage]
) -> None:
    """Start or end chaos."""
    set_chaos(marketplace, outage, _read(await request.body(), SetChaos).chaos)


@get("/chaos")
async def show_chaos(marketplace: NamedDependency[Marketplace]) -> ChaosState:
    """Show what chaos has done so far."""
    chaos = marketplace.chaos
    return ChaosState(chaos=chaos.wish if chaos else None, tally=chaos.tally if chaos else {})


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


def set_chaos(marketplace: Marketplace, outage: Outage, wish: Wish | None) -> None:
    """Start, change or end chaos on both sides."""
    marketplace.chaos = outage.chaos = Chaos(wish) if wish else None


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


ROUTES: Final = (
    place_order,
    list_orders,
    show_order,
    redeliver,
    change_order,
    list_messages,
    restart_message,
    set_seller,
    list_codes,
    apply_for_codes,
    list_mails,
    save_cases,
    replay_cases,
    thaw_product,
    show_probes,
    set_outage,
    put_chaos,
    show_chaos,
    healthz,
)


def control_router() -> Router:
    """Every control route; the application provides what they name."""
    return Router("/sandbox", guards=[local_programs_only], route_handlers=ROUTES)
