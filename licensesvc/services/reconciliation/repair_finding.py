"""Puts right what reconciliation found, once an operator says so: the marketplace is asked again, and only what it says now is believed.

In: the repair of each kind, dismissing. Out: what is different (`compare_order`). Repeating a repair, or a crash in it, changes nothing twice:
change and resolution commit together, and receiving an order is idempotent.
"""

from functools import partial
from typing import Final

import msgspec

from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import MarketplaceNotAsked, NotFound, NotRepairable
from licensesvc.domain.reconciliation import Difference, Repair, repair_of
from licensesvc.marketplace.huawei.client import MarketplaceClient, MarketplaceUnreachable
from licensesvc.marketplace.huawei.orders import MalformedAnswer, MarketplaceRefusal, OrderInfo
from licensesvc.services.calls.change_by_call import Caller, release_license
from licensesvc.services.catalog.marketplace_account import CannotAsk
from licensesvc.services.licenses.issue_license import learn_terms
from licensesvc.services.orders.notify_order import OrderQuery
from licensesvc.services.orders.query_order import ask_order, receive_answer
from licensesvc.services.reconciliation import compare_order
from licensesvc.services.runtime import Runtime
from licensesvc.storage import connections, licenses, orders, reconciliation
from licensesvc.storage.orders import StoredLine
from licensesvc.storage.port import Tx
from licensesvc.storage.reconciliation import Finding

SOURCE: Final = "reconciliation"

_ONLY_A_PERSON: Final = (
    "only a person can decide this one: look at the order in the marketplace, then dismiss it with a reason"
)


async def repair_finding(rt: Runtime, client: MarketplaceClient, finding_id: str, reason: str, *, by: str) -> Finding:
    """Repair one finding. Raises NotFound, NotRepairable, MarketplaceNotAsked, and what receiving the order raises."""
    finding = await rt.db.read(lambda tx: _open_finding(tx, finding_id))
    repair = repair_of(finding.kind, finding.ours, finding.theirs)
    if repair is None:
        raise NotRepairable(_ONLY_A_PERSON)
    connection = (await rt.db.read(lambda tx: connections.by_id(tx, finding.connection_id))).connection
    info = await _asked(rt, client, connection, finding)
    if repair is Repair.RECEIVE:
        await receive_answer(rt, connection, info)
    return await rt.db.write(
        partial(_settle, rt=rt, connection=connection, finding_id=finding_id, info=info, by=by, reason=reason)
    )


async def dismiss_finding(tx: Tx, rt: Runtime, finding_id: str, reason: str, *, by: str) -> Finding:
    """Say that a finding is known and stays as it is; it is not found again while it says the same. Raises NotFound, NotRepairable."""
    finding = await _open_finding(tx, finding_id, lock=True)
    await compare_order.close(tx, rt, finding, "dismissed", by=by, reason=reason)
    return await _found(tx, finding_id)


async def _open_finding(tx: Tx, finding_id: str, *, lock: bool = False) -> Finding:
    finding = await reconciliation.by_public_id(tx, finding_id, lock=lock)
    if finding is None:
        raise NotFound
    if finding.resolved_at is not None:
        raise NotRepairable(f"it is resolved already: {finding.how}")
    return finding


async def _found(tx: Tx, finding_id: str) -> Finding:
    finding = await reconciliation.by_public_id(tx, finding_id)
    assert finding is not None
    return finding


async def _asked(rt: Runtime, client: MarketplaceClient, connection: Connection, finding: Finding) -> OrderInfo:
    query = OrderQuery(connection=connection.public_id, order_id=finding.order_id, order_line_id=None)
    try:
        return await ask_order(rt, client, query)
    except (MarketplaceRefusal, MarketplaceUnreachable, MalformedAnswer, CannotAsk) as error:
        raise MarketplaceNotAsked(f"nothing was repaired ({type(error).__name__}: {error})") from None


async def _settle(
    tx: Tx, *, rt: Runtime, connection: Connection, finding_id: str, info: OrderInfo, by: str, reason: str
) -> Finding:
    """Apply the repair that what is different now asks for, and close the finding with it."""
    now_different = await compare_order.differences(tx, connection, info)  # locks the order first
    finding = await _open_finding(tx, finding_id, lock=True)
    for difference in now_different:
        if (difference.kind, difference.line_id) == (finding.kind, finding.line_id):
            await _apply(tx, rt, connection, info, difference, by=by)
            await compare_order.close(tx, rt, finding, "repaired", by=by, reason=reason)
            return await _found(tx, finding_id)
    received = repair_of(finding.kind, finding.ours, finding.theirs) is Repair.RECEIVE
    await compare_order.close(tx, rt, finding, "repaired" if received else "vanished", by=by, reason=reason)
    return await _found(tx, finding_id)


async def _apply(
    tx: Tx, rt: Runtime, connection: Connection, info: OrderInfo, difference: Difference, *, by: str
) -> None:
    repair = repair_of(difference.kind, difference.ours, difference.theirs)
    if repair is None or repair is Repair.RECEIVE:
        raise NotRepairable("receiving the order did not settle it: " + _ONLY_A_PERSON)
    order = await orders.find(tx, connection.id, info.order_id)
    assert order is not None
    line = await orders.find_line(tx, order.id, difference.line_id)
    assert line is not None
    if repair is Repair.RELEASE:
        await _release(tx, rt, connection, line, by=by)
    else:
        await _take_terms(tx, rt, connection, line, info, repair, by=by)


async def _release(tx: Tx, rt: Runtime, connection: Connection, line: StoredLine, *, by: str) -> None:
    loaded = await licenses.by_line(tx, line.id, lock=True)
    if loaded is not None:
        caller = Caller(connection=connection, by=by, source=SOURCE)
        await release_license(tx, rt, caller, loaded, refund_order=None, refund_line=None)


async def _take_terms(
    tx: Tx, rt: Runtime, connection: Connection, line: StoredLine, info: OrderInfo, repair: Repair, *, by: str
) -> None:
    told = next(theirs for theirs in compare_order.lines_of(info, connection.wire) if theirs.line_id == line.line_id)
    terms = (
        msgspec.structs.replace(line.terms, expiry_order_query=told.expires_at)
        if repair is Repair.TAKE_EXPIRY
        else msgspec.structs.replace(line.terms, amount=told.amount)
    )
    await orders.update_line(tx, msgspec.structs.replace(line, terms=terms))
    loaded = await licenses.by_line(tx, line.id, lock=True)
    if loaded is not None:
        await learn_terms(tx, loaded, terms, by=by, now=rt.clock())
