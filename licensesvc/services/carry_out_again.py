"""A kept callback through the same doors as a live one, but for what proves its sender: that was proven when it came."""

from typing import Final

import msgspec
import structlog

from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import DomainError, InvalidParameter, NotIssuable, OrderConflict
from licensesvc.marketplace.huawei import callbacks
from licensesvc.marketplace.huawei.result_codes import CallbackCode
from licensesvc.marketplace.huawei.wire import query_parameters
from licensesvc.services.get_license import get_license
from licensesvc.services.notify_order import OUTBOX_KIND, OrderQuery
from licensesvc.services.runtime import Runtime
from licensesvc.storage import outbox
from licensesvc.storage.port import StorageError

_log: Final = structlog.get_logger(__name__)


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The result code and the body that the marketplace would have been answered; `detail` is ours alone."""

    outcome: str
    body: bytes
    detail: str | None = None

    def __repr__(self) -> str:
        return f"Answered({self.outcome})"


async def carry_out_again(rt: Runtime, connection: Connection, content: bytes) -> Answered:
    """Carry out the call; what it refuses is its answer."""
    try:
        return Answered(outcome=CallbackCode.SUCCESS, body=await _received(rt, connection, content))
    except (InvalidParameter, OrderConflict, NotIssuable) as error:
        return _refused(CallbackCode.INVALID_PARAMETER, error.message)
    except DomainError as error:
        return _refused(CallbackCode.INTERNAL_ERROR, error.message)
    except StorageError as error:
        return _refused(CallbackCode.INTERNAL_ERROR, str(error))


async def _received(rt: Runtime, connection: Connection, content: bytes) -> bytes:
    if content.lstrip().startswith(b"{"):
        call = callbacks.parse_order_notify(content)
        query = OrderQuery(connection=connection.public_id, order_id=call.order_id, order_line_id=call.order_line_id)
        payload = msgspec.json.encode(query).decode()
        await rt.db.write(
            lambda tx: outbox.add(tx, kind=OUTBOX_KIND, subject=call.order_id, payload=payload, now=rt.clock())
        )
        return callbacks.result(CallbackCode.SUCCESS)
    delivered = await get_license(rt, connection, callbacks.parse_get_license(query_parameters(content)))
    return callbacks.get_license_success(delivered.license, delivered.instance_id)


def _refused(code: CallbackCode, detail: str) -> Answered:
    return Answered(outcome=code, body=callbacks.result(code, detail), detail=detail)
