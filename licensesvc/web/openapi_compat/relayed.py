"""Steps in between the caller and our own decision where a connection relays: the marketplace is asked first.

In: other `decide`s for the calls about codes. Out: when to ask and what to keep (`services/relay*`).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from licensesvc.domain.license import WireStatus
from licensesvc.domain.usage import day_of
from licensesvc.marketplace.huawei import openapi
from licensesvc.marketplace.huawei.answers import CodeFacts
from licensesvc.marketplace.huawei.openapi import (
    ActivateAllRequest,
    ActivateRequest,
    HeartbeatAllRequest,
    HeartbeatRequest,
    LicenseInfo,
)
from licensesvc.marketplace.huawei.usage import UsageRequest
from licensesvc.services.access.authenticate_software import Caller
from licensesvc.services.licenses.heartbeat import Beat, HeartbeatAll, heartbeat_all
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.licenses.report_usage import Report, report_usage
from licensesvc.services.relay.relay import RelayDesk, Relayed, relays
from licensesvc.services.relay.relay_lists import activate_list, query_list
from licensesvc.services.relay.relay_usage import Use, record_uses
from licensesvc.services.runtime import Runtime
from licensesvc.web.openapi_compat.endpoint import Answered, Call
from licensesvc.web.openapi_compat.license_calls import license_info

Decide: TypeAlias = Callable[[Caller, Any], Awaitable[Answered]]
_ALIVE: Final[WireStatus] = "ALIVE"

_NOTHING: Final = LicenseInfo(
    license_code="", status="", activate_time="", expire_time="", product_id="", order_id="", amount=1
)


class RelayedInfo(LicenseInfo, frozen=True, kw_only=True):
    """What a query tells of a code while the marketplace is not asked: our signed receipt comes with it."""

    receipt: str


def relayed(rt: Runtime, desk: RelayDesk, calls: list[Call]) -> list[Call]:
    """Put the relay before every call that it has a part in; callers whose connection does not relay pass it by."""
    steps = _Steps(rt, desk)
    by_path: Mapping[str, Callable[[Decide], Decide]] = {
        "/v1/license/activate": steps.activate,
        "/v2/license/activate": steps.activate_all,
        "/v1/license/heartbeat": steps.heartbeat,
        "/v2/license/heartbeat": steps.heartbeat_all,
    }
    stepped = []
    for call in calls:
        step = steps.usage if call.path.endswith("/software-usage-info") else by_path.get(call.path)
        stepped.append(msgspec.structs.replace(call, decide=_for_relays(step, call.decide)) if step else call)
    return stepped


def _for_relays(step: Callable[[Decide], Decide], ours: Decide) -> Decide:
    theirs = step(ours)

    async def decide(caller: Caller, request: Any) -> Answered:
        return await (theirs if relays(caller.connection) else ours)(caller, request)

    return decide


class _Steps:
    """For each call the decision that stands before `ours`."""

    def __init__(self, rt: Runtime, desk: RelayDesk) -> None:
        self._rt = rt
        self._desk = desk

    def activate(self, ours: Decide) -> Decide:
        async def decide(caller: Caller, request: ActivateRequest) -> Answered:
            answer = await self._desk.activate(caller, request.license, request.real_effect_time)
            if answer is None:
                return await ours(caller, request)
            info = _info(caller, request.license, answer)
            return Answered(
                openapi.activate_success(
                    status=_ALIVE,
                    expire_time=info.expire_time,
                    product_id=info.product_id,
                    amount=info.amount,
                    order_id=info.order_id,
                )
            )

        return decide

    def activate_all(self, ours: Decide) -> Decide:
        async def decide(caller: Caller, request: ActivateAllRequest) -> Answered:
            codes = request.license_list
            if not await activate_list(self._rt, self._desk, caller, codes, request.real_effect_time):
                return await ours(caller, request)
            return Answered(openapi.activate_all_success())

        return decide

    def heartbeat(self, ours: Decide) -> Decide:
        async def decide(caller: Caller, request: HeartbeatRequest) -> Answered:
            answer = await self._desk.query(caller, request.license)
            if answer is None:
                return await ours(caller, request)
            if request.third_party_account is not None and answer.license is not None:
                await self._count(caller, request.license, request.third_party_account)
            return Answered(openapi.heartbeat_success(_info(caller, request.license, answer)))

        return decide

    def heartbeat_all(self, ours: Decide) -> Decide:
        async def decide(caller: Caller, request: HeartbeatAllRequest) -> Answered:
            codes = request.license_list
            answers = await query_list(self._desk, caller, codes)
            own = {code for code, answer in zip(codes, answers, strict=True) if answer is None}
            if len(own) == len(set(codes)):
                return await ours(caller, request)
            known = await self._own(caller, sorted(own)) if own else {}
            infos = [
                known[code] if answer is None else _info(caller, code, answer)
                for code, answer in zip(codes, answers, strict=True)
            ]
            return Answered(openapi.heartbeat_all_success(infos))

        return decide

    def usage(self, ours: Decide) -> Decide:
        async def decide(caller: Caller, request: UsageRequest) -> Answered:
            answered = await ours(caller, request)
            uses = [
                Use(code_index=code_index(self._rt, said.license), clients=said.clients, active_num=said.active_num)
                for said in request.usage_info
            ]
            await record_uses(self._rt, caller.connection, caller.product_id, uses)
            return answered

        return decide

    async def _count(self, caller: Caller, code: str, account: str) -> None:
        """Older software tells its user with the query: counted as a report of use, here and at the marketplace (spec §1.4)."""
        index, clients = code_index(self._rt, code), frozenset((account,))
        await report_usage(
            self._rt,
            {index: Report(clients=clients)},
            connection_id=caller.connection.id,
            product_id=caller.product_id,
            day=day_of(self._rt.clock(), caller.connection.calendar),
        )
        use = Use(code_index=index, clients=clients)
        await record_uses(self._rt, caller.connection, caller.product_id, [use])

    async def _own(self, caller: Caller, codes: list[str]) -> dict[str, LicenseInfo]:
        """What we say ourselves of codes that the marketplace has no part in."""
        command = HeartbeatAll(
            code_indexes=tuple([code_index(self._rt, code) for code in codes]),
            connection_id=caller.connection.id,
            product_id=caller.product_id,
            now=self._rt.clock(),
        )
        beats = await self._rt.db.submit(heartbeat_all, command)
        return {code: license_info(caller.connection, code, beat) for code, beat in zip(codes, beats, strict=True)}


def _info(caller: Caller, code: str, answer: Relayed) -> LicenseInfo:
    """The marketplace's own words where it said any, else what our license says."""
    said = answer.facts or CodeFacts(status=_ALIVE)
    if answer.license is None:
        ours = _NOTHING
    else:
        ours = license_info(caller.connection, code, Beat(status=_ALIVE, license=answer.license))
    info = LicenseInfo(
        license_code=code,
        status=said.status,
        activate_time=said.activate_time or ours.activate_time,
        expire_time=said.expire_time or ours.expire_time,
        product_id=said.product_id or ours.product_id,
        order_id=said.order_id or ours.order_id,
        amount=ours.amount if said.amount is None else said.amount,
    )
    if answer.receipt is None:
        return info
    return RelayedInfo(**msgspec.structs.asdict(info), receipt=answer.receipt)
