"""The calls of the marketplace's open API as the sandbox serves them (spec §§1.3–1.6): activate, query, usage, order/query.

In: one function for each call, and the table of them. Out: the frame around them (`endpoint`), the codes' rules (`codes`).
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Final

import msgspec
from litestar.handlers import ASGIRouteHandler, asgi

from licensesvc.domain.instants import Instant, format_stamp, parse_stamp, to_datetime, zone_of
from licensesvc.domain.license import PERPETUAL_WIRE_EXPIRY
from licensesvc.domain.order import default_line_id
from licensesvc.domain.usage import MAX_CLIENTS_A_DAY
from licensesvc.marketplace.huawei import openapi, usage
from licensesvc.marketplace.huawei.client import ORDER_QUERY_PATH
from licensesvc.marketplace.huawei.openapi import LicenseInfo, OpenApiFault
from licensesvc.marketplace.huawei.orders import OrderInfo, order_answer, order_failure
from licensesvc.marketplace.huawei.orders_mock import MOCK_ORDERS
from licensesvc.marketplace.huawei.result_codes import OpenApiCode, OrderCode
from licensesvc.marketplace.huawei.wire import SignatureRefused, query_parameters
from licensesvc.sandbox import codes
from licensesvc.sandbox.codes import Code
from licensesvc.sandbox.endpoint import MAX_BODY_BYTES, Answered, Call, Endpoint
from licensesvc.sandbox.gateway import Gateway
from licensesvc.sandbox.orders import PlacedOrder, order_info
from licensesvc.sandbox.outage import Outage
from licensesvc.sandbox.state import State

ROOT: Final = "/api/mkp-openapi-public/global"
MAX_USES: Final = 10_000
"""Counts that are kept, one for each code and day; beyond, the oldest is forgotten."""

_DAYS_IN: Final = zone_of("Asia/Shanghai")
"""The zone whose days usage is counted by [I]."""
_QUERY_ID: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """How many distinct clients used a code on a day in Beijing, and the largest number that was stated."""

    license: str
    day: str
    clients: int
    active_num: int | None


class _Day:
    """What was reported of one code on one day."""

    def __init__(self) -> None:
        self.clients: set[str] = set()
        self.active_num: int | None = None


class OpenApi:
    """What the calls do; usage by code and day lasts as long as the process."""

    def __init__(self, state: State, clock: Callable[[], Instant]) -> None:
        self._state = state
        self._clock = clock
        self._uses: dict[tuple[str, str], _Day] = {}

    def usage(self) -> list[Use]:
        """What was counted, by code and day."""
        return [
            Use(license=key[0], day=key[1], clients=len(use.clients), active_num=use.active_num)
            for key, use in sorted(self._uses.items())
        ]

    def activate(self, body: bytes) -> Answered:
        """v1: one code (spec §1.3)."""
        request = openapi.parse_activate(body)
        code = self._activated(request.license, request.real_effect_time)
        self._state.put(codes=[code])
        return 200, openapi.activate_success(
            status=code.state(self._clock()),
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
            raise OpenApiFault(fault.error_code if fault.error_code is OpenApiCode.INVALID_PARAM else listed) from None
        self._state.put(codes=activated)
        return 200, openapi.activate_all_success()

    def query(self, body: bytes) -> Answered:
        """v1 (spec §1.4); what older software tells of its user counts as usage."""
        request = openapi.parse_heartbeat(body)
        code = self._queried(request.license)
        self._state.put(codes=[code])
        if request.third_party_account is not None:
            self._count(code.code, frozenset({request.third_party_account}), None)
        return 200, openapi.heartbeat_success(self._info(code))

    def query_all(self, body: bytes) -> Answered:
        """v2 (spec §1.4 [I])."""
        request = openapi.parse_heartbeat_all(body)
        try:
            found = [self._queried(code) for code in request.license_list]
        except OpenApiFault:
            raise OpenApiFault(OpenApiCode.INVALID_CODE_IN_LIST) from None
        self._state.put(codes=found)
        return 200, openapi.heartbeat_all_success([self._info(code) for code in found])

    def report(self, body: bytes) -> Answered:
        """software-usage-info (spec §1.5); a code that is not in service is listed as failed [I]."""
        failed: dict[str, None] = {}
        for said in usage.parse_usage(body).usage_info:
            code = self._state.codes.get(said.license)
            if code is None or code.activated_at is None or code.released_at is not None:
                failed[said.license] = None
            else:
                self._count(said.license, said.clients, said.active_num)
        return 200, usage.usage_success(list(failed))

    def query_order(self, query: bytes) -> Answered:
        """order/query (spec §1.6): the nine mock orders and the placed ones."""
        found = _find_order(query, self._state.orders)
        return order_failure(found) if isinstance(found, OrderCode) else (200, order_answer(found))

    def _activated(self, license_code: str, real_effect_time: str | None) -> Code:
        code = self._state.codes.get(license_code)
        purchase = self._state.orders.get(code.order_id) if code else None
        effect = parse_stamp(real_effect_time, UTC) if real_effect_time else None
        return codes.activate(code, effect, purchase, self._clock())

    def _queried(self, license_code: str) -> Code:
        return codes.query(self._state.codes.get(license_code), self._clock())

    def _count(self, code: str, clients: frozenset[str], active_num: int | None) -> None:
        use = self._uses.setdefault((code, str(to_datetime(self._clock(), _DAYS_IN).date())), _Day())
        use.clients.update(sorted(clients - use.clients)[: MAX_CLIENTS_A_DAY - len(use.clients)])
        if active_num is not None:
            use.active_num = max(active_num, use.active_num or 0)
        if len(self._uses) > MAX_USES:
            del self._uses[next(iter(self._uses))]

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


_LICENSE_CALLS: Final[Mapping[str, Callable[[OpenApi, bytes], Answered]]] = {
    "/v1/license/activate": OpenApi.activate,
    "/v2/license/activate": OpenApi.activate_all,
    "/v1/license/heartbeat": OpenApi.query,
    "/v2/license/heartbeat": OpenApi.query_all,
    "/v2/license/software-usage-info": OpenApi.report,
}


def open_api_routes(api: OpenApi, gateway: Gateway, outage: Outage) -> list[ASGIRouteHandler]:
    """The six calls behind the gateway."""
    calls = [
        Call(
            path=ROOT + path,
            carry_out=lambda body, carry_out=carry_out: carry_out(api, body),  # type: ignore[misc]
            internal_error=openapi.failure(OpenApiCode.INTERNAL_ERROR),
            body_limit=usage.MAX_BODY if carry_out is OpenApi.report else MAX_BODY_BYTES,
        )
        for path, carry_out in _LICENSE_CALLS.items()
    ]
    order = Call(
        path=ORDER_QUERY_PATH,
        method="GET",
        carry_out=api.query_order,
        internal_error=order_failure(OrderCode.INTERNAL_ERROR),
        token=order_failure(OrderCode.ILLEGAL_TOKEN),
    )
    return [asgi(call.path, copy_scope=False)(Endpoint(gateway, outage, call).__call__) for call in (*calls, order)]


def _find_order(query_string: bytes, placed: Mapping[str, PlacedOrder]) -> OrderInfo | OrderCode:
    try:
        parameters = query_parameters(query_string)
    except SignatureRefused:
        return OrderCode.INVALID_PARAMETER
    if not {"orderId"} <= parameters.keys() <= {"orderId", "orderLineId"}:
        return OrderCode.INVALID_PARAMETER
    if not all(_QUERY_ID.fullmatch(value) for value in parameters.values()):
        return OrderCode.INPUT_FAILURE
    order_id = parameters["orderId"]
    # An order that nobody placed is not this seller's: the documentation has no other code for it [I].
    if order_id not in MOCK_ORDERS and order_id not in placed:
        return OrderCode.ILLEGAL_OPERATION
    if parameters.get("orderLineId", default_line_id(order_id)) != default_line_id(order_id):
        return OrderCode.ILLEGAL_OPERATION
    return MOCK_ORDERS[order_id] if order_id in MOCK_ORDERS else order_info(placed[order_id])


def _stamp(instant: Instant | None) -> str:
    return PERPETUAL_WIRE_EXPIRY if instant is None else format_stamp(instant, UTC)
