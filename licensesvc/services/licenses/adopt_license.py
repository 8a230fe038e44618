"""Gives an order line the license that was learned from a call before anybody told of the order (spec §2.1).

In: moving the license off the order that stood in for the real one, which goes. Out: learning the code (learn_code.py).
"""

from typing import Final

import msgspec

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import StaleVersion
from licensesvc.domain.order import is_placeholder
from licensesvc.domain.policy import seats_for
from licensesvc.domain.product import Product
from licensesvc.domain.supervision import Actor
from licensesvc.services.licenses.issue_license import code_index, learn_terms
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision import supervise
from licensesvc.storage import audit, catalog, license_calls, licenses, orders
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.orders import StoredLine
from licensesvc.storage.port import Tx

LEARNED: Final = "learned"
"""The source of an order that stands in for one that is not known."""


async def adopt_license(
    tx: Tx, rt: Runtime, connection: Connection, line: StoredLine, product: Product, code: str, *, by: str, source: str
) -> LoadedLicense | None:
    """Move the learned license with this code to `line`, which is locked and has none; None = there is no such license.

    What calls have made of it stays: end, freeze, release, activation, seats. Product, terms and times become those of the line.
    Raises NotIssuable where nobody tells the end.
    """
    index = code_index(rt, code)
    loaded = (await licenses.by_codes(tx, [index], lock=True)).get(index)
    if loaded is None or not await _is_ours_to_move(tx, loaded, connection, product):
        return None
    view = loaded.view
    stand_in = await orders.line_by_id(tx, loaded.line_ref)
    policy = await licenses.policy_of(tx, view.id)
    if view.product_id != product.id:  # what was learned took it for another product's
        policy = await catalog.policy_by_id(tx, product.policy_id)
    view = msgspec.structs.replace(
        view, product_id=product.id, seats=max(seats_for(policy, line.terms.amount), view.seats_taken)
    )
    moved = await licenses.move_to_line(
        tx,
        view,
        line_ref=line.id,
        order_id=line.terms.order_id,
        marketplace_product_id=await license_calls.told_product(tx, view.id) or product.marketplace_product_id,
        policy=policy,
    )
    if not moved:
        raise StaleVersion
    await orders.delete_with_line(tx, stand_in.order_ref, stand_in.id)
    now = rt.clock()
    known = AuditEvent(
        at=now,
        actor=by,
        kind="license.order_known",
        subject=view.public_id,
        detail={"from": loaded.order_id, "order": line.terms.order_id, "line": line.terms.line_id, "source": source},
    )
    await audit.append(tx, [known])
    await learn_terms(tx, await licenses.by_id(tx, view.id), line.terms, by=by, now=now)
    if view.activated_at is not None:
        await supervise.software_activated(tx, {line.id: view.activated_at}, actor=Actor.SOFTWARE)
    return await licenses.by_id(tx, view.id)


async def _is_ours_to_move(tx: Tx, loaded: LoadedLicense, connection: Connection, product: Product) -> bool:
    if loaded.view.connection_id != connection.id or not is_placeholder(loaded.order_id):
        return False
    stand_in = await orders.line_by_id(tx, loaded.line_ref)
    order = await orders.by_id(tx, stand_in.order_ref)
    return order.source == LEARNED and not product.delivery_kind.seller_makes_code
