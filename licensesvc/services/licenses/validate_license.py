"""The native door of validation: may this software run? The answer carries a receipt that outlives the connection."""

import hashlib

import msgspec

from licensesvc.domain.activation import Validation, ValidationCode, validate
from licensesvc.domain.instants import DAY, SECOND, Instant
from licensesvc.domain.policy import Binding, Policy
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.licenses.seats import fingerprint_index
from licensesvc.services.runtime import Runtime
from licensesvc.signing import envelope
from licensesvc.storage import activations, licenses
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx


class Validated(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome; an unknown code gets no receipt: there is nothing to name in it."""

    validation: Validation
    license_id: str | None
    expires_at: Instant | None
    receipt: str | None
    kid: str | None
    now: Instant


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    license: LoadedLicense
    policy: Policy
    fingerprint_active: bool


async def validate_license(rt: Runtime, *, code: str, nonce: str, fingerprint: str | None) -> Validated:
    """Say whether the license may be used, and by this fingerprint if one is given."""
    now = rt.clock()
    index = code_index(rt, code)
    print_index = fingerprint_index(rt, fingerprint) if fingerprint is not None else None
    found = await rt.db.read(lambda tx: _load(tx, index, print_index))
    validation = validate(
        found.license.view if found else None,
        now=now,
        fingerprint_given=fingerprint is not None,
        fingerprint_active=found is not None and found.fingerprint_active,
        fingerprint_needed=found is not None and found.policy.binding is Binding.NODE_LOCKED,
    )
    if found is None or validation.code is ValidationCode.NOT_FOUND:
        return Validated(validation=validation, license_id=None, expires_at=None, receipt=None, kid=None, now=now)
    return Validated(
        validation=validation,
        license_id=found.license.view.public_id,
        expires_at=found.license.view.expires_at,
        receipt=_receipt(rt, found, validation, nonce=nonce, fingerprint=fingerprint, now=now),
        kid=rt.signer.kid,
        now=now,
    )


async def _load(tx: Tx, index: str, print_index: str | None) -> _Found | None:
    loaded = await licenses.by_code(tx, index)
    if loaded is None:
        return None
    held = await activations.live(tx, [loaded.view.id], [print_index]) if print_index is not None else {}
    return _Found(
        license=loaded,
        policy=await licenses.policy_of(tx, loaded.view.id),
        fingerprint_active=(loaded.view.id, print_index) in held,
    )


def _receipt(
    rt: Runtime, found: _Found, validation: Validation, *, nonce: str, fingerprint: str | None, now: Instant
) -> str:
    """Sign the answer; `exp` is how long software may rely on it, not when the license ends.

    `fingerprint_sha256` binds it to the device that asked: SHA-256 over nonce, a line feed and the fingerprint, in hex. Without
    it one seat could answer for many devices through a relay.
    """
    device = hashlib.sha256(f"{nonce}\n{fingerprint}".encode()).hexdigest() if fingerprint is not None else None
    view = found.license.view
    claims: dict[str, str | int | bool | None] = {
        "iss": rt.issuer,
        "sub": view.public_id,
        "jti": rt.new_id("rcp", now),
        "iat": now // SECOND,
        "exp": (now + found.policy.offline_days * DAY) // SECOND,
        "nonce": nonce,
        "fingerprint_sha256": device,
        "valid": validation.valid,
        "code": validation.code,
        "status": validation.status,
        "expires_at": view.expires_at // SECOND if view.expires_at is not None else None,
    }
    signing_input = envelope.signing_input(typ=envelope.RECEIPT_TYP, kid=rt.signer.kid, claims=claims)
    return envelope.assemble(signing_input, rt.signer.sign(signing_input))
