"""Relay mode: end-user software asks us with its own credential, we ask the marketplace with the seller's (spec §§1.3, 1.4).

In: activation and query of one code for a caller whose connection relays. Out: the calls (`relay_calls`), rows (`relay_store`), the rules
(`domain.relay`), lists (`relay_lists`), usage (`relay_usage`). Every method returns None where the relay has no part in the code, so that
the server decides as it always does.

A call that is under way is shared by all who ask the same, and goes on when they leave: an activation that was sent is always followed up.
"""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from datetime import UTC
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec
import structlog

from licensesvc.domain import relay as rules
from licensesvc.domain.activation import decide_activation
from licensesvc.domain.connection import Connection, Relay
from licensesvc.domain.errors import IllegalLicenseState, MarketplaceAway, OrderConflict
from licensesvc.domain.instants import MINUTE, SECOND, Instant, parse_stamp
from licensesvc.domain.license import LicenseState, LicenseStatus, status_at
from licensesvc.domain.ratelimit import Limit
from licensesvc.domain.relay import Heard, Then
from licensesvc.marketplace.huawei.answers import CodeFacts
from licensesvc.marketplace.huawei.client import TOTAL_SECONDS
from licensesvc.services.access.authenticate_software import Caller
from licensesvc.services.access.limit_attempts import Limiter
from licensesvc.services.licenses.issue_license import code_index
from licensesvc.services.relay.relay_calls import Outcome, RelayCalls
from licensesvc.services.relay.relay_receipt import Receipt, read_receipt
from licensesvc.services.relay.relay_store import (
    Activated,
    Keep,
    Known,
    Look,
    check_product,
    expiry_of,
    keep_answers,
    look,
    record_activations,
)
from licensesvc.services.runtime import Runtime
from licensesvc.storage import relay as rows
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import ConstraintViolated

LOOKUPS: Final = Limit(name="relay-lookups", count=5, window=MINUTE)
"""Codes that nobody has told us of, looked up at the marketplace for one client address."""
UNKNOWN_KEPT_FOR: Final = 10 * MINUTE
"""How long a code that the marketplace does not know is refused without asking again."""
NOT_ACTIVATED_KEPT_FOR: Final = MINUTE
"""How long a known code is answered "not activated" without asking again, unless it is activated here."""
REFUSED_KEPT_FOR: Final = 5 * SECOND
"""How long the refusal of a known code's activation is repeated without asking again: a program in a loop is no reason for calls."""
AWAY_FOR: Final = 30 * SECOND
"""After a query that failed, codes with a last known good are answered by it for so long, without waiting for another failure."""
NOES_KEPT: Final = 10_000
"""Refusals in memory; beyond, the oldest is forgotten and asked for again."""

_T = TypeVar("_T")
_log = structlog.get_logger(__name__)


class Relayed(msgspec.Struct, frozen=True, kw_only=True):
    """What to answer: the marketplace's facts and our license, where there are any; `receipt` only with the last known good."""

    facts: CodeFacts | None
    license: LoadedLicense | None
    receipt: str | None = None


