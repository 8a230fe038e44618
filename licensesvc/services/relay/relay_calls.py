"""Calls to the marketplace on behalf of end-user software: one by one (v1), or collected into batches (v2).

In: outcomes of activate and query by code, collecting, halving a refused batch. Out: what an outcome means (`domain.relay`), who may
ask (`relay`), storing. No database is open while a call is under way.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeAlias

import msgspec
import structlog

from licensesvc.domain.connection import Relay
from licensesvc.domain.relay import BLAMES_A_CODE, HEARD, Heard
from licensesvc.marketplace.huawei import open_api_client
from licensesvc.marketplace.huawei.answers import CodeFacts, UnknownShape
from licensesvc.marketplace.huawei.breaker import BreakerOpen
from licensesvc.marketplace.huawei.client import Account, MarketplaceClient, MarketplaceUnreachable
from licensesvc.marketplace.huawei.open_api_client import MAX_CODES
from licensesvc.marketplace.huawei.orders import MalformedAnswer, MarketplaceRefusal
from licensesvc.services.catalog.marketplace_account import CannotAsk, account_of
from licensesvc.services.runtime import Runtime
from licensesvc.storage import connections

WINDOW_S: Final = 0.05
"""How long a batch waits for more codes."""

_log = structlog.get_logger(__name__)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a call about one code; `facts` only with a success, and then not always: a batch tells none."""

    heard: Heard
    facts: CodeFacts | None = None


Together: TypeAlias = Callable[[Sequence[str]], Awaitable[Outcome | dict[str, Outcome]]]
"""A call about many codes: one outcome for all of them, or one for each that it knew."""
Alone: TypeAlias = Callable[[str], Awaitable[Outcome]]


async def by_halves(codes: Sequence[str], together: Together, alone: Alone) -> dict[str, Outcome]:
    """Call about all `codes` at once; a batch refused for some code's fault is halved until that code stands alone.

    A batch is all or nothing [I], so every good code is done by the time the bad ones are found: with `b` bad codes among `n`, in at most
    `2 b (log2 n + 1) + 1` calls. A code that stands alone is called for singly, which tells what is wrong with it.
    """
    if not codes:
        return {}
    outcome = await together(codes)
    if isinstance(outcome, dict):
        absent = [code for code in codes if code not in outcome]
        return {**outcome, **dict(zip(absent, await asyncio.gather(*map(alone, absent)), strict=True))}
    if outcome.heard not in BLAMES_A_CODE:
        return dict.fromkeys(codes, outcome)
    if len(codes) == 1:
        return {codes[0]: await alone(codes[0])}
    middle = len(codes) // 2
    left, right = await asyncio.gather(
        by_halves(codes[:middle], together, alone), by_halves(codes[middle:], together, alone)
    )
    return left | right


class _Batch:
    """Codes that wait for one call."""

    def __init__(self) -> None:
        self.codes: dict[str, asyncio.Future[Outcome]] = {}


