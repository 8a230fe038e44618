"""Makes the license of an order line: our own code, or one that the marketplace made and we learn."""

from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain import ids, licensecode
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import LicenseNotFound, NotIssuable, StaleVersion
from licensesvc.domain.instants import Instant
from licensesvc.domain.license import Expiry, ExpirySource, ExpirySources, effective_expiry
from licensesvc.domain.order import LineTerms
from licensesvc.domain.policy import Period, Policy, Term, seats_for
from licensesvc.domain.product import Product
from licensesvc.services.licenses.sign_license import prepare_document
from licensesvc.services.runtime import Runtime
from licensesvc.storage import audit, catalog, connections, licenses
from licensesvc.storage.licenses import LoadedLicense, NewLicense
from licensesvc.storage.port import Tx

CODE_INDEX = "license-code"
"""Purpose of the vault index that finds a license by its code."""


def code_index(rt: Runtime, code: str) -> str:
    """The lookup value of a code as a client sent it; forgiving for our own codes only."""
    return rt.vault.index(CODE_INDEX, licensecode.canonical(code))


def seal_code(rt: Runtime, code: str, public_id: str) -> bytes:
    """The code of the license with this id, as it lies in the database."""
    return rt.vault.seal(code.encode(), code_context(public_id))


async def issue_license(
    tx: Tx,
    rt: Runtime,
    *,
    product: Product,
    line_ref: int,
    terms: LineTerms,
    known_code: str | None,
    by: str,
    now: Instant,
) -> LoadedLicense:
    """Create a license in state ISSUED with its code, a new one unless it has one, and the intent of its document.

    A code that exists already violates a UNIQUE constraint.
    """
    policy = await catalog.policy_by_id(tx, product.policy_id)
    connection = (await connections.by_id(tx, product.connection_id)).connection
    sources = expiry_sources(policy, terms)
    expiry = provisional_expiry(sources, terms.ordered_at, connection.calendar)
    code = known_code or licensecode.generate(product.code_prefix, rt.entropy)
    public_id = rt.new_id(ids.LICENSE, now)
    license_id = await licenses.insert(
        tx,
        NewLicense(
            public_id=public_id,
            line_ref=line_ref,
            connection_id=product.connection_id,
            product_id=product.id,
            order_id=terms.order_id,
            marketplace_product_id=product.marketplace_product_id,
            amount=terms.amount,
            order_time=terms.ordered_at,
            policy=policy,
            sources=sources,
            expires_at=expiry.at,
            expiry_source=expiry.source,
            seats=seats_for(policy, terms.amount),
            code_hint=licensecode.hint(code),
        ),
        now,
    )
    await licenses.add_code(
        tx,
        license_id,
        kind="own" if product.delivery_kind.seller_makes_code else "marketplace",
        code_index=code_index(rt, code),
        sealed=seal_code(rt, code, public_id),
        now=now,
    )
    await audit.append(
        tx,
        [
            AuditEvent(
                at=now,
                actor=by,
                kind="license.issued",
                subject=public_id,
                detail={"order": terms.order_id, "line": terms.line_id, "product": product.public_id},
            )
        ],
    )
    loaded = await licenses.by_id(tx, license_id)
    await prepare_document(tx, rt, loaded)  # code and document are issued together
    return loaded


async def open_code(tx: Tx, rt: Runtime, loaded: LoadedLicense) -> str:
    """The code of a license in clear."""
    sealed = await licenses.sealed_code(tx, loaded.view.id)
    return rt.vault.open(sealed, code_context(loaded.view.public_id)).decode()


async def open_codes(tx: Tx, rt: Runtime, loaded: LoadedLicense) -> dict[str, str]:
    """Every code of a license in clear, by the index it is stored under."""
    sealed = await licenses.sealed_codes(tx, loaded.view.id)
    context = code_context(loaded.view.public_id)
    return {index: rt.vault.open(code, context).decode() for index, code in sealed.items()}


async def license_of_code(rt: Runtime, code: str) -> str:
    """The public id of the license that a code names; LicenseNotFound."""
    loaded = await rt.db.read(lambda tx: licenses.by_code(tx, code_index(rt, code)))
    if loaded is None:
        raise LicenseNotFound
    return loaded.view.public_id


async def learn_terms(tx: Tx, loaded: LoadedLicense, terms: LineTerms, *, by: str, now: Instant) -> None:
    """Carry what a source newly told about the order line over to its license: order time, amount, seats, expiry."""
    policy = await licenses.policy_of(tx, loaded.view.id)
    known = loaded.sources
    sources = msgspec.structs.replace(expiry_sources(policy, terms), operator=known.operator, refresh=known.refresh)
    if (sources, terms.ordered_at, terms.amount) == (known, loaded.view.order_time, loaded.amount):
        return
    connection = (await connections.by_id(tx, loaded.view.connection_id)).connection
    expiry = provisional_expiry(sources, loaded.view.service_start or terms.ordered_at, connection.calendar)
    view = msgspec.structs.replace(
        loaded.view,
        order_time=terms.ordered_at,
        seats=max(seats_for(policy, terms.amount), loaded.view.seats_taken),
        expires_at=expiry.at,
        expiry_source=expiry.source,
    )
    if not await licenses.store_terms(tx, view, sources, terms.amount):
        raise StaleVersion
    learned = AuditEvent(
        at=now,
        actor=by,
        kind="license.terms_learned",
        subject=view.public_id,
        detail={"order_time": view.order_time, "seats": view.seats, "expires_at": view.expires_at},
    )
    await audit.append(tx, [learned])


def provisional_expiry(sources: ExpirySources, start: Instant, calendar: ZoneInfo) -> Expiry:
    """The expiry if the service started at `start`; an end that nobody knows cannot be signed and raises NotIssuable."""
    expiry = effective_expiry(msgspec.structs.replace(sources, service_start=start), calendar)
    if expiry.at is None and expiry.source is not ExpirySource.PERPETUAL:
        raise NotIssuable(
            "neither the order nor the policy says when the license ends: give the policy term PERIOD or PERPETUAL"
        )
    return expiry


def expiry_sources(policy: Policy, terms: LineTerms) -> ExpirySources:
    """What policy and order tell about the end of a license; the service has not started yet."""
    period: Period | None = None
    if policy.term is Term.PERIOD:
        period = policy.period
    elif policy.term is Term.ORDER:
        period = terms.period
    return ExpirySources(
        operator=None,
        refresh=None,
        service_start=None,
        period=period,
        perpetual=policy.term is Term.PERPETUAL or (policy.term is Term.ORDER and terms.bought_for_good),
        order_query=terms.expiry_order_query,
        estimate=terms.expiry_estimate,
    )


def code_context(public_id: str) -> str:
    """What the vault binds the code of a license to."""
    return f"license-code:{public_id}"
