"""`/imports…`: orders, the transaction list and confirmations from CSV files."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, BinaryIO, Final, TypeAlias, cast

from litestar import Request, post
from litestar.di import NamedDependency
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import QueryParameter

from licensesvc.services.imports import csvfiles
from licensesvc.services.imports.import_confirmations import MAX_BYTES as MAX_CONFIRMATION_BYTES
from licensesvc.services.imports.import_confirmations import ConfirmationReport, import_confirmations
from licensesvc.services.imports.import_orders import import_orders
from licensesvc.services.imports.import_rows import MAX_BYTES, ImportReport
from licensesvc.services.imports.import_transactions import import_transactions
from licensesvc.services.runtime import Runtime
from licensesvc.web.admin.access import OPERATOR
from licensesvc.web.problems import Refusal, problems

IN_MEMORY: Final = 1024 * 1024
"""Bytes of an uploaded file that are kept in memory; the rest waits in a nameless file."""

UploadRequest: TypeAlias = Request[Any, Any, Any]
ConnectionId: TypeAlias = Annotated[
    str,
    QueryParameter(max_length=40, pattern=r"^con_[0-9a-z]{26}$(?!\n)", description="Whose orders, by our id."),
]
DryRun: TypeAlias = Annotated[bool, QueryParameter(description="Report what would happen and write nothing.")]
AllOrNothing: TypeAlias = Annotated[bool, QueryParameter(description="Write only if no row is bad.")]

_PROBLEMS: Final = problems("UNSUPPORTED_MEDIA_TYPE", "BODY_TOO_LARGE", "INVALID_PARAMETER")


@dataclass
class _ImportOperation(Operation):
    """The framework does not describe raw bodies."""

    def __post_init__(self) -> None:
        content = {csvfiles.MEDIA_TYPE: OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))}
        self.request_body = RequestBody(required=True, content=content)


@asynccontextmanager
async def _uploaded(request: UploadRequest) -> AsyncIterator[BinaryIO]:
    """The body of a request as a file. Raises Refusal where it is no CSV."""
    if request.content_type[0] != csvfiles.MEDIA_TYPE:
        raise Refusal("UNSUPPORTED_MEDIA_TYPE", "the body must be text/csv")
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as file:
        async for chunk in request.stream():
            file.write(chunk)
        yield cast("BinaryIO", file)


@post(
    "/imports",
    opt=OPERATOR,
    operation_id="importOrders",
    operation_class=_ImportOperation,
    request_max_body_size=MAX_BYTES,
    status_code=200,
    responses=_PROBLEMS,
)
async def add_orders(
    request: UploadRequest,
    connection: ConnectionId,
    dry_run: DryRun,
    runtime: NamedDependency[Runtime],
    all_or_nothing: AllOrNothing = False,
) -> ImportReport:
    """Import orders, with codes that were made elsewhere, from a CSV file in UTF-8 or GB18030. The same file again changes nothing."""
    async with _uploaded(request) as file:
        return await import_orders(
            runtime, file, connection, by=request.user.name, dry_run=dry_run, all_or_nothing=all_or_nothing
        )


@post(
    "/imports/transactions",
    opt=OPERATOR,
    operation_id="importTransactions",
    operation_class=_ImportOperation,
    request_max_body_size=MAX_BYTES,
    status_code=200,
    responses=_PROBLEMS,
)
async def add_transactions(
    request: UploadRequest,
    connection: ConnectionId,
    dry_run: DryRun,
    runtime: NamedDependency[Runtime],
    all_or_nothing: AllOrNothing = False,
) -> ImportReport:
    """Import the marketplace's transaction list: prices, payments, refunds. The same file again changes nothing."""
    async with _uploaded(request) as file:
        return await import_transactions(
            runtime, file, connection, by=request.user.name, dry_run=dry_run, all_or_nothing=all_or_nothing
        )


@post(
    "/imports/confirmations",
    opt=OPERATOR,
    operation_id="importConfirmations",
    operation_class=_ImportOperation,
    request_max_body_size=MAX_CONFIRMATION_BYTES,
    status_code=200,
    responses=_PROBLEMS,
)
async def add_confirmations(
    request: UploadRequest,
    connection: ConnectionId,
    dry_run: DryRun,
    runtime: NamedDependency[Runtime],
    all_or_nothing: AllOrNothing = False,
) -> ConfirmationReport:
    """Import what the marketplace shows, from a CSV file with order_id, line_id, event, time and reason. Again it changes nothing."""
    async with _uploaded(request) as file:
        return await import_confirmations(
            runtime, file, connection, by=request.user.name, dry_run=dry_run, all_or_nothing=all_or_nothing
        )


ROUTES: Final = (add_orders, add_transactions, add_confirmations)