class RelayCalls:
    """The calls of one process; its batches are those of all software that calls it."""

    def __init__(self, rt: Runtime, client: MarketplaceClient, window_s: float = WINDOW_S) -> None:
        self._rt = rt
        self._client = client
        self._window_s = window_s
        self._open: dict[tuple[int, str, str | None], _Batch] = {}
        self._sending: set[asyncio.Task[None]] = set()

    async def activate(self, connection_id: int, mode: Relay, code: str, real_effect_time: str | None) -> Outcome:
        """Put one code into service. Raises StorageError, never for what the marketplace does."""
        if mode is Relay.BATCH:
            return await self._in_batch(connection_id, "activate", code, real_effect_time)
        return await self._activate(await self._account(connection_id), code, real_effect_time)

    async def query(self, connection_id: int, mode: Relay, code: str) -> Outcome:
        """Ask for one code. Raises StorageError, never for what the marketplace does."""
        if mode is Relay.BATCH:
            return await self._in_batch(connection_id, "query", code, None)
        return await self._query(await self._account(connection_id), code)

    async def activate_list(self, connection_id: int, codes: Sequence[str], real_effect_time: str | None) -> Outcome:
        """Put a list into service that the software named as one, all or none: it is never taken apart."""
        account = await self._account(connection_id)
        return await self._heard(
            account,
            lambda to: open_api_client.activate_batch(self._client, to, codes, real_effect_time, self._rt.clock()),
        )

    async def query_list(self, connection_id: int, codes: Sequence[str]) -> dict[str, Outcome]:
        """Ask for up to `MAX_CODES` codes with as few calls as it takes."""
        return await self._query_many(await self._account(connection_id), codes)

    async def _in_batch(self, connection_id: int, verb: str, code: str, real_effect_time: str | None) -> Outcome:
        key = (connection_id, verb, real_effect_time)
        batch = self._open.get(key)
        if batch is None:
            batch = self._open[key] = _Batch()
            task = asyncio.create_task(self._send_batch(key, batch))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        outcome = batch.codes.get(code)
        if outcome is None:
            outcome = batch.codes[code] = asyncio.get_running_loop().create_future()
            if len(batch.codes) >= MAX_CODES:  # full: the next code begins another one
                del self._open[key]
        return await asyncio.shield(outcome)

    async def _send_batch(self, key: tuple[int, str, str | None], batch: _Batch) -> None:
        """Wait for more codes, send them, hand out the outcomes."""
        connection_id, verb, real_effect_time = key
        outcomes: dict[str, Outcome] = {}
        try:
            await asyncio.sleep(self._window_s)
            if self._open.get(key) is batch:
                del self._open[key]
            account = await self._account(connection_id)
            codes = list(batch.codes)
            if verb == "activate":
                outcomes = await self._activate_many(account, codes, real_effect_time)
            else:
                outcomes = await self._query_many(account, codes)
        except Exception:  # noqa: BLE001 - whoever waits for the batch must hear something
            _log.exception("relay_batch_failed")
        finally:
            for code, outcome in batch.codes.items():
                if not outcome.done():
                    outcome.set_result(outcomes.get(code, Outcome(heard=Heard.LOST)))

    async def _activate_many(
        self, account: Account | None, codes: Sequence[str], real_effect_time: str | None
    ) -> dict[str, Outcome]:
        async def together(some: Sequence[str]) -> Outcome:
            return await self._heard(
                account,
                lambda to: open_api_client.activate_batch(self._client, to, some, real_effect_time, self._rt.clock()),
            )

        outcomes = await by_halves(codes, together, lambda code: self._activate(account, code, real_effect_time))
        silent = [code for code, outcome in outcomes.items() if outcome == Outcome(heard=Heard.SUCCESS)]
        told = await self._query_many(account, silent)  # v2 answers nothing about its codes
        for code in silent:
            outcomes[code] = Outcome(heard=Heard.SUCCESS, facts=told[code].facts)
        return outcomes

    async def _query_many(self, account: Account | None, codes: Sequence[str]) -> dict[str, Outcome]:
        async def together(some: Sequence[str]) -> Outcome | dict[str, Outcome]:
            shapeless: dict[str, Outcome] = {}
            try:
                return await self._heard_codes(account, some)
            except UnknownShape as error:  # body and answer of v2 are [I]: where we were wrong, v1 is documented
                _log.warning("relay_batch_query_not_understood", error=str(error))
                return shapeless

        return await by_halves(codes, together, lambda code: self._query(account, code))

    async def _heard_codes(self, account: Account | None, codes: Sequence[str]) -> Outcome | dict[str, Outcome]:
        found: dict[str, CodeFacts] = {}

        async def call(to: Account) -> None:
            found.update(await open_api_client.query_batch(self._client, to, codes, self._rt.clock()))

        outcome = await self._heard(account, call, shape_matters=True)
        if outcome.heard is not Heard.SUCCESS:
            return outcome
        return {code: Outcome(heard=Heard.SUCCESS, facts=facts) for code, facts in found.items()}

    async def _activate(self, account: Account | None, code: str, real_effect_time: str | None) -> Outcome:
        return await self._heard(
            account, lambda to: open_api_client.activate(self._client, to, code, real_effect_time, self._rt.clock())
        )

    async def _query(self, account: Account | None, code: str) -> Outcome:
        return await self._heard(account, lambda to: open_api_client.query(self._client, to, code, self._rt.clock()))

    async def _account(self, connection_id: int) -> Account | None:
        stored = await self._rt.db.read(lambda tx: connections.by_id(tx, connection_id))
        try:
            return account_of(self._rt, stored)
        except CannotAsk as error:
            _log.warning("relay_cannot_ask", error=str(error))
            return None

    @staticmethod
    async def _heard(
        account: Account | None,
        call: Callable[[Account], Awaitable[CodeFacts | None]],
        *,
        shape_matters: bool = False,
    ) -> Outcome:
        if account is None:
            return Outcome(heard=Heard.TROUBLE)
        return await heard(lambda: call(account), shape_matters=shape_matters)


async def heard(call: Callable[[], Awaitable[CodeFacts | None]], *, shape_matters: bool = False) -> Outcome:
    """The outcome of one call; with `shape_matters` it raises UnknownShape, for its caller knows another way to ask."""
    failed: Exception
    try:
        return Outcome(heard=Heard.SUCCESS, facts=await call())
    except MarketplaceRefusal as refusal:
        known = HEARD.get(refusal.result_code)
        if known is None:
            _log.warning("marketplace_call_failed", code=refusal.result_code)  # its text may name a license code
        return Outcome(heard=known or Heard.TROUBLE)
    except UnknownShape as error:
        if shape_matters:
            raise
        outcome, failed = Heard.LOST, error
    except (MarketplaceUnreachable, MalformedAnswer, BreakerOpen) as error:
        nothing_sent = isinstance(error, BreakerOpen) or getattr(error, "sent", True) is False
        outcome, failed = Heard.TROUBLE if nothing_sent else Heard.LOST, error
    _log.warning("marketplace_call_failed", error=f"{type(failed).__name__}: {failed}")
    return Outcome(heard=outcome)
