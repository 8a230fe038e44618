"""License 1.0 getLicense (spec §2.2): the marketplace asks for the license of an order; the same order gets the same answer."""

from typing import Final
from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import InvalidParameter, NotIssuable
from licensesvc.domain.instants import Instant, parse_stamp
from licensesvc.domain.order import OrderFacts, OrderType
from licensesvc.domain.policy import LicenseField
from licensesvc.domain.supervision import Actor, Event, Node
from licensesvc.marketplace.huawei.callbacks import GetLicense
from licensesvc.marketplace.huawei.extend_params import identification_code
from licensesvc.marketplace.huawei.periods import period_of
from licensesvc.services.licenses.issue_license import open_code
from licensesvc.services.orders.receive_order import ReceivedLine, receive_line
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision import supervise
from licensesvc.storage import licenses
from licensesvc.storage.orders import Buyer
from licensesvc.storage.port import Tx

SOURCE: Final = "getLicense"


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """The license of an order, before its document is fetched where the policy delivers that."""

    license_id: str
    code: str
    field: LicenseField
    instance_id: str

    def __repr__(self) -> str:
        return f"Issued({self.license_id})"


async def issue(tx: Tx, rt: Runtime, connection: Connection, call: GetLicense, facts: OrderFacts, *, by: str) -> Issued:
    """Issue, or find, the license of the order; `by` is whom the audit names.

    Raises InvalidParameter, ProductNotMapped, OrderConflict, NotIssuable.
    """
    received = await receive_line(
        tx,
        rt,
        connection,
        facts,
        buyer=Buyer(customer_id=call.customer_id, name=call.customer_name),
        source=SOURCE,
        by=by,
    )
    if received.license is None:
        raise NotIssuable(
            "no license of ours belongs to this order: it is a change of another, or its code is the marketplace's"
        )
    await _deliver(tx, received, by=by, now=rt.clock())
    policy = await licenses.policy_of(tx, received.license.view.id)
    return Issued(
        license_id=received.license.view.public_id,
        code=await open_code(tx, rt, received.license),
        field=policy.license_field,
        instance_id=received.line.instance_id or received.line.public_id,
    )


async def _deliver(tx: Tx, received: ReceivedLine, *, by: str, now: Instant) -> None:
    """Answering getLicense is the seller's delivery."""
    if received.case is not None and received.case.node is Node.DELIVERING:
        await supervise.advance(tx, received.case, Event.DELIVERED, actor=Actor.SYSTEM, by=by, source=SOURCE, now=now)


def facts_of(call: GetLicense, wire: ZoneInfo) -> OrderFacts:
    """What the call tells of its order line. Raises InvalidParameter."""
    period = period_of(call.period_type, 1 if call.period_number is None else call.period_number)
    estimate: Instant | None = None if call.expire_time is None else expire_time(call.expire_time, wire)
    return OrderFacts(
        order_id=call.order_id,
        order_type=OrderType.NEW,
        marketplace_product_id=call.product_id,
        sku_code=call.sku_code,
        # Only period products carry an expiry or a period (spec §2.2), but both are optional: order/query knows better.
        presumed_one_time=True if period is None and estimate is None else None,
        period=period,
        amount=call.amount,
        expiry_estimate=estimate,
        instance_id=call.business_id,
        identification_code=identification_code(call.saas_extend_params),
    )


def expire_time(text: str, wire: ZoneInfo) -> Instant:
    """Read the field `expireTime`. Raises InvalidParameter, which names it."""
    try:
        return parse_stamp(text, wire)
    except InvalidParameter as error:
        raise InvalidParameter(f"expireTime: {error.message}") from None
