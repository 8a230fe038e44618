"""Imports orders, and codes that were made elsewhere, from a CSV file; the same file again changes nothing.

In: what a row means. Out: walking through the file (`import_rows`).
"""

from typing import IO, Annotated, Final, TypeAlias

import msgspec

from licensesvc.domain.activation import decide_activation
from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import InvalidParameter, NotIssuable, OrderConflict
from licensesvc.domain.instants import Instant, PeriodUnit, parse_rfc3339
from licensesvc.domain.license import LicenseState
from licensesvc.domain.licensecode import MAX_LENGTH
from licensesvc.domain.order import OrderFacts, OrderType, default_line_id, is_placeholder
from licensesvc.domain.policy import Period
from licensesvc.services.catalog.manage_catalog import MarketplaceId
from licensesvc.services.imports.import_rows import ImportReport, Receive, import_rows, required_columns
from licensesvc.services.licenses.activate import IntoService
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.orders.receive_order import ReceivedLine, receive_line
from licensesvc.services.runtime import Runtime
from licensesvc.storage import connections, licenses, orders
from licensesvc.storage.orders import Buyer
from licensesvc.storage.port import Tx

SOURCE: Final = "import"
MIN_CODE: Final = 8
"""Characters: a shorter code would soon be guessed."""

Time: TypeAlias = Annotated[str, msgspec.Meta(max_length=40)]
PersonalText: TypeAlias = Annotated[str, msgspec.Meta(max_length=256)]


class OrderRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The columns of a file. Times are RFC 3339; a `service_start` says that the license is in use since then."""

    order_id: MarketplaceId
    marketplace_product_id: MarketplaceId
    sku_code: MarketplaceId | None = None
    line_id: MarketplaceId | None = None
    order_type: OrderType = OrderType.NEW
    order_time: Time | None = None
    charging_mode: MarketplaceId | None = None
    amount: Annotated[int, msgspec.Meta(ge=1, le=999_999_999)] | None = None
    period_unit: PeriodUnit | None = None
    period_count: Annotated[int, msgspec.Meta(ge=1, le=36_500)] | None = None
    expires_at: Time | None = None
    service_start: Time | None = None
    enablement_cloud: bool | None = None
    license_code: (
        Annotated[str, msgspec.Meta(min_length=MIN_CODE, max_length=MAX_LENGTH, pattern=r"^[!-~]+$(?!\n)")] | None
    ) = None
    customer_id: PersonalText | None = None
    customer_name: PersonalText | None = None
    real_name: PersonalText | None = None
    email: PersonalText | None = None
    mobile: PersonalText | None = None

    def __post_init__(self) -> None:
        """Refuse half a period."""
        if (self.period_unit is None) != (self.period_count is None):
            raise InvalidParameter("period_unit and period_count are given together")

    def __repr__(self) -> str:
        return f"OrderRow({self.order_id!r})"

    @property
    def line(self) -> str:
        """The marketplace's id of the line."""
        return self.line_id or default_line_id(self.order_id)


COLUMNS: Final = OrderRow.__struct_fields__
"""The columns that a file may have."""
REQUIRED: Final = required_columns(OrderRow)
"""The columns that a file must have."""


async def import_orders(
    rt: Runtime, file: IO[bytes], connection_id: str, *, by: str, dry_run: bool, all_or_nothing: bool
) -> ImportReport:
    """Take the rows of a CSV file as orders of a connection.

    Raises InvalidParameter when there is no such connection, or the file cannot be read to its end; then nothing is written.
    """
    stored = await rt.db.read(lambda tx: connections.by_public_id(tx, connection_id))
    if stored is None:
        raise InvalidParameter(f"there is no connection {connection_id}")

    def receiving(undo: bool) -> Receive[OrderRow]:
        return _Orders(rt, stored.connection, by=by, undo=undo).receive

    return await import_rows(rt, file, OrderRow, receiving, dry_run=dry_run, all_or_nothing=all_or_nothing)


class _Orders:
    """Takes the rows of one walk; codes that stood in rows of a walk that leaves nothing behind are remembered here."""

    def __init__(self, rt: Runtime, connection: Connection, *, by: str, undo: bool) -> None:
        self._rt = rt
        self._connection = connection
        self._by = by
        self._undo = undo
        self._tried: dict[str, tuple[str, str]] = {}

    async def receive(self, tx: Tx, row: OrderRow) -> bool:
        """As `import_rows` wants it."""
        order = await orders.find(tx, self._connection.id, row.order_id)
        is_new = order is None or await orders.find_line(tx, order.id, row.line) is None
        if row.license_code is not None:
            await self._check_free(tx, row, code_index(self._rt, row.license_code))
        received = await receive_line(
            tx,
            self._rt,
            self._connection,
            _facts(row),
            buyer=_buyer(row),
            source=SOURCE,
            by=self._by,
            imported_code=row.license_code,
        )
        if row.license_code is not None and received.license is None:
            raise NotIssuable("orders of this type have no license code of their own")
        await self._put_into_service(tx, received, row)
        if self._undo and row.license_code is not None:
            self._tried[code_index(self._rt, row.license_code)] = (row.order_id, row.line)
        return is_new

    async def _check_free(self, tx: Tx, row: OrderRow, index: str) -> None:
        """A code belongs to one order line for good, also among the rows of a pass that leaves nothing in the database."""
        place = (row.order_id, row.line)
        found = await licenses.by_code(tx, index)
        if found is not None:
            known = (await orders.places_of(tx, [found.line_ref]))[found.line_ref]
            free = (known.order_id, known.line_id) == place or is_placeholder(known.order_id)
            if found.view.connection_id != self._connection.id or not free:
                raise OrderConflict("the license code belongs to another order line")
        if self._tried.get(index, place) != place:
            raise OrderConflict("the license code stands in another row of the file")

    async def _put_into_service(self, tx: Tx, received: ReceivedLine, row: OrderRow) -> None:
        loaded = received.license
        if row.service_start is None or loaded is None or loaded.view.state is not LicenseState.ISSUED:
            return
        decision = decide_activation(
            loaded.view,
            connection_id=self._connection.id,
            product_id=None,
            now=self._rt.clock(),
            real_effect_time=parse_rfc3339(row.service_start),
        )
        service = IntoService()
        service.put(loaded, decision, calendar=self._connection.calendar, actor=self._by)
        await service.store(tx)


def _facts(row: OrderRow) -> OrderFacts:
    period = None
    if row.period_unit is not None and row.period_count is not None:
        period = Period(unit=row.period_unit, count=row.period_count)
    return OrderFacts(
        order_id=row.order_id,
        order_type=row.order_type,
        line_id=row.line_id,
        # A license cannot be in service before it was ordered.
        order_time=_instant(row.order_time or row.service_start),
        marketplace_product_id=row.marketplace_product_id,
        sku_code=row.sku_code,
        charging_mode=row.charging_mode,
        period=period,
        amount=row.amount,
        expiry_order_query=_instant(row.expires_at),
        enablement_cloud=row.enablement_cloud,
    )


def _buyer(row: OrderRow) -> Buyer | None:
    if row.customer_id is None:
        if row.customer_name or row.real_name or row.email or row.mobile:
            raise InvalidParameter("a buyer needs a customer_id")
        return None
    return Buyer(
        customer_id=row.customer_id,
        name=row.customer_name,
        real_name=row.real_name,
        email=row.email,
        mobile=row.mobile,
    )


def _instant(text: str | None) -> Instant | None:
    return None if text is None else parse_rfc3339(text)
