"""The order notification (spec §2.5): store that the order must be asked for; the asking happens from the outbox."""

from typing import Final

import msgspec

from licensesvc.domain.connection import Connection
from licensesvc.marketplace.huawei.callbacks import OrderNotify
from licensesvc.services.runtime import Runtime
from licensesvc.storage import outbox
from licensesvc.storage.port import Tx

OUTBOX_KIND: Final = "order_query"


class OrderQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What the outbox keeps of a notification: which order to ask for."""

    connection: str
    order_id: str
    order_line_id: str | None


async def queue_query(tx: Tx, rt: Runtime, connection: Connection, call: OrderNotify) -> None:
    """Queue order/query for the order."""
    query = OrderQuery(connection=connection.public_id, order_id=call.order_id, order_line_id=call.order_line_id)
    payload = msgspec.json.encode(query).decode()
    await outbox.add(tx, kind=OUTBOX_KIND, subject=call.order_id, payload=payload, now=rt.clock())
