"""Rows of `buyers`, the only table with personal data: finding a buyer and erasing what is known of them."""

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.storage.orders import Buyer
from licensesvc.storage.port import Row, Tx

_COLUMNS = "id, public_id, connection_id, customer_id, name, real_name, email, mobile, created_at, erased_at"


class StoredBuyer(msgspec.Struct, frozen=True, kw_only=True):
    """A buyer as stored; `person` is None once erased."""

    id: int
    public_id: str
    connection_id: int
    person: Buyer | None
    created_at: Instant
    erased_at: Instant | None

    def __repr__(self) -> str:
        return f"StoredBuyer({self.public_id})"


def _buyer(row: Row) -> StoredBuyer:
    person = Buyer(
        customer_id=row["customer_id"],
        name=row["name"],
        real_name=row["real_name"],
        email=row["email"],
        mobile=row["mobile"],
    )
    return StoredBuyer(
        id=row["id"],
        public_id=row["public_id"],
        connection_id=row["connection_id"],
        person=person if row["erased_at"] is None else None,
        created_at=row["created_at"],
        erased_at=row["erased_at"],
    )


async def by_public_id(tx: Tx, public_id: str) -> StoredBuyer | None:
    """Find a buyer by our id, locked against another erasure."""
    row = await tx.one(f"SELECT {_COLUMNS} FROM buyers b WHERE public_id = $1 @lock(b)", public_id)
    return _buyer(row) if row else None


async def person(tx: Tx, buyer_id: int) -> Buyer | None:
    """Who a buyer is; None once erased."""
    row = await tx.one(f"SELECT {_COLUMNS} FROM buyers WHERE id = $1", buyer_id)
    return _buyer(row).person if row else None


async def page(tx: Tx, *, customer_id: str | None, after: int, limit: int) -> list[StoredBuyer]:
    """Up to `limit` buyers with an internal id above `after`, ascending; the marketplace's `customer_id` narrows."""
    if customer_id is None:
        rows = await tx.all(f"SELECT {_COLUMNS} FROM buyers WHERE id > $1 ORDER BY id LIMIT $2", after, limit)
    else:
        rows = await tx.all(
            f"SELECT {_COLUMNS} FROM buyers WHERE customer_id = $3 AND id > $1 ORDER BY id LIMIT $2",
            after,
            limit,
            customer_id,
        )
    return [_buyer(row) for row in rows]


async def erase(tx: Tx, buyer_id: int, *, mark: str, now: Instant) -> None:
    """Empty a row; `mark` takes the place of the customer id, which must be unique."""
    await tx.run(
        "UPDATE buyers SET customer_id = $2, name = NULL, real_name = NULL, email = NULL, mobile = NULL, erased_at = $3"
        " WHERE id = $1",
        buyer_id,
        mark,
        now,
    )


async def line_is_erased(tx: Tx, line_ref: int) -> bool:
    """Say whether the buyer of this order line was erased."""
    row = await tx.one(
        "SELECT 1 AS erased FROM buyers b JOIN orders o ON o.buyer_id = b.id JOIN order_lines l ON l.order_ref = o.id"
        " WHERE l.id = $1 AND b.erased_at IS NOT NULL",
        line_ref,
    )
    return row is not None
