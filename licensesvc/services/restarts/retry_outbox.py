"""Gives work of the outbox that was given up another retry window, once an operator says so."""

import re
from typing import Final

from licensesvc.domain.audit import AuditEvent
from licensesvc.domain.errors import NotFound, NotRestartable
from licensesvc.services.runtime import Runtime
from licensesvc.storage import audit, outbox
from licensesvc.storage.outbox import ListedItem
from licensesvc.storage.port import Tx

_PREFIX: Final = "obx_"
_DIGITS: Final = 26
_ID: Final = re.compile(rf"{_PREFIX}0{{7}}(\d{{19}})", re.ASCII)


def public_id(item_id: int) -> str:
    """The name of an item outside: the number that it has inside, for work needs no identity of its own."""
    return f"{_PREFIX}{item_id:0{_DIGITS}}"


def item_id_of(name: str) -> int:
    """The number in a name. Raises NotFound."""
    found = _ID.fullmatch(name)
    if found is None or (number := int(found[1])) >= 2**63:
        raise NotFound
    return number


async def retry(tx: Tx, rt: Runtime, name: str, reason: str, *, by: str) -> ListedItem:
    """Try an item that was given up again. Raises NotFound, NotRestartable; of two operators at once one does it."""
    item_id = item_id_of(name)
    item = await outbox.by_id(tx, item_id)
    if item is None:
        raise NotFound
    now = rt.clock()
    if not await outbox.revive(tx, item_id, now):
        raise NotRestartable(f"it was not given up: it is {item.state.replace('_', ' ')}")
    event = AuditEvent(
        at=now,
        actor=by,
        kind="outbox.retried",
        subject=name,
        detail={"kind": item.kind, "about": item.subject, "reason": reason},
    )
    await audit.append(tx, [event])
    revived = await outbox.by_id(tx, item_id)
    assert revived is not None
    return revived