class RelayDesk:
    """Relays the calls of one process; an async context manager that waits for what is under way."""

    def __init__(self, rt: Runtime, calls: RelayCalls, limiter: Limiter) -> None:
        self._rt = rt
        self.calls = calls
        self._limiter = limiter
        self._under_way: dict[Hashable, asyncio.Task[Any]] = {}
        self._noes: dict[tuple[str, int, str], tuple[Heard, Instant]] = {}
        self._away_until: dict[int, Instant] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if tasks := list(self._under_way.values()):
            _, late = await asyncio.wait(tasks, timeout=2 * TOTAL_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def activate(self, caller: Caller, code: str, real_effect_time: str | None) -> Relayed | None:
        """Put a code into service at the marketplace, then here. Raises the marketplace's refusal as ours, or MarketplaceAway."""
        index = code_index(self._rt, code)
        known = await self.look(caller, index, seen=False)
        if not self.must_activate(caller, known, real_effect_time):
            return None
        return await self.shared(
            ("activate", caller.connection.id, caller.product_id, index),
            partial(self._activate, caller, code, index, known, real_effect_time),
        )

    async def query(self, caller: Caller, code: str) -> Relayed | None:
        """Ask for a code, the marketplace at most once a day while it is usable. Raises as `activate`."""
        index = code_index(self._rt, code)
        known = await self.look(caller, index, seen=True)
        loaded, now = known.license, self._rt.clock()
        if not known.relayed or (loaded is not None and status_at(loaded.view, now) not in rules.RELAYED):
            return None
        receipt = self._receipt(known, now)
        if loaded is not None and receipt is not None:
            fresh = rules.is_fresh(receipt.known, now, caller.connection.calendar)
            if fresh or self._is_away(caller.connection, now):
                return _last_known(loaded, receipt, now)
        try:
            return await self.shared(
                ("query", caller.connection.id, caller.product_id, index),
                partial(self._query, caller, code, index, known),
            )
        except MarketplaceAway:
            if loaded is None or receipt is None:
                raise
            return _last_known(loaded, receipt, now)

    async def look(self, caller: Caller, index: str, *, seen: bool) -> Known:
        """What we know of a code; raises LicenseNotFound for one that is not the caller's."""
        command = Look(
            code_index=index,
            connection_id=caller.connection.id,
            product_id=caller.product_id,
            seen=seen,
            now=self._rt.clock(),
        )
        return await self._rt.db.submit(look, command)

    def must_activate(self, caller: Caller, known: Known, real_effect_time: str | None) -> bool:
        """Whether the marketplace is to put this code into service; raises where no call is needed to say no.

        A code that is in service here, but of which the marketplace has never told us so, is sent: it was activated before the
        connection relayed, or by a seat.
        """
        loaded, now = known.license, self._rt.clock()
        if not known.relayed or loaded is None:
            return known.relayed
        status = status_at(loaded.view, now)
        if status not in rules.RELAYED:
            return False
        if status is not LicenseStatus.NOT_ACTIVATED:
            if known.answer is not None:
                raise IllegalLicenseState
            return True
        decide_activation(
            loaded.view,
            connection_id=caller.connection.id,
            product_id=caller.product_id,
            now=now,
            real_effect_time=_instant(real_effect_time),
        )
        return True

    async def admit_unknown(self, caller: Caller, index: str) -> None:
        """Pay for the look-up of a code that nobody has told us of; raises LicenseNotFound, RateLimited."""
        self._refuse_again("any", caller.connection.id, index)
        bucket = f"{LOOKUPS.name} {caller.address}"
        self._limiter.admit(LOOKUPS, bucket)
        await self._limiter.charge(LOOKUPS, bucket)

    async def record(self, codes: list[Activated], *, day: str | None) -> list[Relayed]:
        """Store that the marketplace has these codes in service, and its answers."""
        try:
            found = await self._rt.db.write(lambda tx: record_activations(tx, self._rt, codes))
        except (
            ConstraintViolated,
            OrderConflict,
        ):  # another process has learned a code of the order in this very moment
            found = await self._rt.db.write(lambda tx: record_activations(tx, self._rt, codes))
        for code, loaded in zip(codes, found, strict=True):
            for verb in ("any", "activate", "query"):
                self._noes.pop((verb, code.connection.id, code.code_index), None)
            facts = code.facts or CodeFacts(status="ALIVE")
            await self._keep(code.connection, loaded, facts, day=day, now=code.now)
        return [Relayed(facts=code.facts, license=loaded) for code, loaded in zip(codes, found, strict=True)]

    async def _activate(
        self, caller: Caller, code: str, index: str, known: Known, real_effect_time: str | None
    ) -> Relayed:
        connection = caller.connection
        if known.license is None:
            await self.admit_unknown(caller, index)
        else:
            self._refuse_again("activate", connection.id, index)
        outcome = await self.calls.activate(connection.id, connection.relay, code, real_effect_time)
        then, heard, facts, day = rules.ACTIVATION[outcome.heard], outcome.heard, outcome.facts, None
        if then is Then.ASK:
            day = rules.day_of(self._rt.clock(), connection.calendar)
            asked = await self.calls.query(connection.id, connection.relay, code)
            status = rules.usable_status(asked.facts.status) if asked.facts is not None else None
            then, heard = rules.after_asking(outcome.heard, asked.heard, status)
            facts = asked.facts
        _log.info("relay_activation", heard=outcome.heard, then=then, told=heard)
        if then is not Then.RECORD:
            raise self._no("activate", then, heard, caller, index, known)
        [relayed] = await self.record([self.activated(caller, code, index, facts, real_effect_time)], day=day)
        return relayed

    def activated(
        self, caller: Caller, code: str, index: str, facts: CodeFacts | None, real_effect_time: str | None
    ) -> Activated:
        """What to record of a code that the marketplace has in service."""
        return Activated(
            connection=caller.connection,
            product_id=caller.product_id,
            code=code,
            code_index=index,
            facts=facts,
            real_effect_time=_instant(real_effect_time),
            now=self._rt.clock(),
            by=caller.public_id,
        )

    async def _query(self, caller: Caller, code: str, index: str, known: Known) -> Relayed:
        connection, loaded, asked_at = caller.connection, known.license, self._rt.clock()
        if loaded is None:
            await self.admit_unknown(caller, index)
        elif known.answer is None:
            self._refuse_again("query", connection.id, index)
        outcome = await self.calls.query(connection.id, connection.relay, code)
        return await self.take(caller, code, index, known, outcome, asked_at)

    async def take(
        self, caller: Caller, code: str, index: str, known: Known, outcome: Outcome, asked_at: Instant
    ) -> Relayed:
        """Store what a query answered and return it; raises the marketplace's refusal as ours, or MarketplaceAway."""
        connection, loaded, facts = caller.connection, known.license, outcome.facts
        then = rules.QUERY[outcome.heard]
        was_away = self._away_until.pop(connection.id, None) is not None
        if then is Then.LATER:
            self._away_until[connection.id] = self._rt.clock() + AWAY_FOR
            if not was_away:
                _log.warning("marketplace_away", connection=connection.public_id, heard=outcome.heard)
        elif outcome.heard is Heard.UNKNOWN and loaded is not None and known.answer is not None:
            await self._rt.db.write(lambda tx: rows.forget_answer(tx, loaded.view.id, asked_at))
        if then is not Then.RECORD or facts is None:
            raise self._no("query", then, outcome.heard, caller, index, known)
        day = rules.day_of(asked_at, connection.calendar)
        alive = rules.usable_status(facts.status) == "ALIVE"
        if loaded is None and not alive:  # nothing is stored of a code that is over
            await self._rt.db.read(lambda tx: check_product(tx, connection, caller.product_id, facts.product_id))
            return Relayed(facts=_in_known_words(facts), license=None)
        if loaded is None or (alive and loaded.view.state is LicenseState.ISSUED):
            # Somebody else activated it at the marketplace, or we did and died before we could write that down.
            [relayed] = await self.record([self.activated(caller, code, index, facts, None)], day=day)
            return relayed
        await self._keep(connection, loaded, facts, day=day, now=asked_at)
        return Relayed(facts=_in_known_words(facts), license=loaded)

    async def _keep(
        self, connection: Connection, loaded: LoadedLicense, facts: CodeFacts, *, day: str | None, now: Instant
    ) -> None:
        keep = Keep(license=loaded, facts=facts, expires_at=expiry_of(facts, connection), day=day, now=now)
        await self._rt.db.submit(keep_answers, (self._rt, keep))

    def _receipt(self, known: Known, now: Instant) -> Receipt | None:
        """The last known good, if it still stands."""
        if known.license is None or known.answer is None:
            return None
        receipt = read_receipt(self._rt, known.answer.document, known.license.view.public_id, now)
        return receipt if receipt is not None and rules.stands(receipt.known, now) else None

    def _is_away(self, connection: Connection, now: Instant) -> bool:
        return 0 < self._away_until.get(connection.id, 0) - now <= AWAY_FOR

    def _no(self, verb: str, then: Then, heard: Heard, caller: Caller, index: str, known: Known) -> Exception:
        """The error that a call ends with; a refusal that would be the same again is remembered for a while."""
        if then is not Then.PASS_ON:
            return MarketplaceAway()
        if known.license is None:
            if heard in {Heard.UNKNOWN, Heard.BAD_LIST}:
                self._remember("any", caller.connection.id, index, Heard.UNKNOWN, UNKNOWN_KEPT_FOR)
        elif verb == "activate":
            self._remember(verb, caller.connection.id, index, heard, REFUSED_KEPT_FOR)
        elif heard is Heard.NOT_ACTIVATED:
            self._remember(verb, caller.connection.id, index, heard, NOT_ACTIVATED_KEPT_FOR)
        return rules.NO[heard]()

    def _remember(self, verb: str, connection_id: int, index: str, heard: Heard, kept_for: Instant) -> None:
        if len(self._noes) >= NOES_KEPT:
            del self._noes[next(iter(self._noes))]
        self._noes[verb, connection_id, index] = (heard, self._rt.clock() + kept_for)

    def _refuse_again(self, verb: str, connection_id: int, index: str) -> None:
        heard, until = self._noes.get((verb, connection_id, index), (Heard.SUCCESS, 0))
        if 0 < until - self._rt.clock() <= UNKNOWN_KEPT_FOR:
            raise rules.NO[heard]
        self._noes.pop((verb, connection_id, index), None)

    async def shared(self, key: Hashable, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Do `work` once for all who ask for the same while it is under way; it goes on when they leave."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(work())
            task.add_done_callback(lambda _: self._under_way.pop(key, None))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # somebody has looked at it
        result: _T = await asyncio.shield(task)
        return result


def relays(connection: Connection) -> bool:
    """Whether calls about a connection's codes are relayed."""
    return connection.relay is not Relay.OFF


def _instant(real_effect_time: str | None) -> Instant | None:
    return None if real_effect_time is None else parse_stamp(real_effect_time, UTC)


def _in_known_words(facts: CodeFacts) -> CodeFacts:
    return msgspec.structs.replace(facts, status=rules.usable_status(facts.status))


def _last_known(loaded: LoadedLicense, receipt: Receipt, now: Instant) -> Relayed:
    status = rules.status_then(receipt.known, now)
    facts = msgspec.structs.replace(receipt.facts, status=status)
    return Relayed(facts=facts, license=loaded, receipt=receipt.document)
