"""The marketplace's License open API as the sandbox serves it (spec §§1.3–1.5): activate, query, usage, one by one and in lists.

In: the gateway's checks in their order, then one function for each call. Out: the codes' rules (`codes`), order/query (`app`).
"""

import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any, Final, TypeAlias

from litestar import Request, Response, Router, post
from litestar.di import NamedDependency
from litestar.handlers import HTTPRouteHandler

from licensesvc.domain.instants import Instant, format_stamp, parse_stamp, to_datetime, zone_of
from licensesvc.domain.license import PERPETUAL_WIRE_EXPIRY
from licensesvc.marketplace.huawei import openapi, usage
from licensesvc.marketplace.huawei.openapi import LicenseInfo, OpenApiFault
from licensesvc.marketplace.huawei.result_codes import OpenApiCode, gateway_error
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.sandbox import codes
from licensesvc.sandbox.codes import Code
from licensesvc.sandbox.gateway import Gateway
from licensesvc.sandbox.outage import Outage
from licensesvc.sandbox.state import State

ROOT: Final = "/api/mkp-openapi-public/global"
MAX_USAGE_BODY: Final = 4 * 1024 * 1024

_DAYS_IN: Final = zone_of("Asia/Shanghai")
"""The zone whose days usage is counted by [I]."""

Answered: TypeAlias = tuple[int, bytes]


class OpenApi:
    """What the calls do; usage by code and day lasts as long as the process."""

    def __init__(self, state: State, clock: Callable[[], Instant]) -> None:
        self._state = state
        self._clock = clock
        self._clients: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._largest: dict[tuple[str, str], int] = {}

    def usage(self) -> list[dict[str, Any]]:
        """What was counted: distinct clients and the largest number told, by code and day."""
        keys = sorted(self._clients.keys() | self._largest.keys())
        return [
            {"license": key[0], "day": key[1], "clients": len(self._clients[key]), "active_num": self._largest.get(key)}
            for key in keys
        ]

    def activate(self, body: bytes) -> Answered:
        """v1: one code (spec §1.3)."""
        request = openapi.parse_activate(body)
        code = self._activated(request.license, request.real_effect_time)
        self._state.put_code(code)
        return 200, openapi.activate_success(
            status="ALIVE",
            expire_time=_stamp(code.expires_at),
            product_id=code.product_id,
            amount=code.amount,
            order_id=code.order_id,
        )

    def activate_all(self, body: bytes) -> Answered:
        """v2: all codes or none (spec §1.3)."""
        request = openapi.parse_activate_all(body)
        try:
            activated = [self._activated(code, request.real_effect_time) for code in request.license_list]
        except OpenApiFault as fault:
            listed = OpenApiCode.INVALID_CODE_IN_LIST
            return openapi.failure(listed if fault.error_code is not OpenApiCode.INVALID_PARAM else fault.error_code)
        for code in activated:
            self._state.put_code(code)
        return 200, openapi.activate_all_success()

    def query(self, body: bytes) -> Answered:
        """v1 (spec §1.4)."""
        request = openapi.parse_heartbeat(body)
        code = self._queried(request.license)
        if request.third_party_account is not None:
            self._clients[code.code, self._day()].add(request.third_party_account)
        return 200, openapi.heartbeat_success(self._info(code))

    def query_all(self, body: bytes) -> Answered:
        """v2 (spec §1.4 [I])."""
        request = openapi.parse_heartbeat_all(body)
        try:
            found = [self._queried(code) for code in request.license_list]
        except OpenApiFault:
            return openapi.failure(OpenApiCode.INVALID_CODE_IN_LIST)
        return 200, openapi.heartbeat_all_success([self._info(code) for code in found])

    def report(self, body: bytes) -> Answered:
        """software-usage-info (spec §1.5)."""
        failed = []
        for said in usage.parse_usage(body).usage_info:
            code = self._state.codes.get(said.license)
            if code is None or code.activated_at is None or code.released_at is not None:
                failed.append(said.license)
                continue
            key = (said.license, self._day())
            self._clients[key] |= said.clients
            if said.active_num is not None:
                self._largest[key] = max(said.active_num, self._largest.get(key, 0))
        return 200, usage.usage_success(list(dict.fromkeys(failed)))

    def _activated(self, license_code: str, real_effect_time: str | None) -> Code:
        code = self._state.codes.get(license_code)
        order = self._state.orders.get(code.order_id) if code else None
        effect = parse_stamp(real_effect_time, UTC) if real_effect_time else None
        return codes.activate(code, effect, order.created_at if order else None, self._clock())

    def _queried(self, license_code: str) -> Code:
        code = codes.query(self._state.codes.get(license_code), self._clock())
        self._state.put_code(code)
        return code

    def _info(self, code: Code) -> LicenseInfo:
        return LicenseInfo(
            license_code=code.code,
            status=code.state(self._clock()),
            activate_time=_stamp(code.activated_at) if code.activated_at is not None else "",
            expire_time=_stamp(code.expires_at),
            product_id=code.product_id,
            order_id=code.order_id,
            amount=code.amount,
        )

    def _day(self) -> str:
        return str(to_datetime(self._clock(), _DAYS_IN).date())


_CALLS: Final[Mapping[str, Callable[[OpenApi, bytes], Answered]]] = {
    "/v1/license/activate": OpenApi.activate,
    "/v2/license/activate": OpenApi.activate_all,
    "/v1/license/heartbeat": OpenApi.query,
    "/v2/license/heartbeat": OpenApi.query_all,
    "/v2/license/software-usage-info": OpenApi.report,
}


def open_api_router() -> Router:
    """The five calls behind the gateway; the application provides `gateway`, `open_api` and `outage`."""
    return Router(ROOT, route_handlers=[_route(path) for path in _CALLS], request_max_body_size=MAX_USAGE_BODY)


def _route(path: str) -> HTTPRouteHandler:
    carry_out = _CALLS[path]

    @post(path, status_code=200)
    async def call(
        request: Request[Any, Any, Any],
        gateway: NamedDependency[Gateway],
        open_api: NamedDependency[OpenApi],
        outage: NamedDependency[Outage],
    ) -> Response[bytes]:
        if (away := await outage.refusal()) is not None:
            return away
        scope, body = request.scope, await request.body()
        try:
            gateway.admit(scope["method"], scope["raw_path"], scope["query_string"], list(scope["headers"]), body)
        except SignatureRefused as error:
            return answer(*gateway_error(error.reason, secrets.token_hex(16)))
        if request.content_type[0] != "application/json":
            return answer(*openapi.failure(OpenApiCode.CONTENT_TYPE_NOT_SUPPORTED))
        try:
            return answer(*carry_out(open_api, body))
        except OpenApiFault as fault:
            return answer(*openapi.failure(fault.error_code))

    return call


def answer(status: int, body: bytes) -> Response[bytes]:
    """An answer of the open API."""
    return Response(body, status_code=status, media_type="application/json;charset=UTF-8")


def _stamp(instant: Instant | None) -> str:
    return PERPETUAL_WIRE_EXPIRY if instant is None else format_stamp(instant, UTC)
