"""The delivery pack of an order line: what was delivered, when it was activated, what proves it, and a statement of ours about all that.

In: the facts, their digest, the signed statement, and whether a statement still tells what we hold. Out: how a pack looks
(web/delivery_packs.py as a page, pack_pdf.py as a PDF).

A pack keeps growing with its case, so a statement names how many events and proofs it is about; both lists only ever get longer (ADR 46).
"""

from hashlib import sha256
from typing import Any, Final

import msgspec

from licensesvc.domain.errors import NotFound
from licensesvc.domain.instants import SECOND, Instant, rfc3339
from licensesvc.domain.license import ExpirySource
from licensesvc.services.runtime import Runtime
from licensesvc.signing import envelope
from licensesvc.signing.envelope import InvalidToken
from licensesvc.storage import acceptance, audit, catalog, connections, licenses, orders, supervision
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import StoredCase
from licensesvc.storage.where import EVERYTHING

STATEMENT_YEARS: Final = 10
"""How long a statement can be verified."""
_YEAR_S: Final = 366 * 24 * 3_600


class PackProof(msgspec.Struct, frozen=True, kw_only=True):
    """A proof; `size` in bytes."""

    id: str
    kind: str
    filename: str
    size: int
    sha256: str
    uploaded_at: str


class PackEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event of supervision."""

    at: str
    event: str
    actor: str
    source: str
    reason: str | None


class PackActivation(msgspec.Struct, frozen=True, kw_only=True):
    """The first activation: when, and where the audit proves it; `hash` in hex."""

    at: str
    chain: str
    seq: int
    hash: str


class PackLicense(msgspec.Struct, frozen=True, kw_only=True):
    """The license; of its code only a hint. `expires_at` None is perpetual."""

    id: str
    code_hint: str
    state: str
    seats: int
    service_start: str | None
    expires_at: str | None
    perpetual: bool
    activation: PackActivation | None


class PackFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a pack says, apart from when it was made."""

    case: str
    flow: str
    order_id: str
    line_id: str
    product: str
    product_id: str
    license: PackLicense | None
    proofs: list[PackProof]
    events: list[PackEvent]

    def digest(self) -> str:
        """SHA-256 over the facts as JSON with sorted keys, in hex."""
        return sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


class Pack(msgspec.Struct, frozen=True, kw_only=True):
    """Facts, when they were read, and the signed statement about them; `calendar` is the zone that people read times in."""

    facts: PackFacts
    made_at: Instant
    statement: str
    calendar: str


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A genuine statement beside what we hold now of the same events and proofs; `same` where they agree."""

    facts: PackFacts
    made_at: Instant
    same: bool
    calendar: str


async def delivery_pack(tx: Tx, rt: Runtime, case_id: str) -> Pack:
    """The pack of a case as of now. Raises NotFound."""
    case = await supervision.by_public_id(tx, case_id)
    if case is None:
        raise NotFound
    facts = await _facts(tx, case)
    now = rt.clock()
    seconds = now // SECOND
    claims = {
        "iss": rt.issuer,
        "jti": case.public_id,
        "iat": seconds,
        "exp": seconds + STATEMENT_YEARS * _YEAR_S,
        "facts": facts.digest(),
        "events": len(facts.events),
        "proofs": len(facts.proofs),
    }
    prepared = envelope.signing_input(typ=envelope.PACK_TYP, kid=rt.signer.kid, claims=claims)
    statement = envelope.assemble(prepared, rt.signer.sign(prepared))
    return Pack(facts=facts, made_at=seconds * SECOND, statement=statement, calendar=await _calendar(tx, case))


async def verify_pack(tx: Tx, rt: Runtime, statement: str) -> Verified:
    """Hold a statement against what we have. Raises NotFound for what no key of ours has signed."""
    try:
        claims = envelope.verify(
            statement,
            typ=envelope.PACK_TYP,
            keys=rt.signer.keyset.verification_keys(),
            now=rt.clock(),
            issuer=rt.issuer,
        )
    except InvalidToken:
        raise NotFound from None
    case = await supervision.by_public_id(tx, claims["jti"])
    if case is None:
        raise NotFound
    facts = await _facts(tx, case, events=claims["events"], proofs=claims["proofs"])
    return Verified(
        facts=facts,
        made_at=claims["iat"] * SECOND,
        same=facts.digest() == claims["facts"],
        calendar=await _calendar(tx, case),
    )


async def _calendar(tx: Tx, case: StoredCase) -> str:
    return (await connections.by_id(tx, case.connection_id)).connection.calendar.key


async def _facts(tx: Tx, case: StoredCase, *, events: int | None = None, proofs: int | None = None) -> PackFacts:
    """The facts of a case, of its lists only the first so many."""
    line = await orders.line_by_id(tx, case.line_ref)
    place = (await orders.places_of(tx, [case.line_ref]))[case.line_ref]
    product = await catalog.product_by_id(tx, line.product_id)
    return PackFacts(
        case=case.public_id,
        flow=case.flow,
        order_id=place.order_id,
        line_id=place.line_id,
        product=product.name,
        product_id=product.marketplace_product_id,
        license=await _license(tx, case.line_ref),
        proofs=[
            PackProof(
                id=proof.public_id,
                kind=proof.kind,
                filename=proof.filename,
                size=proof.size,
                sha256=proof.sha256,
                uploaded_at=rfc3339(proof.uploaded_at),
            )
            for proof in (await acceptance.proofs_of(tx, case.id))[:proofs]
        ],
        events=[
            PackEvent(
                at=rfc3339(event.happening.at),
                event=event.happening.event,
                actor=event.happening.actor,
                source=event.happening.source,
                reason=event.happening.reason,
            )
            for event in (await supervision.events_of(tx, case.id))[:events]
        ],
    )


async def _license(tx: Tx, line_ref: int) -> PackLicense | None:
    loaded = await licenses.by_line(tx, line_ref)
    if loaded is None:
        return None
    view = loaded.view
    return PackLicense(
        id=view.public_id,
        code_hint=loaded.code_hint,
        state=view.state,
        seats=view.seats,
        service_start=_time(view.service_start),
        expires_at=_time(view.expires_at),
        perpetual=view.expiry_source is ExpirySource.PERPETUAL,
        activation=await _activation(tx, view.public_id),
    )


def _time(instant: Instant | None) -> str | None:
    return None if instant is None else rfc3339(instant)


async def _activation(tx: Tx, license_id: str) -> PackActivation | None:
    where = EVERYTHING.given("e.subject = {}", license_id).given("e.kind = {}", "license.activated")
    rows = await audit.search(tx, after=audit.BEGINNING, limit=1, where=where)
    if not rows:
        return None
    row = rows[0]
    return PackActivation(at=rfc3339(row.event.at), chain=row.chain, seq=row.seq, hash=_hex(row.hash))


def _hex(value: Any) -> str:
    return value if isinstance(value, str) else bytes(value).hex()
