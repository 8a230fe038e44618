"""Imports orders, and codes that were made elsewhere, from a CSV file; the same file again changes nothing.

Rows are written in small transactions, so that a large file keeps nobody waiting. A bad row fails alone; with `all_or_nothing` a dry
run comes first and nothing is written if it finds a bad one.
"""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from typing import IO, Annotated, Final, TypeAlias

import msgspec

from licensesvc.domain.activation import decide_activation
from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import DomainError, InvalidParameter, NotIssuable, OrderConflict
from licensesvc.domain.instants import Instant, PeriodUnit, parse_rfc3339
from licensesvc.domain.license import LicenseState
from licensesvc.domain.licensecode import MAX_LENGTH
from licensesvc.domain.order import OrderFacts, OrderType, default_line_id, is_placeholder
from licensesvc.domain.policy import Period
from licensesvc.services.activate import IntoService
from licensesvc.services.csvfiles import Layout, Record, examine, records
from licensesvc.services.issue_license import code_index
from licensesvc.services.manage_catalog import MarketplaceId
from licensesvc.services.receive_order import ReceivedLine, receive_line
from licensesvc.services.runtime import Runtime
from licensesvc.storage import connections, licenses, orders
from licensesvc.storage.orders import Buyer
from licensesvc.storage.port import ConstraintViolated, Tx

SOURCE: Final = "import"
MAX_ROWS: Final = 100_000
"""Rows of one file."""
MAX_BYTES: Final = 32 * 1024 * 1024
"""Bytes of one file."""
BATCH: Final = 50
"""Rows of one transaction."""
MAX_LISTED: Final = 1_000
"""Bad rows that a report lists; the others are counted."""
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

    def __repr__(self) -> str:
        return f"OrderRow({self.order_id!r})"

    @property
    def line(self) -> str:
        """The marketplace's id of the line."""
        return self.line_id or default_line_id(self.order_id)


COLUMNS: Final = OrderRow.__struct_fields__
"""The columns that a file may have."""
REQUIRED: Final = tuple(field.name for field in msgspec.structs.fields(OrderRow) if field.required)
"""The columns that a file must have."""


class BadRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that cannot be taken; `row` counts behind the header, `line` lines of the file."""

    row: int
    line: int
    code: str
    problem: str


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a file: rows that were new, known already and bad, and whether the good ones are written."""

    rows: int
    created: int
    known: int
    bad: int
    bad_rows: list[BadRow]
    written: bool


class _Undo(Exception):
    """Rolls a transaction back that was only tried."""

    def __init__(self, created: int) -> None:
        self.created = created


class _Bad(Exception):
    """The row of a transaction that cannot be taken."""

    def __init__(self, row: BadRow) -> None:
        self.row = row


async def import_orders(
    rt: Runtime, file: IO[bytes], connection_id: str, *, by: str, dry_run: bool, all_or_nothing: bool
) -> ImportReport:
    """Take the rows of a CSV file as orders of a connection.

    Raises InvalidParameter when there is no such connection, or the file cannot be read to its end; then nothing is written.
    """
    stored = await rt.db.read(lambda tx: connections.by_public_id(tx, connection_id))
    if stored is None:
        raise InvalidParameter(f"there is no connection {connection_id}")
    layout = await asyncio.to_thread(examine, file, required=REQUIRED, known=COLUMNS, max_rows=MAX_ROWS)
    if dry_run or all_or_nothing:
        tried = await _Pass(rt, stored.connection, by=by, undo=True).run(file, layout)
        if dry_run or tried.bad:
            return tried
    return await _Pass(rt, stored.connection, by=by, undo=False).run(file, layout)


class _Pass:
    """One walk through a file."""

    def __init__(self, rt: Runtime, connection: Connection, *, by: str, undo: bool) -> None:
        self._rt = rt
        self._connection = connection
        self._by = by
        self._undo = undo
        self._created = 0
        self._known = 0
        self._bad: list[BadRow] = []
        self._bad_count = 0
        self._tried: dict[str, tuple[str, str]] = {}

    async def run(self, file: IO[bytes], layout: Layout) -> ImportReport:
        with closing(records(file, layout)) as rows:
            while batch := list(islice(rows, BATCH)):
                await self._batch([row for record in batch if (row := self._parsed(record)) is not None])
        return ImportReport(
            rows=layout.rows,
            created=self._created,
            known=self._known,
            bad=self._bad_count,
            bad_rows=sorted(self._bad, key=lambda bad: bad.row),
            written=not self._undo,
        )

    def _parsed(self, record: Record) -> tuple[Record, OrderRow] | None:
        try:
            if record.problem is not None:
                raise InvalidParameter(record.problem)
            row = msgspec.convert(record.cells, OrderRow, strict=False)
            if (row.period_unit is None) != (row.period_count is None):
                raise InvalidParameter("period_unit and period_count are given together")
        except msgspec.ValidationError as error:
            self._refuse(BadRow(row=record.row, line=record.line, code="INVALID_BODY", problem=str(error)))
        except DomainError as error:
            self._refuse(_bad(record, error))
        else:
            return record, row
        return None

    def _refuse(self, row: BadRow) -> None:
        self._bad_count += 1
        if len(self._bad) < MAX_LISTED:
            self._bad.append(row)

    async def _batch(self, rows: Sequence[tuple[Record, OrderRow]]) -> None:
        """One transaction for all rows; if one of them is bad, one for each, so that only the bad one fails."""
        if not rows:
            return
        try:
            created = await self._transact(rows)
        except _Bad as bad:
            if len(rows) == 1:
                self._refuse(bad.row)
                return
            for row in rows:
                await self._batch([row])
            return
        self._created += created
        self._known += len(rows) - created

    async def _transact(self, rows: Sequence[tuple[Record, OrderRow]]) -> int:
        """Receive rows and say how many were new."""
        try:
            return await self._rt.db.write(lambda tx: self._receive_all(tx, rows))
        except _Undo as undone:
            return undone.created
        except ConstraintViolated as error:  # whichever row it was: alone it will say so
            raise _Bad(_bad(rows[0][0], OrderConflict(f"another record has this identity: {error.name}"))) from None

    async def _receive_all(self, tx: Tx, rows: Sequence[tuple[Record, OrderRow]]) -> int:
        created = 0
        for record, row in rows:
            try:
                created += await self._receive(tx, row)
            except DomainError as error:
                raise _Bad(_bad(record, error)) from None
        if self._undo:
            raise _Undo(created)
        return created

    async def _receive(self, tx: Tx, row: OrderRow) -> bool:
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


def _bad(record: Record, error: DomainError) -> BadRow:
    return BadRow(row=record.row, line=record.line, code=error.code, problem=error.message)


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
