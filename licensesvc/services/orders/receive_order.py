"""Receives what one source says about an order line; all sources meet in one order, line, case and license.

The same facts again change nothing. Facts of another source fill what is not known yet.
"""

from typing import Final

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import InvalidParameter, OrderConflict, ProductNotMapped
from licensesvc.domain.instants import Instant
from licensesvc.domain.order import (
    LineTerms,
    OrderFacts,
    OrderType,
    is_placeholder,
    issues_license,
    merge,
    open_line,
    opens_case,
)
from licensesvc.domain.product import Product
from licensesvc.domain.supervision_flows import flow_for
from licensesvc.services.licenses.adopt_license import adopt_license
from licensesvc.services.licenses.issue_license import code_index, issue_license, learn_terms
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision import supervise
from licensesvc.storage import audit, buyers, catalog, licenses, orders, supervision
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.orders import Buyer, StoredLine, StoredOrder
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import StoredCase

_NEW_TURNS_TRIAL: Final = (OrderType.NEW, OrderType.TRIAL)

_OUR_CODES: Final = "we make the codes of this product; leave the marketplace's code out"


class ReceivedLine(msgspec.Struct, frozen=True, kw_only=True):
    """An order line as it stands after the facts were received."""

    order: StoredOrder
    line: StoredLine
    product: Product
    case: StoredCase | None
    license: LoadedLicense | None


async def receive_line(
    tx: Tx,
    rt: Runtime,
    connection: Connection,
    facts: OrderFacts,
    *,
    buyer: Buyer | None,
    source: str,
    by: str,
    marketplace_code: str | None = None,
    imported_code: str | None = None,
) -> ReceivedLine:
    """Find or make the order, its line, its case and, where the order buys one and we make the code, its license.

    `marketplace_code` is a code that the marketplace made (License 2.0) and we learn with the order; `imported_code` one that
    anybody made before we were asked.
    Raises ProductNotMapped, OrderConflict, NotIssuable, InvalidParameter.
    """
    now = rt.clock()
    order = await _order(tx, rt, connection, facts, buyer=buyer, source=source, by=by, now=now)
    line, product = await _line(tx, rt, connection, order, facts, now=now)
    loaded = await licenses.by_line(tx, line.id, lock=True)
    cases = await supervision.of_lines(tx, [line.id])
    case = cases.get(line.id)
    flow = flow_for(product.delivery_kind, line.terms.ordered_at, enablement_cloud=line.terms.enablement_cloud is True)
    if case is not None:
        case = await supervise.follow_order(tx, case, product, flow, by=by, now=now)
    elif flow is not None and opens_case(order.order_type) and not is_placeholder(order.order_id):
        case = await supervise.open_case(tx, rt, line_ref=line.id, product=product, flow=flow, now=now, source=source)
    if loaded is not None:
        await _same_code(tx, rt, loaded, product, marketplace_code, imported_code)
        await learn_terms(tx, loaded, line.terms, by=by, now=now)
    elif _license_due(order, product, marketplace_code, imported_code):
        code = marketplace_code or imported_code
        loaded = await adopt_license(tx, rt, connection, line, product, code, by=by, source=source) if code else None
        if loaded is not None:
            case = (await supervision.of_lines(tx, [line.id])).get(line.id)  # the software may have activated long ago
        else:
            loaded = await issue_license(
                tx, rt, product=product, line_ref=line.id, terms=line.terms, known_code=code, by=by, now=now
            )
    return ReceivedLine(order=order, line=line, product=product, case=case, license=loaded)


async def _same_code(
    tx: Tx,
    rt: Runtime,
    loaded: LoadedLicense,
    product: Product,
    marketplace_code: str | None,
    imported_code: str | None,
) -> None:
    """A code that comes with facts about a known license must be one of its own."""
    code = marketplace_code or imported_code
    if code is None:
        return
    if marketplace_code is not None and product.delivery_kind.seller_makes_code:
        raise InvalidParameter(_OUR_CODES)
    named = await licenses.by_code(tx, code_index(rt, code))
    if named is None or named.view.id != loaded.view.id:
        raise OrderConflict("the order line has a license with another code")


