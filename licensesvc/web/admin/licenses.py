"""`/licenses`: found by what people know of them; codes are shown one at a time, to whom may see them."""

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
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.licenses.show_code import show_code
from licensesvc.services.runtime import Runtime
from licensesvc.storage import activations, catalog, connections, licenses
from licensesvc.storage.license_search import Search
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx
from licensesvc.web.admin.access import OPERATOR, READER
from licensesvc.web.admin.answers import OrderId, OurId, PublicId, Time, etag, time_or_none
from licensesvc.web.cursors import DEFAULT_LIMIT, Cursor, Limit, Page, page_of
from licensesvc.web.problems import problems


class LicenseView(msgspec.Struct, frozen=True, kw_only=True):
    """A license; `status` follows from the stored `state` and the time, `code_hint` is all that is shown of the code.

    `freeze_unheeded_at` is when the marketplace asked to freeze it although its end lay ahead.
    """

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
    freeze_unheeded_at: Time | None
    suspended_at: Time | None
    last_seen_at: Time | None
    version: int


class ActivationView(msgspec.Struct, frozen=True, kw_only=True):
    """A seat that a device holds; of its fingerprint only a keyed hash is stored."""

    id: str
    created_at: Time


class CodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A license code in clear."""

    code: str

    def __repr__(self) -> str:
        return "CodeView(…)"


async def license_views(tx: Tx, records: Sequence[LoadedLicense], now: Instant) -> list[LicenseView]:
    """What is shown of these licenses at `now`."""
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
            freeze_unheeded_at=time_or_none(loaded.view.freeze_unheeded_at),
            suspended_at=time_or_none(loaded.view.suspended_at),
            last_seen_at=time_or_none(loaded.last_seen_at),
            version=loaded.view.version,
        )
        for loaded in records
    ]


@get("/licenses", opt=READER, operation_id="listLicenses", responses=problems("INVALID_CURSOR"))
async def list_licenses(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    *,
    code: Annotated[
        str | None, QueryParameter(min_length=1, max_length=MAX_LENGTH, description="The whole license code.")
    ] = None,
    order_id: OrderId = None,
    connection: OurId = None,
    product: OurId = None,
    buyer: OurId = None,
    customer_id: Annotated[
        str | None,
        QueryParameter(
            min_length=1, max_length=256, pattern=r"^[^\x00-\x1f]+$", description="The marketplace's id of the buyer."
        ),
    ] = None,
    stored_state: Annotated[
        LicenseState | None, QueryParameter(name="state", description="As stored, whatever the time is.")
    ] = None,
    status: Annotated[LicenseStatus | None, QueryParameter(description="As it is now.")] = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[LicenseView]]:
    """List licenses, the oldest first, of which all that is given is true; `code` finds one."""
    search = Search(
        code_index=None if code is None else code_index(runtime, code),
        order_id=order_id,
        connection=connection,
        product=product,
        buyer=buyer,
        customer_id=customer_id,
        state=stored_state,
        status=status,
    )
    now = runtime.clock()

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, LicenseView]]:
        records = await licenses.page(tx, after=after, limit=count, where=search.where(now))
        views = await license_views(tx, records, now)
        return list(zip([loaded.view.id for loaded in records], views, strict=True))

    return await page_of(request, runtime.db, "licenses", cursor=cursor, limit=limit, fetch=fetch)


@get("/licenses/{license_id:str}", opt=READER, operation_id="getLicense", responses=problems("NOT_FOUND"))
async def get_license(license_id: PublicId, runtime: NamedDependency[Runtime]) -> Response[LicenseView]:
    """Return a license; its `ETag` goes into the `If-Match` of a change."""

    async def view(tx: Tx) -> LicenseView:
        loaded = await licenses.by_public_id(tx, license_id)
        if loaded is None:
            raise NotFound
        return (await license_views(tx, [loaded], runtime.clock()))[0]

    shown = await runtime.db.read(view)
    return Response(shown, headers=etag(shown.version))


@get(
    "/licenses/{license_id:str}/activations",
    opt=READER,
    operation_id="listActivations",
    responses=problems("NOT_FOUND", "INVALID_CURSOR"),
)
async def list_activations(
    request: Request[Any, Any, Any],
    license_id: PublicId,
    runtime: NamedDependency[Runtime],
    limit: Limit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response[Page[ActivationView]]:
    """List the seats of a license that are taken now, the oldest first."""

    async def fetch(tx: Tx, after: int, count: int) -> Sequence[tuple[int, ActivationView]]:
        loaded = await licenses.by_public_id(tx, license_id)
        if loaded is None:
            raise NotFound
        return [
            (taken.id, ActivationView(id=taken.public_id, created_at=rfc3339(taken.created_at)))
            for taken in await activations.of_license(tx, loaded.view.id, after=after, limit=count)
        ]

    return await page_of(request, runtime.db, "activations", cursor=cursor, limit=limit, fetch=fetch)


@get("/licenses/{license_id:str}/code", opt=OPERATOR, operation_id="showLicenseCode", responses=problems("NOT_FOUND"))
async def get_code(
    request: Request[Any, Any, Any], license_id: PublicId, runtime: NamedDependency[Runtime]
) -> Response[CodeView]:
    """Show the license code in clear; the audit remembers to whom."""
    code = await runtime.db.write(lambda tx: show_code(tx, runtime, license_id, by=request.user.name))
    return Response(CodeView(code=code), headers={"cache-control": "no-store"})


ROUTES: Final = (list_licenses, get_license, list_activations, get_code)
