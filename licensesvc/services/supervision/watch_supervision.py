"""What is due in supervision cases: loads what the deadlines of the domain count from."""

from collections.abc import Sequence

from licensesvc.domain.instants import Instant
from licensesvc.domain.supervision_deadlines import Due, Terms, deadlines
from licensesvc.storage import acceptance, connections, licenses, orders
from licensesvc.storage.port import Tx
from licensesvc.storage.supervision import StoredCase


async def due_of(tx: Tx, cases: Sequence[StoredCase], now: Instant) -> dict[int, list[Due]]:
    """Everything that is due in these cases, soonest first, by internal id of the case."""
    return {case.id: deadlines(case.flow, case.state, await full_terms_of(tx, case), now) for case in cases}


async def full_terms_of(tx: Tx, case: StoredCase) -> Terms:
    """Everything that the deadlines of a case count from."""
    connection = (await connections.by_id(tx, case.connection_id)).connection
    line = await orders.line_by_id(tx, case.line_ref)
    standard = await acceptance.standard_of(tx, line.product_id, case.standard_version)
    loaded = await licenses.by_line(tx, case.line_ref)
    freeze = {}
    if loaded is not None and loaded.view.frozen_at is not None:
        policy = await licenses.policy_of(tx, loaded.view.id)
        freeze = {"frozen_at": loaded.view.frozen_at, "freeze_days": policy.freeze_days}
    return Terms(
        ordered_at=line.terms.ordered_at,
        calendar=connection.calendar,
        delivery_days=standard.delivery_days,
        **freeze,
    )
