"""The order notification (spec §2.5): store that the order must be asked for; the asking happens from the outbox."""

from typing import Final

import msgspec

from licensesvc.domain.connection import Connection
from licensesvc.domain.instants import SECOND
from licensesvc.marketplace.huawei.callbacks import OrderNotify
from licensesvc.marketplace.huawei.signature_v2 import V2Call
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.services.runtime import Runtime
from licensesvc.storage import messages, outbox
from licensesvc.storage.port import Tx

OUTBOX_KIND: Final = "order_query"
NONCE_LIFE: Final = 180 * SECOND
"""Longer than a signature is fresh (±60 s), so a nonce is remembered for as long as it could be replayed."""


class OrderQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What the outbox keeps of a notification: which order to ask for."""

    connection: str
    order_id: str
    order_line_id: str | None


async def notify_order(rt: Runtime, connection: Connection, verified: V2Call, call: OrderNotify) -> None:
    """Queue order/query; the nonce commits with it, so a replay anywhere raises SignatureRefused. Test calls queue nothing."""
    await rt.db.write(lambda tx: _queue(tx, rt, connection, verified, call))


async def _queue(tx: Tx, rt: Runtime, connection: Connection, verified: V2Call, call: OrderNotify) -> None:
    now = rt.clock()
    if not await messages.use_nonce(tx, connection.id, verified.nonce, now=now, expires_at=now + NONCE_LIFE):
        raise SignatureRefused("nonce was used before")
    if call.test:
        return
    query = OrderQuery(connection=connection.public_id, order_id=call.order_id, order_line_id=call.order_line_id)
    await outbox.add(tx, kind=OUTBOX_KIND, subject=call.order_id, payload=msgspec.json.encode(query).decode(), now=now)
