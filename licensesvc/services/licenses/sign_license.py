"""The signed license: prepare the bytes, record the intent, then sign (architecture §4).

A crash between any two lines is repaired by asking again: recorded bytes are signed as they stand, a stored signature
is returned as it stands, and new facts make the next revision with an intent of its own.
"""

from typing import Any, Final

import msgspec

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import IllegalLicenseState
from licensesvc.domain.instants import SECOND, Instant
from licensesvc.domain.license import ExpirySource, LicenseState
from licensesvc.services.runtime import Runtime
from licensesvc.signing import envelope
from licensesvc.storage import audit, documents, licenses, orders
from licensesvc.storage.documents import StoredDocument
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx

_DEVICE: Final = "identification_code"
_OVER: Final = frozenset({LicenseState.REVOKED, LicenseState.RELEASED})


class SignedLicense(msgspec.Struct, frozen=True, kw_only=True):
    """The current document of a license: a JWS, typ `license+jwt`."""

    license_id: str
    revision: int
    kid: str
    document: str


async def signed_license(rt: Runtime, public_id: str) -> SignedLicense:
    """Return the current document; sign it first if that has not happened, or if its facts have changed.

    IllegalLicenseState while the license is revoked, released, suspended or frozen: a document would work offline on.
    """
    document = await rt.db.read(lambda tx: _current(tx, rt, public_id))
    if document is None:
        document = await rt.db.write(lambda tx: _renewed(tx, rt, public_id))
    return await _signed(rt, public_id, document)


async def first_document(rt: Runtime, public_id: str) -> SignedLicense:
    """Return the revision that answers which must never change carry; sign it if that has not happened.

    It is the first one that names the buyer's device, where the order does, unless its key is compromised: then the first such one by a key
    that is not.
    """
    document = await rt.db.read(lambda tx: _first(tx, rt, public_id))
    if document is None:
        document = await rt.db.write(lambda tx: _renewed(tx, rt, public_id))
    return await _signed(rt, public_id, document)


async def prepare_document(tx: Tx, rt: Runtime, loaded: LoadedLicense) -> StoredDocument:
    """Record the intent to sign the facts of a locked license as they are now; one that tells them already is kept."""
    facts = await _facts(tx, loaded)
    newest = await documents.latest(tx, loaded.view.id)
    if newest is not None and newest.facts == _encode(facts) and rt.signer.believes(newest.kid):
        return newest
    now = rt.clock()
    document = _intent(rt, loaded, facts, newest.revision + 1 if newest else 1, now)
    await documents.record_intent(tx, document)
    prepared = AuditEvent(
        at=now,
        actor="system",
        kind="license.document_prepared",
        subject=loaded.view.public_id,
        detail={"revision": document.revision, "kid": document.kid},
    )
    await audit.append(tx, [prepared])
    return document


async def _signed(rt: Runtime, public_id: str, document: StoredDocument) -> SignedLicense:
    signature = document.signature
    if signature is None:
        signature = rt.signer.sign(document.signing_input)
        await rt.db.write(lambda tx: documents.store_signature(tx, document, signature))
    return SignedLicense(
        license_id=public_id,
        revision=document.revision,
        kid=document.kid,
        document=envelope.assemble(document.signing_input, signature),
    )


async def _first(tx: Tx, rt: Runtime, public_id: str) -> StoredDocument | None:
    """The very first is recorded with the license itself, which may be before getLicense names the device."""
    loaded = await licenses.by_public_id(tx, public_id)
    assert loaded is not None
    device = await _device(tx, loaded)
    number = 1
    while (document := await documents.revision(tx, loaded.view.id, number)) is not None:
        if rt.signer.believes(document.kid) and msgspec.json.decode(document.facts).get(_DEVICE) == device:
            return document
        number += 1
    return None


async def _current(tx: Tx, rt: Runtime, public_id: str) -> StoredDocument | None:
    """The newest revision, if it still tells the facts and its key is not compromised."""
    loaded = await licenses.by_public_id(tx, public_id)
    assert loaded is not None
    _check_use(loaded)
    newest = await documents.latest(tx, loaded.view.id)
    if newest is None or not rt.signer.believes(newest.kid):
        return None
    if newest.facts != _encode(await _facts(tx, loaded)):
        return None
    return newest


async def _renewed(tx: Tx, rt: Runtime, public_id: str) -> StoredDocument:
    loaded = await licenses.by_public_id(tx, public_id, lock=True)
    assert loaded is not None
    _check_use(loaded)  # it may have been held up since it was read
    return await prepare_document(tx, rt, loaded)


def _check_use(loaded: LoadedLicense) -> None:
    """Refuse what is over or held up; by the stored facts, for the status of one never activated tells only that."""
    view = loaded.view
    if view.state in _OVER or view.suspended_at is not None or view.frozen_at is not None:
        raise IllegalLicenseState


def _intent(rt: Runtime, loaded: LoadedLicense, facts: dict[str, Any], revision: int, now: Instant) -> StoredDocument:
    claims = {
        "iss": rt.issuer,
        "sub": loaded.view.public_id,
        "jti": f"{loaded.view.public_id}.{revision}",
        "iat": now // SECOND,
        **facts,
    }
    return StoredDocument(
        license_id=loaded.view.id,
        revision=revision,
        kid=rt.signer.kid,
        facts=_encode(facts),
        signing_input=envelope.signing_input(typ=envelope.LICENSE_TYP, kid=rt.signer.kid, claims=claims),
        signature=None,
        recorded_at=now,
    )


async def _facts(tx: Tx, loaded: LoadedLicense) -> dict[str, Any]:
    """What the document says of the license, apart from when and by which key it says so."""
    view = loaded.view
    policy = await licenses.policy_of(tx, view.id)
    device = await _device(tx, loaded)
    facts: dict[str, Any] = {
        "product": loaded.marketplace_product_id,
        "order": loaded.order_id,
        "code_hint": loaded.code_hint,
        "seats": view.seats,
        "entitlements": list(policy.entitlements),
    }
    if device is not None:
        facts[_DEVICE] = device
    if view.expiry_source is ExpirySource.PERPETUAL:
        facts["term"] = "perpetual"
    else:
        assert view.expires_at is not None
        facts["exp"] = view.expires_at // SECOND
    return facts


async def _device(tx: Tx, loaded: LoadedLicense) -> str | None:
    """The identification code that the buyer gave with the order: software on another device can refuse the document (spec §2.2)."""
    return (await orders.line_by_id(tx, loaded.line_ref)).terms.identification_code


def _encode(facts: dict[str, Any]) -> str:
    return msgspec.json.encode(facts, order="sorted").decode()