def _license_due(order: StoredOrder, product: Product, marketplace_code: str | None, imported_code: str | None) -> bool:
    if not product.delivery_kind.has_code and (imported_code or marketplace_code):
        raise InvalidParameter(f"products of kind {product.delivery_kind} have no license code")
    if imported_code is not None:
        return opens_case(order.order_type)
    if marketplace_code is None:
        return issues_license(order.order_type, product.delivery_kind)
    if product.delivery_kind.seller_makes_code:
        raise InvalidParameter(_OUR_CODES)
    return opens_case(order.order_type)


async def _order(
    tx: Tx,
    rt: Runtime,
    connection: Connection,
    facts: OrderFacts,
    *,
    buyer: Buyer | None,
    source: str,
    by: str,
    now: Instant,
) -> StoredOrder:
    known = await orders.find(tx, connection.id, facts.order_id)
    if known is not None and known.buyer_id is not None and buyer is not None:
        person = await buyers.person(tx, known.buyer_id)
        if person is None or not buyer.adds_to(person):
            buyer = None  # what was erased does not come back with a repeated call
    buyer_id = await orders.put_buyer(tx, connection.id, rt.new_id(ids.BUYER, now), buyer, now) if buyer else None
    if known is None:
        order = StoredOrder(
            id=0,
            public_id=rt.new_id(ids.ORDER, now),
            connection_id=connection.id,
            order_id=facts.order_id,
            order_type=facts.order_type,
            buyer_id=buyer_id,
            source=source,
            order_time=facts.order_time,
            received_at=now,
        )
        received = AuditEvent(
            at=now,
            actor=by,
            kind="order.received",
            subject=order.public_id,
            detail={"order": facts.order_id, "type": facts.order_type, "source": source},
        )
        if (order_ref := await orders.insert(tx, order)) is not None:
            await audit.append(tx, [received])
            return msgspec.structs.replace(order, id=order_ref)
        known = await orders.find(tx, connection.id, facts.order_id)
        assert known is not None  # another process added it in this very moment
    order = msgspec.structs.replace(
        known,
        # getLicense calls every purchase NEW (spec §2.2): a source that knows of a trial is right.
        order_type=OrderType.TRIAL if (known.order_type, facts.order_type) == _NEW_TURNS_TRIAL else known.order_type,
        buyer_id=known.buyer_id if known.buyer_id is not None else buyer_id,
        order_time=known.order_time if known.order_time is not None else facts.order_time,
    )
    if order != known:
        await orders.update(tx, order)
    return order


async def _line(
    tx: Tx, rt: Runtime, connection: Connection, order: StoredOrder, facts: OrderFacts, *, now: Instant
) -> tuple[StoredLine, Product]:
    terms = open_line(facts, order.received_at)
    known = await orders.find_line(tx, order.id, terms.line_id)
    if known is None:
        product = await _product(tx, connection, terms)
        public_id = rt.new_id(ids.LINE, now)
        line = StoredLine(
            id=0,
            public_id=public_id,
            order_ref=order.id,
            line_id=terms.line_id,
            product_id=product.id,
            instance_id=await _instance_id(tx, facts.instance_id, public_id),
            terms=terms,
        )
        return msgspec.structs.replace(line, id=await orders.insert_line(tx, line, now)), product
    if (
        known.instance_id is not None
    ):  # getLicense was answered: that answer stays, whatever a repeat tells of the device
        facts = msgspec.structs.replace(facts, identification_code=None)
    line = msgspec.structs.replace(
        known,
        instance_id=known.instance_id or await _instance_id(tx, facts.instance_id, known.public_id),
        terms=merge(known.terms, facts),
    )
    if line != known:
        await orders.update_line(tx, line)
    product = await catalog.product_by_id(tx, line.product_id)
    if line.terms.sku_code != known.terms.sku_code:
        mapped = await _product(tx, connection, line.terms)
        if mapped.id != product.id:
            raise OrderConflict(
                f"the sku that was told later maps to {mapped.public_id}, the line to {product.public_id}"
            )
    return line, product


async def _product(tx: Tx, connection: Connection, terms: LineTerms) -> Product:
    sold = terms.marketplace_product_id or ""
    product = await catalog.product_for(tx, connection.id, sold, terms.sku_code or "")
    if product is None:
        raise ProductNotMapped(f"no product of connection {connection.public_id} maps productId {sold!r}: create one")
    return product


async def _instance_id(tx: Tx, wanted: str | None, line: str) -> str | None:
    """The instance id that a source proposes; where another line bears it, the id of the line itself, once and for all."""
    if wanted is None:
        return None
    return line if await orders.instance_id_taken(tx, wanted) else wanted
