"""`acceptanceTime` (spec §2.3): the marketplace tells, with a repeated newInstance, that and when the buyer has accepted.

In: the stamp, and the case of the line it came with. Out: the call itself (web/callbacks, services of each call).
"""

from zoneinfo import ZoneInfo

from licensesvc.domain.errors import DomainError, InvalidParameter
from licensesvc.domain.instants import Instant, parse_stamp
from licensesvc.domain.supervision import ENDS, Event, Source
from licensesvc.services.confirm_supervision import Confirmed, Outcome, confirm_locked
from licensesvc.services.runtime import Runtime
from licensesvc.storage import licenses, supervision
from licensesvc.storage.port import Tx


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


async def confirm_acceptance(tx: Tx, rt: Runtime, line_ref: int, accepted_at: Instant, *, by: str) -> Outcome | None:
    """Record that the buyer has accepted this order line, confirmed by the marketplace; None = the line has no case.

    The same call again changes nothing, nor does one that comes after the case has ended: the marketplace repeats its calls. To be called
    behind `receive_line` in its transaction, or in one of its own. Raises InvalidParameter for a time in the future.
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
