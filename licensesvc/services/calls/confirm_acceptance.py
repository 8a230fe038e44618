"""`acceptanceTime` (spec §2.3): the marketplace tells, with a repeated newInstance, that and when the buyer has accepted.

In: the stamp, and the line it came with. Out: the call itself (web/callbacks, receive_call.py).
"""

from zoneinfo import ZoneInfo

import msgspec

from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import DomainError, InvalidParameter
from licensesvc.domain.instants import Instant, parse_stamp
from licensesvc.domain.supervision import ENDS, Event, Source
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.confirm_supervision import Confirmed, Outcome, confirm_locked
from licensesvc.storage import licenses, orders, supervision
from licensesvc.storage.port import Tx


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """What newInstance is answered about a line: the id that getLicense gave it, else our own of the line."""

    id: str


def acceptance_time(stamp: str | None, wire: ZoneInfo) -> Instant | None:
    """Read `acceptanceTime` (`yyyyMMddHHmmssSSS`, UTC unless the connection says otherwise); None where the call has none.

    Raises InvalidParameter for a stamp that is none.
    """
    if not stamp:
        return None
    try:
        return parse_stamp(stamp, wire)
    except InvalidParameter as error:
        raise InvalidParameter(f"acceptanceTime: {error.message}") from None


async def confirm_acceptance(
    tx: Tx, rt: Runtime, connection: Connection, order_id: str, line_id: str, accepted_at: Instant | None, *, by: str
) -> Instance:
    """Record that the buyer has accepted this order line, confirmed by the marketplace, where the call says so.

    Raises InvalidParameter for a line that we do not know, for no instances are opened here, and for a time in the future.
    """
    order = await orders.find(tx, connection.id, order_id)
    line = None if order is None else await orders.find_line(tx, order.id, line_id)
    if line is None:
        raise InvalidParameter("newInstance is taken for order lines that are known; this server opens no instances")
    if accepted_at is not None:
        await confirm_line(tx, rt, line.id, accepted_at, by=by)
    return Instance(id=line.instance_id or line.public_id)


async def confirm_line(tx: Tx, rt: Runtime, line_ref: int, accepted_at: Instant, *, by: str) -> Outcome | None:
    """Record that the buyer has accepted this order line, confirmed by the marketplace; None = the line has no case.

    The same call again changes nothing, nor does one that comes after the case has ended: the marketplace repeats its calls. Raises InvalidParameter for a time in the future.
    """
    await licenses.by_line(tx, line_ref, lock=True)
    case = (await supervision.of_lines(tx, [line_ref])).get(line_ref)
    if case is None:
        return None
    if case.node in ENDS and case.state.acceptance_confirmed_at is not None:
        return Outcome(case=case, confirmed=Confirmed.KNOWN)
    try:
        return await confirm_locked(tx, rt, case, Event.ACCEPTED, at=accepted_at, by=by, source=Source.MARKETPLACE)
    except InvalidParameter:
        raise
    except DomainError:  # the case was refunded: a call about what was before changes nothing
        return Outcome(case=case, confirmed=Confirmed.KNOWN)
