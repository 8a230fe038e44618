"""The control routes of whoever runs the sandbox: orders and what becomes of them, codes, mails, probes, outages, chaos.

In: routes, who may call them, what they show. Out: the marketplace's own API (`open_api`, `app`), what the marketplace does (`marketplace`).
"""

import random
import re
from collections.abc import Callable
from typing import Annotated, Any, Final, TypeVar

import httpx2
import msgspec
from litestar import Request, Router, get, post, put
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.exceptions import ClientException, NotFoundException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath
from litestar.status_codes import HTTP_200_OK, HTTP_204_NO_CONTENT

from licensesvc.domain.instants import Instant
from licensesvc.sandbox.changes import Change
from licensesvc.sandbox.chaos import Chaos, Wish
from licensesvc.sandbox.codes import Code, make_test
from licensesvc.sandbox.marketplace import Mail, Marketplace
from licensesvc.sandbox.open_api import OpenApi
from licensesvc.sandbox.orders import NewOrder, PlacedOrder
from licensesvc.sandbox.outage import Outage, OutageKind
from licensesvc.sandbox.post import Delivery
from licensesvc.sandbox.probes import Probes, Round, SaveCases
from licensesvc.sandbox.state import State
from licensesvc.strictjson import decode_object

LISTED_ORDERS: Final = 100
"""The newest ones; older ones are asked for by id."""
MAX_URL: Final = 512

_LOCAL_HOST: Final = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_LOOPBACK: Final = re.compile(r"127\.[0-9.]+|::1")
# Browsers send Origin with whatever could change something, proxies bring strangers to our own loopback address.
_FOREIGN_HEADERS: Final = ("origin", "forwarded", "x-forwarded-for")
_PORTS: Final = frozenset({None, *range(1, 65_536)})

_T = TypeVar("_T")


class OrderWithDeliveries(PlacedOrder, frozen=True, kw_only=True):
    """An order and transcripts of calls about it, oldest first."""

    deliveries: list[Delivery]


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """The newest orders, newest first, and how many there are."""

    orders: list[PlacedOrder]
    total: int


class ChangedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a change has made: the new order, if any, and transcripts of the calls about it."""

    order: PlacedOrder | None
    deliveries: list[Delivery]


class CodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A license code as the seller center shows it; test codes are 已激活 and 已检测 once each call has succeeded."""

    code: str
    order_id: str
    product_id: str
    amount: int
    test: bool
    state: str
    marks: list[str]


class Codes(msgspec.Struct, frozen=True, kw_only=True):
    """All codes, what was counted of their use, and the products whose test codes allow them to be published."""

    codes: list[CodeView]
    usage: list[dict[str, Any]]
    publishable: list[str]


class ApplyForCodes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Test codes (申请测试授权码) for a product, valid for so many days."""

    product_id: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    count: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    days: Annotated[int, msgspec.Meta(ge=1, le=366)] = 30


class SetOutage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the open API behaves from now on."""

    kind: OutageKind


class SetChaos(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Chaos from now on; null ends it."""

    chaos: Wish | None


class ProbeState(msgspec.Struct, frozen=True, kw_only=True):
    """The replays so far, and per product on how many days in a row one has failed."""

    rounds: list[Round]
    failing_days: dict[str, int]
    frozen: list[str]


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


@post("/orders/{order_id:str}/changes/{kind:str}", status_code=HTTP_200_OK)
async def change_order(
    order_id: FromPath[str],
    kind: FromPath[str],
    marketplace: NamedDependency[Marketplace],
    memory: NamedDependency[State],
) -> ChangedOrder:
    """Renew, refund, freeze, … a purchase, and tell the seller."""
    if kind not in list(Change):
        raise NotFoundException(f"a change is one of {', '.join(Change)}")
    changed, deliveries = await marketplace.change(Change(kind), _placed(memory, order_id))
    return ChangedOrder(order=changed.order, deliveries=deliveries)


@get("/codes")
async def list_codes(
    memory: NamedDependency[State], open_api: NamedDependency[OpenApi], clock: NamedDependency[Callable[[], Instant]]
) -> Codes:
    """List the codes that the sandbox has made."""
    views = [_code_view(code, clock()) for code in memory.codes.values()]
    checked = {view.product_id for view in views if view.test and len(view.marks) == len(_MARKS)}
    return Codes(codes=views, usage=open_api.usage(), publishable=sorted(checked))


@post("/test-codes")
async def apply_for_codes(
    request: Request[Any, Any, Any], memory: NamedDependency[State], clock: NamedDependency[Callable[[], Instant]]
) -> list[CodeView]:
    """Apply for test codes (spec §5.4)."""
    wish = _read(await request.body(), ApplyForCodes)
    made = [make_test(wish.product_id, wish.days, clock()) for _ in range(wish.count)]
    for code in made:
        memory.put_code(code)
    return [_code_view(code, clock()) for code in made]


@get("/mails")
async def list_mails(marketplace: NamedDependency[Marketplace]) -> list[Mail]:
    """What the marketplace has mailed about failures, oldest first."""
    return list(marketplace.mails)


@post("/probes/cases")
async def save_cases(request: Request[Any, Any, Any], probes: NamedDependency[Probes]) -> list[str]:
    """Save debug cases, which are replayed from now on."""
    return probes.save(_read(await request.body(), SaveCases))


@post("/probes/replay", status_code=HTTP_200_OK)
async def replay_cases(probes: NamedDependency[Probes]) -> list[Round]:
    """Replay all saved cases now."""
    return await probes.replay()


@get("/probes")
async def show_probes(probes: NamedDependency[Probes]) -> ProbeState:
    """Show the replays."""
    products = sorted({one.product_id for one in probes.rounds})
    return ProbeState(
        rounds=probes.rounds,
        failing_days={product: probes.failing_days(product) for product in products},
        frozen=[product for product in products if not probes.may_sell(product)],
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


def set_chaos(marketplace: Marketplace, outage: Outage, wish: Wish | None) -> None:
    """Start, change or end chaos on both sides."""
    marketplace.chaos = made = Chaos(wish) if wish else None
    outage.unsteady(made.dice if made else random.Random(), wish.rate if wish else 0.0)  # noqa: S311 - no secret


_MARKS: Final = ("已激活", "已检测")


def _code_view(code: Code, now: Instant) -> CodeView:
    reached = (code.activated_at, code.queried_at)
    return CodeView(
        code=code.code,
        order_id=code.order_id,
        product_id=code.product_id,
        amount=code.amount,
        test=code.test,
        state=code.state(now),
        marks=[mark for mark, at in zip(_MARKS, reached, strict=True) if at is not None],
    )


def control_router() -> Router:
    """Every control route; the application provides what they name."""
    return Router(
        "/sandbox",
        guards=[local_programs_only],
        route_handlers=[
            place_order,
            list_orders,
            show_order,
            redeliver,
            change_order,
            set_seller,
            list_codes,
            apply_for_codes,
            list_mails,
            save_cases,
            replay_cases,
            show_probes,
            set_outage,
            put_chaos,
            healthz,
        ],
    )
