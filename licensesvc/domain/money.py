"""Money of an order line: what it costs, what was paid and given back, what the marketplace will bill.

In: amounts as whole hundredths of a currency, and the rules over them. Out: in which month (settlement.py), where the figures come from.
"""

from enum import StrEnum
from typing import Annotated, Final, TypeAlias

import msgspec

from licensesvc.domain.errors import InvalidParameter

MAX_AMOUNT: Final = 10**15
"""Hundredths of a currency."""
Amount: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=MAX_AMOUNT, description="hundredths of the currency")]
"""Money that changes hands."""


class SalesModel(StrEnum):
    """How a product is sold: a general one is paid with the order, credit is not allowed; a joint one (联营) is paid later."""

    GENERAL = "general"
    JOINT = "joint"


class TransactionKind(StrEnum):
    """What a row of the transaction list is."""

    PAYMENT = "payment"
    REFUND = "refund"


class PaymentState(StrEnum):
    """How much of a line is paid; UNKNOWN while nobody has told its price."""

    UNKNOWN = "unknown"
    UNPAID = "unpaid"
    PARTLY_PAID = "partly_paid"
    PAID = "paid"


class LineMoney(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of one line, in hundredths of its currency; `price` None while nobody has told it."""

    sales_model: SalesModel
    price: int | None
    payments: int = 0
    refunds: int = 0

    @property
    def paid(self) -> int:
        """What the buyer has paid: with the order for a general product, else what was entered or imported."""
        if self.sales_model is SalesModel.GENERAL:
            return self.price or 0
        return self.payments

    @property
    def state(self) -> PaymentState:
        """How far the line is paid."""
        if self.price is None:
            return PaymentState.UNKNOWN
        if self.paid >= self.price:
            return PaymentState.PAID
        return PaymentState.PARTLY_PAID if self.paid else PaymentState.UNPAID

    @property
    def billed(self) -> int | None:
        """What is billed once the case is completed: the price without what was given back; None while the price is unknown."""
        return None if self.price is None else self.price - self.refunds


def check_transaction(money: LineMoney, kind: TransactionKind, amount: int) -> None:
    """Raise InvalidParameter unless the line can take this transaction: nothing is paid twice, nothing given back that was not paid."""
    if not 0 < amount <= MAX_AMOUNT:
        raise InvalidParameter("an amount is above 0")
    if money.price is None:
        raise InvalidParameter("tell the price of the order line first")
    if kind is TransactionKind.REFUND:
        if money.refunds + amount > money.paid:
            raise InvalidParameter("more would be given back than was paid")
    elif money.sales_model is SalesModel.GENERAL:
        raise InvalidParameter("a general product is paid with the order: there is no other payment")
    elif money.payments + amount > money.price:
        raise InvalidParameter("more would be paid than the order line costs")


def check_price(money: LineMoney, price: int) -> None:
    """Raise InvalidParameter when the line cannot cost this, given what was paid and given back already."""
    if not 0 <= price <= MAX_AMOUNT:
        raise InvalidParameter(f"a price is 0 to {MAX_AMOUNT}")
    if price < max(money.payments, money.refunds):
        raise InvalidParameter("more than that was paid or given back already")
