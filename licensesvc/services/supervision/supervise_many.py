"""The same for many cases at once, each in a transaction of its own and with a result of its own."""

import asyncio
from typing import Annotated, Final

import msgspec

from licensesvc.domain.errors import DomainError, InvalidParameter
from licensesvc.domain.supervision import Node
from licensesvc.services.runtime import Runtime
from licensesvc.services.supervision.confirm_supervision import Confirmation, Confirmed, confirm_event
from licensesvc.services.supervision.record_supervision import RecordEvent, record_event
from licensesvc.storage.port import Tx

MAX_CASES: Final = 100
"""Cases of one request."""
BULK_S: Final = 15.0
"""Seconds after which a request begins with no further case: its caller waits no longer than 30 s."""


class SuperviseMany(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Either `confirm` or `record` the same event in every one of these `cases`."""

    cases: Annotated[
        tuple[Annotated[str, msgspec.Meta(pattern=r"^case_[0-9a-z]{26}$(?!\n)")], ...],
        msgspec.Meta(min_length=1, max_length=MAX_CASES),
    ]
    confirm: Confirmation | None = None
    record: RecordEvent | None = None


class CaseResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one case: where it stands now, or the code and the text of what refused it."""

    case: str
    node: Node | None = None
    confirmed: Confirmed | None = None
    code: str | None = None
    detail: str | None = None


class ManyResults(msgspec.Struct, frozen=True, kw_only=True):
    """One result for each case, in the order of the request; `left` are those for another request, because the time of this one was over."""

    done: int
    refused: int
    results: list[CaseResult]
    left: list[str] = []


async def supervise_many(rt: Runtime, command: SuperviseMany, *, by: str) -> ManyResults:
    """Carry the event out for each case; one that refuses keeps no other back. The same request again repeats nothing.

    Raises InvalidParameter for a request that asks for both or neither, or names a case twice.
    """
    if (command.confirm is None) is (command.record is None):
        raise InvalidParameter("give either confirm or record")
    if len(set(command.cases)) < len(command.cases):
        raise InvalidParameter("a case is named twice")
    results: list[CaseResult] = []
    deadline = asyncio.get_running_loop().time() + BULK_S
    for case_id in command.cases:
        if results and asyncio.get_running_loop().time() >= deadline:
            break
        results.append(await _one(rt, case_id, command, by=by))
    refused = sum(result.code is not None for result in results)
    return ManyResults(
        done=len(results) - refused, refused=refused, results=results, left=list(command.cases[len(results) :])
    )


async def _one(rt: Runtime, case_id: str, command: SuperviseMany, *, by: str) -> CaseResult:
    async def verb(tx: Tx) -> CaseResult:
        if command.confirm is not None:
            outcome = await confirm_event(tx, rt, case_id, command.confirm, by=by)
            return CaseResult(case=case_id, node=outcome.case.node, confirmed=outcome.confirmed)
        assert command.record is not None
        case = await record_event(tx, rt, case_id, command.record, by=by)
        return CaseResult(case=case_id, node=case.node)

    try:
        return await rt.db.write(verb)
    except DomainError as refused:
        return CaseResult(case=case_id, code=refused.code, detail=refused.message)
