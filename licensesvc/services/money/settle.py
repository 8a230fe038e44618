"""Money of order lines: their price, and the transactions that an operator enters or imports from the marketplace's list."""

from typing import Annotated, Final, TypeAlias

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import NotFound, OrderConflict
from licensesvc.domain.instants import Instant, parse_rfc3339
from licensesvc.domain.money import MAX_AMOUNT, Amount, SalesModel, TransactionKind, check_price, check_transaction
from licensesvc.services.licenses.change_license import Reason, WithReason
from licensesvc.services.runtime import Runtime
from licensesvc.storage import audit, money
from licensesvc.storage.money import Transaction
from licensesvc.storage.port import Tx

OPERATOR: Final = "operator"

Price: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_AMOUNT, description="hundredths of the currency")]
Currency: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}$(?!\n)", examples=["CNY"])]
Reference: TypeAlias = Annotated[
    str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[!-~]+$(?!\n)", description="the marketplace's number")
]
Time: TypeAlias = Annotated[str, msgspec.Meta(max_length=40, examples=["2026-11-23T16:00:00.000Z"])]


class SetPrice(WithReason, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an order line costs."""

    currency: Currency
    price: Price


class SetSalesModel(WithReason, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a product is sold from now on."""

    sales_model: SalesModel


class EnterTransaction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A payment or a refund of an order line (`lin_…`), as the marketplace's transaction list shows it."""

    line: Annotated[str, msgspec.Meta(max_length=40)]
    reference: Reference
    kind: TransactionKind
    amount: Amount
    currency: Currency
    at: Time


async def set_price(tx: Tx, rt: Runtime, line: str, command: SetPrice, *, by: str, source: str = OPERATOR) -> bool:
    """Write what a line costs and say whether that is new. Raises NotFound, InvalidParameter, OrderConflict."""
    line_ref, _ = await _line(tx, line)
    figures, currency = await money.of_line(tx, line_ref)
    if (figures.price, currency) == (command.price, command.currency):
        return False
    check_price(figures, command.price)
    if figures.payments or figures.refunds:
        _same_currency(currency, command.currency)
    now = rt.clock()
    await money.put_price(tx, line_ref, currency=command.currency, price=command.price, source=source, now=now)
    detail: dict[str, str | int | None] = {
        "from": figures.price, "to": command.price, "currency": command.currency, "reason": command.reason,
    }  # fmt: skip
    await audit.append(tx, [AuditEvent(at=now, actor=by, kind="line.price_set", subject=line, detail=detail)])
    return True


async def enter_transaction(
    tx: Tx, rt: Runtime, command: EnterTransaction, *, by: str, source: str = OPERATOR
) -> tuple[Transaction, bool]:
    """Add a transaction; the same one again is found, `True` says that it is new.

    Raises NotFound, InvalidParameter, OrderConflict (its reference stands for another one).
    """
    line_ref, connection_id = await _line(tx, command.line)
    at: Instant = parse_rfc3339(command.at)
    known = await money.by_reference(tx, connection_id, command.reference)
    if known is not None:
        if (known.line_ref, known.kind, known.amount, known.at) != (line_ref, command.kind, command.amount, at):
            raise OrderConflict(f"the reference {command.reference} stands for another transaction")
        return known, False
    figures, currency = await money.of_line(tx, line_ref)
    check_transaction(figures, command.kind, command.amount)
    _same_currency(currency, command.currency)
    now = rt.clock()
    transaction = Transaction(
        public_id=rt.new_id(ids.TRANSACTION, now),
        connection_id=connection_id,
        line_ref=line_ref,
        reference=command.reference,
        kind=command.kind,
        amount=command.amount,
        at=at,
        source=source,
    )
    await money.add_transaction(tx, transaction, now)
    detail: dict[str, str | int | None] = {
        "line": command.line, "kind": command.kind, "amount": command.amount, "reference": command.reference,
    }  # fmt: skip
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind="transaction.entered", subject=transaction.public_id, detail=detail)]
    )
    return transaction, True


async def set_sales_model(tx: Tx, rt: Runtime, product: str, model: SalesModel, reason: Reason, *, by: str) -> None:
    """Write how a product is sold. Raises NotFound."""
    if not await money.set_sales_model(tx, product, model):
        raise NotFound
    detail: dict[str, str | int | None] = {"sales_model": model, "reason": reason}
    await audit.append(
        tx, [AuditEvent(at=rt.clock(), actor=by, kind="product.sales_model_set", subject=product, detail=detail)]
    )


async def _line(tx: Tx, public_id: str) -> tuple[int, int]:
    found = await money.find_line(tx, public_id)
    if found is None:
        raise NotFound
    return found


def _same_currency(known: str | None, told: str) -> None:
    if known != told:
        raise OrderConflict(f"the order line is in {known}")
