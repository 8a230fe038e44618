"""Relay mode for lists (v2): all or none, as the software asked for it (spec §1.3).

In: activation and query of a list. Out: everything about one code (`relay`).
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC
from functools import partial

import msgspec

from licensesvc.domain import relay as rules
from licensesvc.domain.activation import decide_activation
from licensesvc.domain.errors import (
    DomainError,
    IllegalLicenseState,
    InvalidCodeListed,
    LicenseNotActivated,
    LicenseNotFound,
    MarketplaceAway,
)
from licensesvc.domain.instants import parse_stamp
from licensesvc.domain.relay import BLAMES_A_CODE, Heard
from licensesvc.services.access.authenticate_software import Caller
from licensesvc.services.licenses.activate import ActivateAll, activate_all
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.relay.relay import RelayDesk, Relayed
from licensesvc.services.relay.relay_calls import Outcome
from licensesvc.services.relay.relay_store import Known
from licensesvc.services.runtime import Runtime
from licensesvc.storage.licenses import LoadedLicense

_BAD = (LicenseNotFound, LicenseNotActivated, IllegalLicenseState)


class _Named(msgspec.Struct, frozen=True, kw_only=True):
    code: str
    index: str
    known: Known


async def activate_list(
    rt: Runtime, desk: RelayDesk, caller: Caller, codes: Sequence[str], real_effect_time: str | None
) -> bool:
    """Put a list into service at the marketplace, then here; False when the relay has no part in any of its codes.

    Raises InvalidCodeListed, InvalidParameter, RateLimited, MarketplaceAway.
    """
    looked = await asyncio.gather(*(_look(rt, desk, caller, code) for code in codes))
    named = [item for item in looked if item is not None]
    unknown, illegal = looked.count(None), False
    relayed = [item for item in named if item.known.relayed]
    if not relayed:
        return False
    for item in named:
        try:
            if not desk.must_activate(caller, item.known, real_effect_time) and item.known.license is not None:
                _check_own(rt, caller, item.known.license, real_effect_time)
        except LicenseNotFound:
            unknown += 1
        except IllegalLicenseState:
            illegal = True
    unknown += sum(item.known.license is None for item in named if not item.known.relayed)
    if unknown or illegal:
        raise InvalidCodeListed(unknown)
    others = [item for item in named if not item.known.relayed]
    await desk.shared(
        ("activate-list", caller.connection.id, caller.product_id, tuple(sorted(item.index for item in named))),
        partial(_activate, rt, desk, caller, relayed, others, real_effect_time),
    )
    return True


async def _look(rt: Runtime, desk: RelayDesk, caller: Caller, code: str) -> _Named | None:
    index = code_index(rt, code)
    try:
        return _Named(code=code, index=index, known=await desk.look(caller, index, seen=False))
    except LicenseNotFound:
        return None


async def _activate(
    rt: Runtime,
    desk: RelayDesk,
    caller: Caller,
    relayed: Sequence[_Named],
    others: Sequence[_Named],
    real_effect_time: str | None,
) -> None:
    connection = caller.connection
    for item in relayed:
        if item.known.license is None:
            await _admit(desk, caller, item.index)
    codes = [item.code for item in relayed]
    outcome = await desk.calls.activate_list(connection.id, codes, real_effect_time)
    if outcome.heard is Heard.TROUBLE:
        raise MarketplaceAway
    day = rules.day_of(rt.clock(), connection.calendar)
    asked = await desk.calls.query_list(connection.id, codes)  # v2 answers nothing about its codes
    if outcome.heard is not Heard.SUCCESS and not all(map(_is_alive, asked.values())):
        raise _refusal(outcome, asked)
    if any(item.known.license is None and asked[item.code].facts is None for item in relayed):
        raise MarketplaceAway  # in service, but nobody says of which order: the next try asks again
    activated = [
        desk.activated(caller, item.code, item.index, asked[item.code].facts, real_effect_time) for item in relayed
    ]
    try:
        await desk.record(activated, day=day if all(map(_is_alive, asked.values())) else None)
    except LicenseNotFound:
        raise InvalidCodeListed(1) from None
    if others:
        await rt.db.submit(
            activate_all,
            ActivateAll(
                code_indexes=tuple(item.index for item in others),
                connection_id=connection.id,
                product_id=caller.product_id,
                calendar=connection.calendar,
                real_effect_time=_stated(real_effect_time),
                now=rt.clock(),
                actor=caller.public_id,
            ),
        )


async def query_list(desk: RelayDesk, caller: Caller, codes: Sequence[str]) -> list[Relayed | None]:
    """Ask for every code of a list; None for those in which the relay has no part.

    Raises InvalidCodeListed when one is unknown or not activated, RateLimited, MarketplaceAway.
    """
    answers = await asyncio.gather(*(desk.query(caller, code) for code in codes), return_exceptions=True)
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    if others := [error for error in errors if not isinstance(error, _BAD)]:
        raise others[0]
    if errors:
        raise InvalidCodeListed(sum(isinstance(error, LicenseNotFound) for error in errors))
    return [answer for answer in answers if not isinstance(answer, BaseException)]


async def _admit(desk: RelayDesk, caller: Caller, index: str) -> None:
    try:
        await desk.admit_unknown(caller, index)
    except LicenseNotFound:
        raise InvalidCodeListed(1) from None


def _refusal(outcome: Outcome, asked: dict[str, Outcome]) -> DomainError:
    """Why a list was not put into service: some code's fault, unless its answer was lost and it may simply be tried again."""
    unknown = sum(answer.heard is Heard.UNKNOWN for answer in asked.values())
    lost = outcome.heard is Heard.LOST
    if unknown or (not lost and outcome.heard in BLAMES_A_CODE):
        return InvalidCodeListed(unknown)
    return MarketplaceAway()


def _is_alive(outcome: Outcome) -> bool:
    return outcome.facts is not None and rules.usable_status(outcome.facts.status) == "ALIVE"


def _check_own(rt: Runtime, caller: Caller, loaded: LoadedLicense, real_effect_time: str | None) -> None:
    """A code that we alone answer for must be free to enter service before the marketplace is asked for the others."""
    decide_activation(
        loaded.view,
        connection_id=caller.connection.id,
        product_id=caller.product_id,
        now=rt.clock(),
        real_effect_time=_stated(real_effect_time),
    )


def _stated(real_effect_time: str | None) -> int | None:
    return None if real_effect_time is None else parse_stamp(real_effect_time, UTC)
