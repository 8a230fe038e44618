"""Imports the marketplace's transaction list from a CSV file: prices, payments and refunds of order lines.

In: what a row means. Out: walking through the file (`import_rows`). Amounts are written as people read them, `1234.50`.
"""

from decimal import Decimal
from typing import IO, Annotated, Final, Literal

import msgspec

from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.money import TransactionKind
from licensesvc.domain.order import default_line_id
from licensesvc.services.catalog.manage_catalog import MarketplaceId
from licensesvc.services.imports.import_rows import ImportReport, Receive, import_rows
from licensesvc.services.money.settle import (
    Currency,
    EnterTransaction,
    Reference,
    SetPrice,
    Time,
    enter_transaction,
    set_price,
)
from licensesvc.services.runtime import Runtime
from licensesvc.storage import connections, money
from licensesvc.storage.port import Tx

SOURCE: Final = "import"


class TransactionRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The columns of a file. `price` tells what a line costs; a payment or refund has its marketplace number and time as well."""

    order_id: MarketplaceId
    line_id: MarketplaceId | None = None
    kind: Literal["price", "payment", "refund"]
    amount: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,13}(\.[0-9]{1,2})?$(?!\n)")]
    currency: Currency
    reference: Reference | None = None
    at: Time | None = None

    def __post_init__(self) -> None:
        """Refuse a transaction without its number or its time, and a price with them."""
        if (self.kind == "price") != (self.reference is None) or (self.reference is None) != (self.at is None):
            raise InvalidParameter("reference and at belong to payments and refunds")

    @property
    def hundredths(self) -> int:
        """The amount in hundredths of the currency."""
        return int(Decimal(self.amount) * 100)


async def import_transactions(
    rt: Runtime, file: IO[bytes], connection_id: str, *, by: str, dry_run: bool, all_or_nothing: bool
) -> ImportReport:
    """Take the rows of a CSV file as transactions of a connection. Raises InvalidParameter as `import_rows` does."""
    stored = await rt.db.read(lambda tx: connections.by_public_id(tx, connection_id))
    if stored is None:
        raise InvalidParameter(f"there is no connection {connection_id}")

    def receiving(_undo: bool) -> Receive[TransactionRow]:
        return lambda tx, row: _receive(tx, rt, stored.connection, row, by)

    return await import_rows(rt, file, TransactionRow, receiving, dry_run=dry_run, all_or_nothing=all_or_nothing)


async def _receive(tx: Tx, rt: Runtime, connection: Connection, row: TransactionRow, by: str) -> bool:
    line = await money.place(tx, connection.id, row.order_id, row.line_id or default_line_id(row.order_id))
    if line is None:
        raise InvalidParameter("there is no such order line: import its order first")
    if row.reference is None or row.at is None:
        told = SetPrice(currency=row.currency, price=row.hundredths, reason="imported with the transaction list")
        return await set_price(tx, rt, line, told, by=by, source=SOURCE)
    entered = EnterTransaction(
        line=line,
        reference=row.reference,
        kind=TransactionKind(row.kind),
        amount=row.hundredths,
        currency=row.currency,
        at=row.at,
    )
    _, is_new = await enter_transaction(tx, rt, entered, by=by, source=SOURCE)
    return is_new
