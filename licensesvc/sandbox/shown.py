"""Bodies of the control routes: what they read and what they show.

In: the structs, what a code looks like to people. Out: the routes (`control`).
"""

from collections.abc import Sequence
from typing import Annotated, Final

import httpx2
import msgspec

from licensesvc.domain.instants import Instant, rfc3339
from licensesvc.sandbox.chaos import Tally, Wish
from licensesvc.sandbox.codes import Code, CodeState
from licensesvc.sandbox.open_api import Use
from licensesvc.sandbox.orders import Identifier, PlacedOrder
from licensesvc.sandbox.outage import OutageKind
from licensesvc.sandbox.post import Delivery
from licensesvc.sandbox.probes import Round

MAX_URL: Final = 512
MAX_TEST_CODES: Final = 100
MAX_TEST_DAYS: Final = 366

_PORTS: Final = frozenset({None, *range(1, 65_536)})
_MARKS: Final = ("已激活", "已检测")


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
    state: CodeState
    frozen: bool
    activated_at: str | None
    expires_at: str | None
    marks: list[str]


class Codes(msgspec.Struct, frozen=True, kw_only=True):
    """The newest codes, oldest first, how many there are, what was counted of their use, and the products that may be published.

    A product may be published once one of its test codes was activated and one was queried (spec §5.4).
    """

    codes: list[CodeView]
    total: int
    usage: list[Use]
    publishable: list[str]


class ApplyForCodes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Test codes (申请测试授权码) for a product, valid for so many days."""

    product_id: Identifier
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_TEST_CODES)] = 1
    days: Annotated[int, msgspec.Meta(ge=1, le=MAX_TEST_DAYS)] = 30


class SetOutage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the open API behaves from now on."""

    kind: OutageKind


class SetChaos(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Chaos from now on; null ends it."""

    chaos: Wish | None


class ChaosState(msgspec.Struct, frozen=True, kw_only=True):
    """What is wished for, and what was done since: how often, and how often the seller took it otherwise than it should."""

    chaos: Wish | None
    tally: dict[str, Tally]


class ProbeState(msgspec.Struct, frozen=True, kw_only=True):
    """The dialects whose cases are saved, by product; the replays so far, on how many days in a row one has failed; who is frozen."""

    saved: dict[str, list[str]]
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


def code_view(code: Code, now: Instant) -> CodeView:
    """What people see of a code."""
    reached = (code.activated_at, code.queried_at)
    return CodeView(
        code=code.code,
        order_id=code.order_id,
        product_id=code.product_id,
        amount=code.amount,
        test=code.test,
        state=code.state(now),
        frozen=code.frozen_at is not None,
        activated_at=_time(code.activated_at),
        expires_at=_time(code.expires_at),
        marks=[mark for mark, at in zip(_MARKS, reached, strict=True) if at is not None],
    )


def _time(instant: Instant | None) -> str | None:
    return None if instant is None else rfc3339(instant)


def publishable(codes: Sequence[Code]) -> list[str]:
    """Products whose test codes have seen both calls."""
    activated = {code.product_id for code in codes if code.test and code.activated_at is not None}
    queried = {code.product_id for code in codes if code.test and code.queried_at is not None}
    return sorted(activated & queried)
