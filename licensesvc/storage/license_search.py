"""Finding licenses by what people know of them, and counting them by status."""

from typing import Final

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.license import LicenseState, LicenseStatus
from licensesvc.storage.port import Tx
from licensesvc.storage.where import EVERYTHING, Where

_RUNNING = "s.state = 'ACTIVE' AND s.suspended_at IS NULL AND s.frozen_at IS NULL"
_OVER = (
    "(s.expires_at IS NOT NULL AND s.expires_at <= {} AND (s.expiry_source <> 'ESTIMATE' OR s.settled_at IS NOT NULL))"
)
_AT_A_TIME: Final = {
    LicenseStatus.ALIVE: f"({_RUNNING} AND NOT {_OVER})",
    LicenseStatus.EXPIRED: f"({_RUNNING} AND {_OVER})",
}
_AT_ANY_TIME: Final = {
    LicenseStatus.NOT_ACTIVATED: "s.state = 'ISSUED'",
    LicenseStatus.SUSPENDED: "s.state = 'ACTIVE' AND s.suspended_at IS NOT NULL",
    LicenseStatus.FROZEN: "s.state = 'ACTIVE' AND s.suspended_at IS NULL AND s.frozen_at IS NOT NULL",
    LicenseStatus.REVOKED: "s.state = 'REVOKED'",
    LicenseStatus.RELEASED: "s.state = 'RELEASED'",
}
_OF_BUYER = (
    "l.line_ref IN (SELECT ol.id FROM order_lines ol JOIN orders o ON o.id = ol.order_ref"
    " JOIN buyers b ON b.id = o.buyer_id WHERE b.{column} = {{}})"
)


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What must be true of a license; None asks for nothing. `connection`, `product` and `buyer` are our ids."""

    code_index: str | None = None
    order_id: str | None = None
    connection: str | None = None
    product: str | None = None
    buyer: str | None = None
    customer_id: str | None = None
    state: LicenseState | None = None
    status: LicenseStatus | None = None

    def where(self, now: Instant) -> Where:
        """The conditions; `now` decides what has expired."""
        where = (
            EVERYTHING.given("l.id = (SELECT license_id FROM license_codes WHERE code_index = {})", self.code_index)
            .given("l.order_id = {}", self.order_id)
            .given("l.connection_id = (SELECT id FROM connections WHERE public_id = {})", self.connection)
            .given("l.product_id = (SELECT id FROM products WHERE public_id = {})", self.product)
            .given(_OF_BUYER.format(column="public_id"), self.buyer)
            .given(_OF_BUYER.format(column="customer_id"), self.customer_id)
            .given("s.state = {}", self.state)
        )
        if self.status is None:
            return where
        if self.status in _AT_ANY_TIME:
            return where.always(_AT_ANY_TIME[self.status])
        return where.given(_AT_A_TIME[self.status], now)


async def count_by_status(tx: Tx, now: Instant) -> dict[LicenseStatus, int]:
    """How many licenses have each status at `now`."""
    conditions = {**_AT_ANY_TIME, **{status: text.replace("{}", "$1") for status, text in _AT_A_TIME.items()}}
    columns = ", ".join(
        f"COUNT(CASE WHEN {text} THEN 1 END) AS {status.lower()}" for status, text in conditions.items()
    )
    row = await tx.one(f"SELECT {columns} FROM license_states s", now)
    assert row is not None
    return {status: row[status.lower()] for status in LicenseStatus}
