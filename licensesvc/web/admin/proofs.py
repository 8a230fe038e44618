"""`/supervision-cases/{id}/proofs` and `/proofs/{id}`: delivery proofs in, as they arrive, and out again as attachments, never inline."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias
from urllib.parse import quote

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.exceptions import InternalServerException
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIFormat, OpenAPIType
from litestar.params import QueryParameter
from litestar.response import Stream

from licensesvc.domain.acceptance import ProofKind
from licensesvc.domain.errors import NotFound
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.add_proof import StoredFile, add_proof, proof_of
from licensesvc.services.supervision.proof_store import MAX_SIZE, PIECE, proof_file, receive_proof
from licensesvc.services.supervision.proof_types import MEDIA_TYPES
from licensesvc.storage import supervision
from licensesvc.storage.acceptance import Proof
from licensesvc.storage.port import Tx
from licensesvc.web.admin.access import OPERATOR
from licensesvc.web.admin.answers import IdempotencyKey, PublicId, perform
from licensesvc.web.admin.case_views import CaseDetail, case_detail
from licensesvc.web.problems import Refusal, problems

Filename: TypeAlias = Annotated[
    str,
    QueryParameter(min_length=1, max_length=255, pattern=r"^[^/\\\x00-\x1f\x7f]+$(?!\n)", description="Its name."),
]

_HARMLESS: Final = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "sandbox; default-src 'none'",
    "cache-control": "no-store",
}
"""A browser that is shown such a file runs nothing of it here."""


@dataclass
class _UploadOperation(Operation):
    """The framework does not describe raw bodies."""

    def __post_init__(self) -> None:
        file = Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY, max_length=MAX_SIZE)
        self.request_body = RequestBody(
            required=True, content={name: OpenAPIMediaType(schema=file) for name in sorted(MEDIA_TYPES)}
        )


@post(
    "/supervision-cases/{case_id:str}/proofs",
    opt=OPERATOR,
    operation_id="uploadProof",
    operation_class=_UploadOperation,
    request_max_body_size=MAX_SIZE,
    responses=problems(
        "NOT_FOUND",
        "UNSUPPORTED_MEDIA_TYPE",
        "BODY_TOO_LARGE",
        "UNREADABLE_BODY",
        "INVALID_PARAMETER",
        "ILLEGAL_TRANSITION",
        "IDEMPOTENCY_KEY_REUSED",
    ),
)
async def upload_proof(
    request: Request[Any, Any, Any],
    case_id: PublicId,
    kind: Annotated[ProofKind, QueryParameter(description="What the file shows.")],
    filename: Filename,
    runtime: NamedDependency[Runtime],
    idempotency_key: IdempotencyKey = None,
) -> Response[CaseDetail]:
    """Upload a proof of delivery, the file being the body; the one that completes the acceptance standard moves the case on."""
    media_type = request.content_type[0]
    if media_type not in MEDIA_TYPES:
        raise Refusal("UNSUPPORTED_MEDIA_TYPE", f"a proof is one of {', '.join(sorted(MEDIA_TYPES))}")
    if await runtime.db.read(lambda tx: supervision.by_public_id(tx, case_id)) is None:
        raise NotFound
    # Bytes first, then the row: a row never names a file that is not there. Writers do not wait for the disk here.
    try:
        kept = await receive_proof(runtime.proofs_dir, media_type, request.stream())
    except InternalServerException:  # the framework's word for a client that hung up
        raise Refusal("UNREADABLE_BODY", "the body ended before it was complete") from None
    file = StoredFile(filename=filename, media_type=media_type, size=kept.size, sha256=kept.sha256)

    async def verb(tx: Tx) -> CaseDetail:
        case = await add_proof(tx, runtime, case_id, kind, file, by=request.user.name)
        return await case_detail(tx, case, runtime.clock())

    return await perform(request, runtime, idempotency_key, verb, body=kept.sha256.encode())


@get(
    "/proofs/{proof_id:str}",
    opt=OPERATOR,
    operation_id="downloadProof",
    media_type="application/octet-stream",
    responses=problems("NOT_FOUND"),
)
async def download_proof(proof_id: PublicId, runtime: NamedDependency[Runtime]) -> Stream:
    """Download a proof as it was uploaded; always an attachment."""
    proof = await runtime.db.read(lambda tx: proof_of(tx, proof_id))
    return await attachment(runtime, proof)


async def attachment(rt: Runtime, proof: Proof, more: Mapping[str, str] | None = None) -> Stream:
    """A proof as it was uploaded, never inline; `more` headers go with it. Raises NotFound when the file is gone."""
    path = proof_file(rt.proofs_dir, proof.sha256)
    if not await asyncio.to_thread(path.is_file):
        raise NotFound("the file is gone: bring the proofs directory back from a backup")
    headers = {
        **(more or {}),
        **_HARMLESS,
        "content-disposition": f"attachment; filename=\"proof\"; filename*=UTF-8''{quote(proof.filename, safe='')}",
        "content-length": str(proof.size),
    }
    return Stream(_pieces(path), media_type=proof.media_type, headers=headers)


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    file = await asyncio.to_thread(path.open, "rb")
    with file:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece


ROUTES: Final = (upload_proof, download_proof)
