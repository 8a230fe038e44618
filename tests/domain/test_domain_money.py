"""Money of an order line: what is paid, what is billed, and that nothing is paid twice or given back that was not paid."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.money import (
    MAX_AMOUNT,
    LineMoney,
    PaymentState,
    SalesModel,
    TransactionKind,
    check_price,
    check_transaction,
)

AMOUNTS = st.integers(1, 10_000)


def line(model=SalesModel.JOINT, price=100, payments=0, refunds=0):
    return LineMoney(sales_model=model, price=price, payments=payments, refunds=refunds)


@pytest.mark.parametrize(
    ("money", "state", "paid", "billed"),
    [
        (line(price=None), PaymentState.UNKNOWN, 0, None),
        (line(), PaymentState.UNPAID, 0, 100),
        (line(payments=1), PaymentState.PARTLY_PAID, 1, 100),
        (line(payments=100), PaymentState.PAID, 100, 100),
        (line(payments=100, refunds=30), PaymentState.PAID, 100, 70),
        (line(SalesModel.GENERAL), PaymentState.PAID, 100, 100),
        (line(SalesModel.GENERAL, refunds=100), PaymentState.PAID, 100, 0),
        (line(SalesModel.GENERAL, price=None), PaymentState.UNKNOWN, 0, None),
        (line(price=0), PaymentState.PAID, 0, 0),
    ],
)
def test_how_far_a_line_is_paid_and_what_is_billed(money, state, paid, billed):
    assert (money.state, money.paid, money.billed) == (state, paid, billed)


@pytest.mark.parametrize(
    ("money", "kind", "amount"),
    [
        (line(price=None), TransactionKind.PAYMENT, 1),
        (line(), TransactionKind.PAYMENT, 101),
        (line(payments=60), TransactionKind.PAYMENT, 41),
        (line(), TransactionKind.REFUND, 1),
        (line(payments=50, refunds=50), TransactionKind.REFUND, 1),
        (line(SalesModel.GENERAL), TransactionKind.PAYMENT, 1),
        (line(SalesModel.GENERAL), TransactionKind.REFUND, 101),
        (line(), TransactionKind.PAYMENT, 0),
        (line(), TransactionKind.PAYMENT, -5),
        (line(price=MAX_AMOUNT), TransactionKind.PAYMENT, MAX_AMOUNT + 1),
    ],
)
def test_transactions_that_cannot_be(money, kind, amount):
    with pytest.raises(InvalidParameter):
        check_transaction(money, kind, amount)


@pytest.mark.parametrize(("money", "price"), [(line(payments=50), 49), (line(SalesModel.GENERAL, refunds=7), 6), (line(), -1), (line(), MAX_AMOUNT + 1)])  # fmt: skip
def test_prices_that_cannot_be(money, price):
    with pytest.raises(InvalidParameter):
        check_price(money, price)


@given(st.lists(st.tuples(st.sampled_from(TransactionKind), AMOUNTS)), AMOUNTS, st.sampled_from(SalesModel))
def test_whatever_is_entered_nothing_is_paid_twice_and_nothing_billed_below_zero(entered, price, model):
    money = line(model, price=price)
    for kind, amount in entered:
        try:
            check_transaction(money, kind, amount)
        except InvalidParameter:
            continue
        paid, back = (amount, 0) if kind is TransactionKind.PAYMENT else (0, amount)
        money = line(model, price=price, payments=money.payments + paid, refunds=money.refunds + back)
    assert 0 <= money.refunds <= money.paid <= price
    assert money.billed is not None
    assert money.billed >= 0
