"""License codes that the sandbox makes for License 2.0 orders and as test codes: their life as the open API sees it (spec §§5.1, 5.2, 5.4).

In: one code's record and what may be done with it. Out: bodies and signatures (`open_api`), telling the seller (`marketplace`).
"""

import secrets
import string
from typing import Final, Literal, TypeAlias

import msgspec

from licensesvc.domain.instants import DAY, SECOND, Instant
from licensesvc.marketplace.huawei.openapi import OpenApiFault
from licensesvc.marketplace.huawei.result_codes import OpenApiCode
from licensesvc.sandbox.orders import PlacedOrder, end_of_period

_SYMBOLS: Final = string.ascii_uppercase + string.digits
_LENGTH: Final = 18
TEST_ORDER: Final = "TESTCODE"
"""What a query tells as the order of a test code."""

CodeState: TypeAlias = Literal["UNCLAIMED", "NOT_ACTIVATED", "ALIVE", "EXPIRED", "RELEASED"]


class Code(msgspec.Struct, frozen=True, kw_only=True):
    """One code; `unclaimed` while the buyer of an older flow has not fetched it, `expires_at` None = bought for good."""

    code: str
    order_id: str
    product_id: str
    amount: int = 1
    test: bool = False
    unclaimed: bool = False
    activated_at: Instant | None = None
    queried_at: Instant | None = None
    expires_at: Instant | None = None
    frozen_at: Instant | None = None
    released_at: Instant | None = None

    def __repr__(self) -> str:
        return f"Code({self.order_id!r})"

    def state(self, now: Instant) -> CodeState:
        """What it is at `now`; freezing is a word to the seller and no state of a query (spec §5.2)."""
        if self.released_at is not None:
            return "RELEASED"
        if self.unclaimed:
            return "UNCLAIMED"
        if self.activated_at is None:
            return "NOT_ACTIVATED"
        return "EXPIRED" if self.expires_at is not None and now >= self.expires_at else "ALIVE"


def make(order_id: str, product_id: str, amount: int, expires_at: Instant | None, *, unclaimed: bool = False) -> Code:
    """A new code of an order."""
    return Code(
        code=_text("PL"),
        order_id=order_id,
        product_id=product_id,
        amount=amount,
        expires_at=expires_at,
        unclaimed=unclaimed,
    )


def make_test(product_id: str, days: int, now: Instant) -> Code:
    """A test code that is valid for so many days (spec §5.4)."""
    return Code(
        code=_text("PLTEST"), order_id=TEST_ORDER, product_id=product_id, expires_at=now + days * DAY, test=True
    )


def activate(code: Code | None, effect: Instant | None, purchase: PlacedOrder | None, now: Instant) -> Code:
    """The code once it is in service; OpenApiFault with the code of spec §1.8 where it cannot be.

    The bought period begins with the service (spec §6.6), unless a renewal has set its end already. A test code, which nobody bought, is
    valid until a fixed end.
    """
    if code is None:
        raise OpenApiFault(OpenApiCode.UNKNOWN_CODE)
    if code.unclaimed:
        raise OpenApiFault(OpenApiCode.NOT_CLAIMED)
    over = purchase is None and code.expires_at is not None and now >= code.expires_at
    if code.state(now) != "NOT_ACTIVATED" or code.frozen_at is not None or over:
        raise OpenApiFault(OpenApiCode.ILLEGAL_STATE)
    if purchase is None:
        return msgspec.structs.replace(code, activated_at=now)
    if effect is not None and effect < purchase.created_at - purchase.created_at % SECOND:
        raise OpenApiFault(OpenApiCode.INVALID_PARAM)
    renewed = code.expires_at != end_of_period(purchase, purchase.created_at)
    end = code.expires_at if renewed else end_of_period(purchase, now if effect is None else effect)
    return msgspec.structs.replace(code, activated_at=now, expires_at=end)


def query(code: Code | None, now: Instant) -> Code:
    """The code, as asked for at `now`; OpenApiFault where a query has no answer. The first query is remembered."""
    if code is None:
        raise OpenApiFault(OpenApiCode.UNKNOWN_CODE)
    if code.activated_at is None and code.released_at is None:
        raise OpenApiFault(OpenApiCode.NOT_ACTIVATED)
    return code if code.queried_at is not None else msgspec.structs.replace(code, queried_at=now)


def _text(prefix: str) -> str:
    return prefix + "".join(secrets.choice(_SYMBOLS) for _ in range(_LENGTH))
