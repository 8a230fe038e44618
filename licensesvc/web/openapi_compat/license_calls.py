"""Putting license codes into service and asking for them (spec §§1.3, 1.4)."""

from datetime import UTC

from licensesvc.domain.connection import Connection
from licensesvc.domain.instants import Instant, parse_stamp, wire_stamp
from licensesvc.domain.license import PERPETUAL_WIRE_EXPIRY, ExpirySource
from licensesvc.domain.usage import day_of
from licensesvc.marketplace.huawei import openapi
from licensesvc.marketplace.huawei.openapi import (
    ActivateAllRequest,
    ActivateRequest,
    HeartbeatAllRequest,
    HeartbeatRequest,
    LicenseInfo,
)
from licensesvc.services.access.authenticate_software import Caller
from licensesvc.services.licenses.activate import Activate, ActivateAll, activate, activate_all
from licensesvc.services.licenses.heartbeat import Beat, Client, Heartbeat, HeartbeatAll, heartbeat, heartbeat_all
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.licenses.report_usage import client_index
from licensesvc.services.runtime import Runtime
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.web.openapi_compat.endpoint import Answered, Call
from licensesvc.web.openapi_compat.words import LICENSE_WORDS


def license_calls(rt: Runtime) -> list[Call]:
    """Activation and query."""

    async def v1_activate(caller: Caller, request: ActivateRequest) -> Answered:
        command = Activate(
            code_index=code_index(rt, request.license),
            connection_id=caller.connection.id,
            product_id=caller.product_id,
            calendar=caller.connection.calendar,
            real_effect_time=_stated(request.real_effect_time),
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

    async def v2_activate(caller: Caller, request: ActivateAllRequest) -> Answered:
        command = ActivateAll(
            code_indexes=tuple([code_index(rt, code) for code in request.license_list]),
            connection_id=caller.connection.id,
            product_id=caller.product_id,
            calendar=caller.connection.calendar,
            real_effect_time=_stated(request.real_effect_time),
            now=rt.clock(),
            actor=caller.public_id,
        )
        await rt.db.submit(activate_all, command)
        return Answered(openapi.activate_all_success())

    async def v1_heartbeat(caller: Caller, request: HeartbeatRequest) -> Answered:
        now = rt.clock()
        command = Heartbeat(
            code_index=code_index(rt, request.license),
            named=request.license,
            connection_id=caller.connection.id,
            product_id=caller.product_id,
            now=now,
            client=_client(rt, caller, request.third_party_account, now) if request.third_party_account else None,
        )
        beat = await rt.db.submit(heartbeat, command)
        return Answered(openapi.heartbeat_success(license_info(caller.connection, request.license, beat)))

    async def v2_heartbeat(caller: Caller, request: HeartbeatAllRequest) -> Answered:
        command = HeartbeatAll(
            code_indexes=tuple([code_index(rt, code) for code in request.license_list]),
            connection_id=caller.connection.id,
            product_id=caller.product_id,
            now=rt.clock(),
        )
        beats = await rt.db.submit(heartbeat_all, command)
        infos = [
            license_info(caller.connection, code, beat) for code, beat in zip(request.license_list, beats, strict=True)
        ]
        return Answered(openapi.heartbeat_all_success(infos))

    return [
        Call(path="/v1/license/activate", read=openapi.parse_activate, decide=v1_activate, words=LICENSE_WORDS),
        Call(path="/v2/license/activate", read=openapi.parse_activate_all, decide=v2_activate, words=LICENSE_WORDS),
        Call(path="/v1/license/heartbeat", read=openapi.parse_heartbeat, decide=v1_heartbeat, words=LICENSE_WORDS),
        Call(path="/v2/license/heartbeat", read=openapi.parse_heartbeat_all, decide=v2_heartbeat, words=LICENSE_WORDS),
    ]


def _stated(real_effect_time: str | None) -> Instant | None:
    """UTC whatever the zone of the connection: the documentation says so of this field alone (spec §1.3)."""
    return parse_stamp(real_effect_time, UTC) if real_effect_time else None


def _client(rt: Runtime, caller: Caller, account: str, now: Instant) -> Client:
    day = day_of(now, caller.connection.calendar)
    return Client(index=client_index(rt, day, account), day=day)


def license_info(connection: Connection, code: str, beat: Beat) -> LicenseInfo:
    """What we say of a license ourselves."""
    loaded = beat.license
    return LicenseInfo(
        license_code=code,
        status=beat.status,
        activate_time=_stamp(connection, loaded.view.activated_at),
        expire_time=_expire_time(connection, loaded),
        product_id=loaded.marketplace_product_id,
        order_id=loaded.order_id,
        amount=_amount(loaded),
    )


def _expire_time(connection: Connection, loaded: LoadedLicense) -> str:
    if loaded.view.expiry_source is ExpirySource.PERPETUAL:
        return PERPETUAL_WIRE_EXPIRY
    return _stamp(connection, loaded.view.expires_at)


def _stamp(connection: Connection, instant: Instant | None) -> str:
    return wire_stamp(instant, connection.wire) if instant is not None else ""


def _amount(loaded: LoadedLicense) -> int:
    """An order that names no quantity bought one (docs/marketplace-divergences.md)."""
    return 1 if loaded.amount is None else loaded.amount
