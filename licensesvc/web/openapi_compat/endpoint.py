"""The frame around every call of the compatible API: checks in the gateway's order, answers in its words (spec §11.3).

405 method · 400 body too large · 401 signature (the gateway's envelope) · 415 content type · 400 unreadable, then invalid ·
the call's own codes. Plain ASGI: these are the hottest routes of the server, and their errors are not ours to shape.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import structlog
from litestar.types import HTTPScope, Receive, Scope, Send

from licensesvc.domain import errors
from licensesvc.domain.errors import DomainError
from licensesvc.marketplace.huawei import aksk, openapi
from licensesvc.marketplace.huawei.openapi import OpenApiFault
from licensesvc.marketplace.huawei.result_codes import OpenApiCode, gateway_error
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.services.authenticate_software import Caller, SoftwareGate
from licensesvc.services.runtime import Runtime
from licensesvc.storage.port import StorageError
from licensesvc.web.asgi import BodyTooLarge, ClientGone, answer, client_address, only_http, read_body

MAX_BODY_BYTES: Final = 64 * 1024

Call = Callable[[Caller, bytes], Awaitable[bytes]]
"""What one endpoint does with an authenticated body; returns the body of a success."""

_log = structlog.get_logger(__name__)

_JSON: Final = [(b"content-type", b"application/json;charset=UTF-8")]
_CODES: Final[Mapping[type[DomainError], OpenApiCode]] = {
    errors.InvalidParameter: OpenApiCode.INVALID_PARAM,
    errors.IllegalLicenseState: OpenApiCode.ILLEGAL_STATE,
    errors.LicenseNotClaimed: OpenApiCode.NOT_CLAIMED,
    errors.LicenseNotFound: OpenApiCode.UNKNOWN_CODE,
    errors.LicenseNotActivated: OpenApiCode.NOT_ACTIVATED,
}


class CompatibleEndpoint:
    """One URI of the compatible API as an ASGI application."""

    def __init__(self, rt: Runtime, gate: SoftwareGate, call: Call) -> None:
        self._rt = rt
        self._gate = gate
        self._call = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing that a client sends makes this raise."""
        http = await only_http(scope, send)
        if http is None:
            return
        try:
            status, body = await self._serve(http, receive)
        except ClientGone:
            return
        await answer(send, status, body, _JSON)

    async def _serve(self, scope: HTTPScope, receive: Receive) -> tuple[int, bytes]:
        if scope["method"] != "POST":
            return openapi.failure(OpenApiCode.METHOD_NOT_SUPPORTED)
        try:
            body = await read_body(receive, MAX_BODY_BYTES)
            caller = await self._authenticate(scope, body)
            if not _is_json(scope):
                return openapi.failure(OpenApiCode.CONTENT_TYPE_NOT_SUPPORTED)
            return 200, await self._call(caller, body)
        except ClientGone:
            raise
        except BodyTooLarge:
            return openapi.failure(OpenApiCode.BAD_REQUEST)
        except SignatureRefused as refused:
            return gateway_error(refused.reason, self._rt.entropy(16).hex())
        except OpenApiFault as fault:
            return openapi.failure(fault.error_code)
        except DomainError as no:
            return openapi.failure(_CODES.get(type(no), OpenApiCode.INTERNAL_ERROR))
        except StorageError as error:
            _log.warning("storage_failed", error=str(error))
            return openapi.failure(OpenApiCode.INTERNAL_ERROR)
        except Exception:  # noqa: BLE001 - a client of the marketplace knows this code, not a problem document
            _log.exception("compatible_call_failed", path=scope["path"])
            return openapi.failure(OpenApiCode.INTERNAL_ERROR)

    async def _authenticate(self, scope: HTTPScope, body: bytes) -> Caller:
        signed = aksk.parse_request("POST", scope["raw_path"], scope["query_string"], list(scope["headers"]))
        return await self._gate.authenticate(signed, body, client_address(scope))


def _is_json(scope: HTTPScope) -> bool:
    for name, value in scope["headers"]:
        if name == b"content-type":
            return value.partition(b";")[0].strip().lower() == b"application/json"
    return False
