"""Agreements: the service agreement of a product in its versions, who accepted which, and the seller's own with the marketplace."""

from typing import Annotated, TypeAlias

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import parse_rfc3339
from licensesvc.services.runtime import Runtime
from licensesvc.storage import agreements, audit, catalog, connections, money, orders
from licensesvc.storage.agreements import Agreement
from licensesvc.storage.port import Tx

Time: TypeAlias = Annotated[str, msgspec.Meta(max_length=40, examples=["2026-11-23T16:00:00.000Z"])]
PlainText: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class AddAgreement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One version; `product` None = the seller's own agreement with the marketplace. `sha256` is that of the document's bytes, in hex."""

    connection: Annotated[str, msgspec.Meta(max_length=40)]
    product: Annotated[str, msgspec.Meta(max_length=40)] | None = None
    title: PlainText
    version: Annotated[str, msgspec.Meta(min_length=1, max_length=40, pattern=r"^[!-~]+$(?!\n)")]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")] | None = None
    effective_at: Time
    ends_at: Time | None = None


class AcceptAgreement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The buyer of an order line (`lin_…`) has accepted an agreement (`agr_…`) of the product that the line bought."""

    agreement: Annotated[str, msgspec.Meta(max_length=40)]
    line: Annotated[str, msgspec.Meta(max_length=40)]
    accepted_at: Time


async def add_agreement(tx: Tx, rt: Runtime, command: AddAgreement, *, by: str) -> Agreement:
    """Add a version of an agreement. Raises InvalidParameter."""
    stored = await connections.by_public_id(tx, command.connection)
    if stored is None:
        raise InvalidParameter(f"there is no connection {command.connection}")
    product_id = None
    if command.product is not None:
        product = await catalog.product_by_public_id(tx, command.product)
        if product is None or product.connection_id != stored.connection.id:
            raise InvalidParameter(f"the connection has no product {command.product}")
        product_id = product.id
    now = rt.clock()
    agreement = Agreement(
        public_id=rt.new_id(ids.AGREEMENT, now),
        connection=command.connection,
        product=command.product,
        title=command.title,
        version=command.version,
        sha256=command.sha256,
        effective_at=parse_rfc3339(command.effective_at),
        ends_at=None if command.ends_at is None else parse_rfc3339(command.ends_at),
    )
    if agreement.ends_at is not None and agreement.ends_at <= agreement.effective_at:
        raise InvalidParameter("an agreement ends after it takes effect")
    await agreements.insert(tx, agreement, connection_id=stored.connection.id, product_id=product_id, now=now)
    detail: dict[str, str | int | None] = {"product": command.product, "version": command.version}
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind="agreement.added", subject=agreement.public_id, detail=detail)]
    )
    return agreement


async def accept_agreement(tx: Tx, rt: Runtime, command: AcceptAgreement, *, by: str) -> None:
    """Record what a buyer accepted; the same again changes nothing. Raises InvalidParameter."""
    agreement = await agreements.by_public_id(tx, command.agreement)
    found = await money.find_line(tx, command.line)
    if agreement is None or found is None:
        raise InvalidParameter(f"there is no {command.line if agreement else command.agreement}")
    line_ref, _ = found
    line = await orders.line_by_id(tx, line_ref)
    product = await catalog.product_by_id(tx, line.product_id)
    if agreement.product != product.public_id:
        raise InvalidParameter("the agreement is not one of the product that the order line bought")
    at = parse_rfc3339(command.accepted_at)
    if await agreements.accept(tx, agreement.id, line_ref, at=at, source="operator"):
        detail: dict[str, str | int | None] = {"line": command.line}
        event = AuditEvent(
            at=rt.clock(), actor=by, kind="agreement.accepted", subject=agreement.public_id, detail=detail
        )
        await audit.append(tx, [event])
