"""`/v1`: what a program calls with its license code, and the keys that verify the answers."""

from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, Router, delete, get, post
from litestar.di import NamedDependency, Provide
from litestar.enums import MediaType
from litestar.params import FromPath, JSONBody

from licensesvc.domain.instants import rfc3339
from licensesvc.domain.licensecode import MAX_LENGTH
from licensesvc.services.access.limit_attempts import Attempt, Limiter
from licensesvc.services.licenses.issue_license import license_of_code
from licensesvc.services.licenses.seats import give_back, take_seat
from licensesvc.services.licenses.sign_license import signed_license
from licensesvc.services.licenses.validate_license import validate_license
from licensesvc.services.runtime import Runtime
from licensesvc.web.asgi import client_address
from licensesvc.web.jsonbody import MAX_BODY, JSONRequest
from licensesvc.web.problems import problems

MAX_FINGERPRINT: Final = 1024
"""Characters, as the marketplace's `deviceFingerprint` (spec §2.3)."""
MAX_NONCE: Final = 128
JWKS_MAX_AGE_S: Final = 300
"""How long software may keep the published keys; the next key is published long before it signs."""

Code = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_LENGTH,
        description="license code; dashes and case are forgiven for codes that this server made",
        examples=["LS-7ZK2M-9QW4T-X3HVC-8RNE5-0J6DB"],
    ),
]
Fingerprint = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_FINGERPRINT,
        description="what tells one device from another; only a keyed hash of it is stored",
        examples=["00:1A:2B:3C:4D:5E|WD-1234|MB-77"],
    ),
]
Nonce = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=MAX_NONCE,
        description="fresh random text; the receipt repeats it, so an old answer cannot be replayed",
        examples=["f3b8c1d2e4a59607"],
    ),
]


class DocumentRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which license to return as a signed document."""

    code: Code


class DocumentAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The signed license: `document` is a JWS (EdDSA, typ `license+jwt`) that the published keys verify offline."""

    license_id: str
    revision: int
    kid: str
    document: str


class ValidateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """May this software run?"""

    code: Code
    nonce: Nonce
    fingerprint: Fingerprint | None = None


class ValidateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """`valid` decides; `code` says why, `receipt` (JWS, typ `receipt+jwt`) may be relied on until its `exp`.

    Software checks in the receipt: `nonce` is the one it sent, and `fingerprint_sha256` is SHA-256 over that nonce, a line feed and its own
    fingerprint, in hex.
    """

    valid: bool
    code: str
    license_id: str | None
    status: str | None
    expires_at: str | None
    server_time: str
    kid: str | None
    receipt: str | None


class ActivationRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Take a seat for one device."""

    code: Code
    fingerprint: Fingerprint


class ActivationAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The seat of this fingerprint; keep `activation_id`: who knows it may give the seat back."""

    activation_id: str
    license_id: str
    created_at: str
    seats: int
    seats_taken: int


@post(
    "/licenses/document",
    status_code=200,
    operation_id="getSignedLicense",
    summary="Get the signed license of a code",
    responses=problems("LICENSE_NOT_FOUND", "ILLEGAL_LICENSE_STATE"),
)
async def document(
    data: JSONBody[DocumentRequest], runtime: NamedDependency[Runtime], attempt: NamedDependency[Attempt]
) -> DocumentAnswer:
    """Return the signed license of a code."""
    async with attempt:
        public_id = await license_of_code(runtime, data.code)
    signed = await signed_license(runtime, public_id)
    return DocumentAnswer(
        license_id=signed.license_id, revision=signed.revision, kid=signed.kid, document=signed.document
    )


@post(
    "/licenses/validate",
    status_code=200,
    operation_id="validateLicense",
    summary="Ask whether a license may be used, get a signed receipt",
    responses=problems(),
)
async def validate(
    data: JSONBody[ValidateRequest], runtime: NamedDependency[Runtime], attempt: NamedDependency[Attempt]
) -> ValidateAnswer:
    """Say whether a license may be used; a "no" is a 200 with `valid` false and a reason code."""
    async with attempt:
        outcome = await validate_license(runtime, code=data.code, nonce=data.nonce, fingerprint=data.fingerprint)
        if outcome.license_id is None:
            await attempt.failed()
    return ValidateAnswer(
        valid=outcome.validation.valid,
        code=outcome.validation.code,
        license_id=outcome.license_id,
        status=outcome.validation.status,
        expires_at=rfc3339(outcome.expires_at) if outcome.expires_at is not None else None,
        server_time=rfc3339(outcome.now),
        kid=outcome.kid,
        receipt=outcome.receipt,
    )


@post(
    "/activations",
    operation_id="takeSeat",
    summary="Take a seat for a device",
    responses=problems("LICENSE_NOT_FOUND", "ILLEGAL_LICENSE_STATE", "LICENSE_NOT_CLAIMED", "NO_FREE_SEAT"),
)
async def activate(
    data: JSONBody[ActivationRequest], runtime: NamedDependency[Runtime], attempt: NamedDependency[Attempt]
) -> Response[ActivationAnswer]:
    """Take a seat: 201 when it is new, 200 when this fingerprint holds it already. The first one starts the service."""
    async with attempt:
        seat = await take_seat(runtime, data.code, data.fingerprint)
    answer = ActivationAnswer(
        activation_id=seat.activation_id,
        license_id=seat.license_id,
        created_at=rfc3339(seat.created_at),
        seats=seat.seats,
        seats_taken=seat.seats_taken,
    )
    return Response(answer, status_code=201 if seat.is_new else 200)


@delete(
    "/activations/{activation_id:str}",
    operation_id="giveSeatBack",
    summary="Give a seat back",
    responses=problems("ACTIVATION_NOT_FOUND"),
)
async def deactivate(
    activation_id: FromPath[str],
    runtime: NamedDependency[Runtime],
    limiter: NamedDependency[Limiter],
    attempt: NamedDependency[Attempt],
) -> None:
    """Give a seat back; doing it twice is fine."""
    async with attempt:
        await give_back(runtime, activation_id, limiter.limits.seats_given_back)


@get(
    "/.well-known/jwks.json",
    operation_id="getKeys",
    summary="Get the public keys that verify licenses and receipts",
    tags=["software"],
    media_type=MediaType.JSON,
)
async def jwks(runtime: NamedDependency[Runtime]) -> Response[bytes]:
    """Return the public keys that verify signed licenses and receipts (RFC 7517)."""
    return Response(
        runtime.signer.keyset.jwks(),
        media_type=MediaType.JSON,
        headers={"cache-control": f"public, max-age={JWKS_MAX_AGE_S}"},
    )


def attempt_of(request: Request[Any, Any, Any], limiter: NamedDependency[Limiter]) -> Attempt:
    """What a call that names a license or an activation runs in."""
    return limiter.unknown_codes(client_address(request.scope))


def native_router() -> Router:
    """The routes under `/v1`; the application provides `runtime` and `limiter`."""
    return Router(
        "/v1",
        route_handlers=[document, validate, activate, deactivate],
        dependencies={"attempt": Provide(attempt_of, sync_to_thread=False)},
        request_class=JSONRequest,
        request_max_body_size=MAX_BODY,
        tags=["software"],
    )
