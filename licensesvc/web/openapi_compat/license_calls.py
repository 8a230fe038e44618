"""Putting license codes into service and asking for them (spec §§1.3, 1.4)."""

from datetime import UTC
from typing import Final

from licensesvc.domain.connection import Connection
from licensesvc.domain.instants import DAY, LAST_INSTANT, Instant, format_stamp, parse_stamp
from licensesvc.domain.license import PERPETUAL_WIRE_EXPIRY, ExpirySource
from licensesvc.marketplace.huawei import openapi
from licensesvc.marketplace.huawei.openapi import ActivateRequest, HeartbeatRequest
from licensesvc.services.activate import Activate, activate
from licensesvc.services.authenticate_software import Caller
from licensesvc.services.heartbeat import Heartbeat, heartbeat
from licensesvc.services.issue_license import code_index
from licensesvc.services.runtime import Runtime
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.web.openapi_compat.endpoint import Answered, Call
from licensesvc.web.openapi_compat.words import LICENSE_WORDS

LAST_ON_THE_WIRE: Final[Instant] = LAST_INSTANT - DAY
"""Whoever means "for ever" enters the last instant there is; in zones ahead of UTC it lies beyond the year 9999."""


def license_calls(rt: Runtime) -> list[Call]:
    """Activation and query."""

    async def v1_activate(caller: Caller, request: ActivateRequest) -> Answered:
        command = Activate(
            code_index=code_index(rt, request.license),
            connection_id=caller.connection.id,
            product_id=caller.product_id,
            calendar=caller.connection.calendar,
            # UTC whatever the zone of the connection: the documentation says so of this field alone (spec §1.3).
            real_effect_time=parse_stamp(request.real_effect_time, UTC) if request.real_effect_time else None,
            now=rt.clock(),
            actor=caller.public_id,
        )
        loaded = await rt.db.submit(activate, command)
        return Answered(
            openapi.activate_success(
                status="ALIVE",
                expire_time=_expire_time(caller.connection, loaded),
                product_id=loaded.marketplace_product_id,
                amount=_amount(loaded),
                order_id=loaded.order_id,
            )
        )

    async def v1_heartbeat(caller: Caller, request: HeartbeatRequest) -> Answered:
        command = Heartbeat(
            code_index=code_index(rt, request.license),
            connection_id=caller.connection.id,
            product_id=caller.product_id,
            now=rt.clock(),
        )
        beat = await rt.db.submit(heartbeat, command)
        loaded = beat.license
        return Answered(
            openapi.heartbeat_success(
                license_code=request.license,
                status=beat.status,
                activate_time=_stamp(caller.connection, loaded.view.activated_at),
                expire_time=_expire_time(caller.connection, loaded),
                product_id=loaded.marketplace_product_id,
                order_id=loaded.order_id,
                amount=_amount(loaded),
            )
        )

    return [
        Call(path="/v1/license/activate", read=openapi.parse_activate, decide=v1_activate, words=LICENSE_WORDS),
        Call(path="/v1/license/heartbeat", read=openapi.parse_heartbeat, decide=v1_heartbeat, words=LICENSE_WORDS),
    ]


def _expire_time(connection: Connection, loaded: LoadedLicense) -> str:
    if loaded.view.expiry_source is ExpirySource.PERPETUAL:
        return PERPETUAL_WIRE_EXPIRY
    return _stamp(connection, loaded.view.expires_at)


def _stamp(connection: Connection, instant: Instant | None) -> str:
    return format_stamp(min(instant, LAST_ON_THE_WIRE), connection.wire) if instant is not None else ""


def _amount(loaded: LoadedLicense) -> int:
    """An order that names no quantity bought one (docs/marketplace-divergences.md)."""
    return 1 if loaded.amount is None else loaded.amount
