"""Holds one answer of order/query against our record of the order, and keeps what is different as findings."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain import ids
from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import InvalidParameter
from licensesvc.domain.instants import parse_stamp
from licensesvc.domain.license import LicenseState
from licensesvc.domain.reconciliation import Difference, FindingKind, OurLine, TheirLine, compare
from licensesvc.marketplace.huawei.orders import OrderInfo, OrderLine
from licensesvc.services.runtime import Runtime
from licensesvc.storage import audit, licenses, orders, reconciliation
from licensesvc.storage.orders import StoredLine
from licensesvc.storage.port import Tx
from licensesvc.storage.reconciliation import Finding

SYSTEM = "system"

_IN_FORCE = (LicenseState.ISSUED, LicenseState.ACTIVE)


async def differences(tx: Tx, connection: Connection, info: OrderInfo) -> list[Difference]:
    """What is different; the order is locked until the commit."""
    order = await orders.find(tx, connection.id, info.order_id)
    ours = [] if order is None else [await _our_line(tx, line) for line in await orders.lines_of(tx, [order.id])]
    theirs = lines_of(info, connection.wire)
    return compare(None if order is None else order.order_type, ours, info.order_type, theirs)


def lines_of(info: OrderInfo, wire: ZoneInfo) -> list[TheirLine]:
    """What order/query tells of each line."""
    return [_their_line(line, wire) for line in info.order_line]


async def unknown_there(tx: Tx, connection: Connection, order_id: str, code: str) -> list[Difference]:
    """The difference of an order that the marketplace does not know; none where we do not know it either."""
    order = await orders.find(tx, connection.id, order_id)
    if order is None:
        return []
    return [Difference(kind=FindingKind.UNKNOWN_THERE, ours=order.order_type, theirs=code)]


async def keep(tx: Tx, rt: Runtime, connection: Connection, order_id: str, found: Sequence[Difference]) -> int:
    """Make the findings about an order what was found just now; return how many are new.

    One that is open already stays one; one that was dismissed stays so while it says the same; one that is gone is resolved.
    """
    now = rt.clock()
    open_ones: dict[tuple[str, str], Finding] = {}
    dismissed: dict[tuple[str, str, str | None, str | None], Finding] = {}
    for finding in await reconciliation.of_order(tx, connection.id, order_id):
        if finding.resolved_at is None:
            open_ones[finding.line_id, finding.kind] = finding
        else:
            dismissed[finding.line_id, finding.kind, finding.ours, finding.theirs] = finding
    new: list[AuditEvent] = []
    still = []
    for difference in found:
        known = open_ones.pop((difference.line_id, difference.kind), None)
        if known is not None and (known.ours, known.theirs) != (difference.ours, difference.theirs):
            await reconciliation.retold(tx, known.id, difference, now)
            continue
        known = known or dismissed.get((difference.line_id, difference.kind, difference.ours, difference.theirs))
        if known is not None:
            still.append(known.id)
            continue
        public_id = rt.new_id(ids.FINDING, now)
        if await reconciliation.add(tx, connection.id, order_id, difference, public_id, now):
            detail = {**msgspec.structs.asdict(difference), "order": order_id}
            new.append(AuditEvent(at=now, actor=SYSTEM, kind="finding.found", subject=public_id, detail=detail))
    await reconciliation.seen_again(tx, still, now)
    await audit.append(tx, new)
    for finding in open_ones.values():
        await close(tx, rt, finding, "vanished", by=SYSTEM)
    return len(new)


async def close(tx: Tx, rt: Runtime, finding: Finding, how: str, *, by: str, reason: str | None = None) -> bool:
    """Resolve an open finding, with its audit event; False = somebody else did."""
    now = rt.clock()
    if not await reconciliation.resolve(tx, finding.id, how, by=by, now=now):
        return False
    detail: dict[str, str | int | None] = {"order": finding.order_id, "kind": finding.kind, "reason": reason}
    await audit.append(
        tx, [AuditEvent(at=now, actor=by, kind=f"finding.{how}", subject=finding.public_id, detail=detail)]
    )
    return True


async def _our_line(tx: Tx, line: StoredLine) -> OurLine:
    loaded = await licenses.by_line(tx, line.id)
    return OurLine(
        line_id=line.line_id,
        amount=line.terms.amount,
        told_expiry=line.terms.expiry_order_query,
        expires_at=loaded.view.expires_at if loaded else None,
        expiry_source=loaded.view.expiry_source if loaded else None,
        in_force=loaded is not None and loaded.view.state in _IN_FORCE,
    )


def _their_line(line: OrderLine, wire: ZoneInfo) -> TheirLine:
    product = line.product_info[0] if line.product_info else None
    try:
        expires_at = parse_stamp(line.expire_time, wire) if line.expire_time else None
    except InvalidParameter:
        expires_at = None  # what cannot be read says nothing; receiving it would say so
    return TheirLine(
        line_id=line.order_line_id, amount=product.linear_value if product else None, expires_at=expires_at
    )
