"""`/licenses`: found by code or order; codes are shown one at a time, to whom may see them."""

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from licensesvc.domain.errors import NotFound
from licensesvc.domain.instants import Instant, rfc3339
from licensesvc.domain.license import ExpirySource, LicenseState, LicenseStatus, status_at
from licensesvc.domain.licensecode import MAX_LENGTH
from licensesvc.services.issue_license import code_index
from licensesvc.services.runtime import Runtime
from licensesvc.services.show_code import show_code
from licensesvc.storage import catalog, connections, licenses
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx
from licensesvc.web.admin.access import OPERATOR, READER
from licensesvc.web.admin.answers import OrderId, PublicId, Time, time_or_none
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.problems import problems


class LicenseView(msgspec.Struct, frozen=True, kw_only=True):
    """A license; `status` follows from the stored `state` and the time, `code_hint` is all that is shown of the code."""

    id: str
    connection: str
    product: str
    order_id: str
    marketplace_product_id: str
    code_hint: str
    status: LicenseStatus
    state: LicenseState
    amount: int | None
    seats: int
    seats_taken: int
    order_time: Time
    activated_at: Time | None
    service_start: Time | None
    expires_at: Time | None
    expiry_source: ExpirySource
    frozen_at: Time | None
    suspended_at: Time | None
    last_seen_at: Time | None


class CodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A license code in clear."""

    code: str

    def __repr__(self) -> str:
        return "CodeView(…)"


async def _views(tx: Tx, records: Sequence[LoadedLicense], now: Instant) -> list[LicenseView]:
    connection_ids = await connections.public_ids(tx, {loaded.view.connection_id for loaded in records})
    product_ids = await catalog.product_public_ids(tx, {loaded.view.product_id for loaded in records})
    return [
        LicenseView(
            id=loaded.view.public_id,
            connection=connection_ids[loaded.view.connection_id],
            product=product_ids[loaded.view.product_id],
            order_id=loaded.order_id,
            marketplace_product_id=loaded.marketplace_product_id,
            code_hint=loaded.code_hint,
            status=status_at(loaded.view, now),
            state=loaded.view.state,
            amount=loaded.amount,
            seats=loaded.view.seats,
            seats_taken=loaded.view.seats_taken,
            order_time=rfc3339(loaded.view.order_time),
            activated_at=time_or_none(loaded.view.activated_at),
            service_start=time_or_none(loaded.view.service_start),
            expires_at=time_or_none(loaded.view.expires_at),
            expiry_source=loaded.view.expiry_source,
            frozen_at=time_or_none(loaded.view.frozen_at),
            suspended_at=time_or_none(loaded.view.suspended_at),
            last_seen_at=time_or_none(loaded.last_seen_at),
        )
        for loaded in records
    ]


@get("/licenses", opt=READER, operation_id="listLicenses", responses=problems("INVALID_CURSOR"))
async def list_licenses(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    code: Annotated[
        str | None, QueryParameter(min_length=1, max_length=MAX_LENGTH, description="The whole license code.")
    ] = None,
    order_id: OrderId = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[LicenseView]]:
    """List licenses, the oldest first; `code` finds one."""

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, LicenseView]]:
        if code is None:
            records = await licenses.page(tx, order_id=order_id, after=after, limit=count)
        else:
            loaded = await licenses.by_code(tx, code_index(runtime, code))
            records = [loaded] if loaded and loaded.view.id > after and order_id in {None, loaded.order_id} else []
        views = await _views(tx, records, runtime.clock())
        return list(zip([loaded.view.id for loaded in records], views, strict=True))

    return await page_of(request, runtime.db, "licenses", cursor=cursor, limit=limit, fetch=fetch)


@get("/licenses/{license_id:str}", opt=READER, operation_id="getLicense", responses=problems("NOT_FOUND"))
async def get_license(license_id: PublicId, runtime: NamedDependency[Runtime]) -> LicenseView:
    """Return a license."""

    async def view(tx: Tx) -> LicenseView:
        loaded = await licenses.by_public_id(tx, license_id)
        if loaded is None:
            raise NotFound
        return (await _views(tx, [loaded], runtime.clock()))[0]

    return await runtime.db.read(view)


@get("/licenses/{license_id:str}/code", opt=OPERATOR, operation_id="showLicenseCode", responses=problems("NOT_FOUND"))
async def get_code(
    request: Request[Any, Any, Any], license_id: PublicId, runtime: NamedDependency[Runtime]
) -> Response[CodeView]:
    """Show the license code in clear; the audit remembers to whom."""
    code = await runtime.db.write(lambda tx: show_code(tx, runtime, license_id, by=request.user.name))
    return Response(CodeView(code=code), headers={"cache-control": "no-store"})


ROUTES: Final = (list_licenses, get_license, get_code)
