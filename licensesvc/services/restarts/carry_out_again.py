"""A kept callback through the same doors as a live one, but for what proves its sender: that was proven when it came."""

from typing import Final

import msgspec
import structlog

from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import DomainError
from licensesvc.marketplace.huawei import callbacks
from licensesvc.marketplace.huawei.callbacks import Call
from licensesvc.marketplace.huawei.result_codes import CallbackCode
from licensesvc.marketplace.huawei.wire import query_parameters
from licensesvc.services.calls.receive_call import RESULT_CODES, receive_call
from licensesvc.services.interface_messages import is_body
from licensesvc.services.runtime import Runtime
from licensesvc.storage.port import StorageError

SOURCE: Final = "restart"

_log: Final = structlog.get_logger(__name__)


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The result code and the body that the marketplace would have been answered; `detail` is ours alone."""

    outcome: str
    body: bytes
    detail: str | None = None

    def __repr__(self) -> str:
        return f"Answered({self.outcome})"


async def carry_out_again(rt: Runtime, connection: Connection, content: bytes, *, by: str) -> Answered:
    """Carry out the call; what it refuses is its answer. No nonce is used up: the kept one is spent."""
    try:
        received = await receive_call(rt, connection, _parse(content), nonce=None, by=by, source=SOURCE)
    except DomainError as error:
        return _refused(RESULT_CODES.get(type(error), CallbackCode.INTERNAL_ERROR), error.message)
    except StorageError as error:
        return _refused(CallbackCode.INTERNAL_ERROR, str(error))
    except Exception as error:  # noqa: BLE001 - as a live call: a fault of ours is an answer, and its restart is recorded
        _log.exception("restart_failed")
        return _refused(CallbackCode.INTERNAL_ERROR, type(error).__name__)
    return Answered(outcome=CallbackCode.SUCCESS, body=received.body, detail=received.note)


def _parse(content: bytes) -> Call:
    return callbacks.parse_v2(content) if is_body(content) else callbacks.parse_v1(query_parameters(content))


def _refused(code: CallbackCode, detail: str) -> Answered:
    return Answered(outcome=code, body=callbacks.result(code, detail), detail=detail)
