"""`/products/{id}/acceptance-standard`: what the seller of a product must upload before the work is accepted."""

from typing import Final

import msgspec
from litestar import Response, get, put
from litestar.di import NamedDependency
from litestar.params import JSONBody

from licensesvc.domain.acceptance import FormField, ProofKind
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.manage_standards import ChangeStandard, change_standard, standard_of_product
from licensesvc.storage.acceptance import StoredStandard
from licensesvc.web.admin.access import OWNER, READER
from licensesvc.web.admin.answers import IfMatch, PublicId, etag, version_of
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class StandardView(msgspec.Struct, frozen=True, kw_only=True):
    """The newest version of a standard, with which new cases start; version 0 asks for nothing in particular."""

    version: int
    proofs: tuple[ProofKind, ...]
    fields: tuple[FormField, ...]
    delivery_days: int | None


def _answer(stored: StoredStandard) -> Response[StandardView]:
    standard = stored.standard
    view = StandardView(
        version=stored.version, proofs=standard.proofs, fields=standard.fields, delivery_days=standard.delivery_days
    )
    return Response(view, headers=etag(stored.version))


@get(
    "/products/{product_id:str}/acceptance-standard",
    opt=READER,
    operation_id="getAcceptanceStandard",
    responses=problems("NOT_FOUND"),
)
async def get_standard(product_id: PublicId, runtime: NamedDependency[Runtime]) -> Response[StandardView]:
    """Return the acceptance standard of a product; its `ETag` goes into the `If-Match` of a change."""
    return _answer(await runtime.db.read(lambda tx: standard_of_product(tx, product_id)))


@put(
    "/products/{product_id:str}/acceptance-standard",
    opt=OWNER,
    operation_id="changeAcceptanceStandard",
    responses=problems("NOT_FOUND", "PRECONDITION_REQUIRED", "STALE_VERSION", *JSON_BODY, "INVALID_PARAMETER"),
)
async def put_standard(
    request: JSONRequest,
    product_id: PublicId,
    data: JSONBody[ChangeStandard],
    runtime: NamedDependency[Runtime],
    if_match: IfMatch = None,
) -> Response[StandardView]:
    """Give new cases of the product another standard; the cases that there are keep theirs."""
    version = version_of(if_match)
    by = request.user.name
    return _answer(
        await runtime.db.write(lambda tx: change_standard(tx, runtime, product_id, data, version=version, by=by))
    )


ROUTES: Final = (get_standard, put_standard)
