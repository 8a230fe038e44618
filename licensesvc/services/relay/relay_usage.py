"""Use of relayed codes: written down with the client's id sealed, and told to the marketplace once for each code, day and client (spec §1.5).

In: the verb that records, the outbox item that reports. Out: how use is counted for ourselves (`report_usage`), the retries
(`outbox_worker`). A report has no field for the day: what is told late, after an outage, counts there on the day it arrives.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

import msgspec
import structlog

from licensesvc.domain.connection import Connection
from licensesvc.domain.errors import MarketplaceAway
from licensesvc.domain.instants import SECOND, Instant
from licensesvc.domain.license import LicenseState, LicenseView
from licensesvc.domain.product import DeliveryKind
from licensesvc.domain.relay import BLAMES_A_CODE, Heard
from licensesvc.domain.usage import MAX_CLIENTS_A_DAY, day_of
from licensesvc.marketplace.huawei import open_api_client
from licensesvc.marketplace.huawei.client import Account, MarketplaceClient
from licensesvc.marketplace.huawei.open_api_client import MAX_CLIENTS, MAX_CODES
from licensesvc.services.catalog.marketplace_account import CannotAsk, account_of
from licensesvc.services.interface_messages import OutboundCall
from licensesvc.services.licenses.issue_license import code_context
from licensesvc.services.relay.relay_calls import Outcome, by_halves, heard
from licensesvc.services.runtime import Runtime
from licensesvc.storage import connections, licenses, outbox, relay
from licensesvc.storage.connections import StoredConnection
from licensesvc.storage.port import Tx
from licensesvc.storage.relay import NewUsage, UsageRow

OUTBOX_KIND: Final = "relay-usage"
CLIENT_INDEX: Final = "relay-client"
"""Purpose of the vault index that finds a client of a license."""
GATHER: Final = 30 * SECOND
"""How long uses are collected before they are reported."""
MARGIN: Final = 5 * SECOND
"""An item that falls due sooner may be under way already and miss what is recorded now; clocks of nodes differ by less."""
READ_AT_ONCE: Final = MAX_CODES * MAX_CLIENTS
PORTION: Final = 250
"""Clients in one command: between two portions of a large report other writes get their turn."""
CALLS_AT_ONCE: Final = 100
"""Reports of one connection in one go; what is left goes on with the next."""

_log = structlog.get_logger(__name__)


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """Who used a code, in clear for the moment: names of clients, or a number of them."""

    code_index: str
    clients: frozenset[str] = frozenset()
    active_num: int | None = None

    def __repr__(self) -> str:
        return f"Use({len(self.clients)} clients, active_num={self.active_num})"


class RecordUse(msgspec.Struct, frozen=True, kw_only=True):
    """A portion of what one call tells; `product_id` None = any product, `due_at` when a report falls due at the latest."""

    rt: Runtime
    uses: tuple[Use, ...]
    connection_id: int
    connection: str
    product_id: int | None
    day: int
    now: Instant
    due_at: Instant


async def record_uses(rt: Runtime, connection: Connection, product_id: int | None, uses: Iterable[Use]) -> None:
    """Write uses of relayed codes down; a call that was broken off is completed by repeating it."""
    now = rt.clock()
    for portion in _portions(uses):
        command = RecordUse(
            rt=rt,
            uses=portion,
            connection_id=connection.id,
            connection=connection.public_id,
            product_id=product_id,
            day=day_of(now, connection.calendar),
            now=now,
            due_at=now + GATHER // 2 + rt.entropy(1)[0] * GATHER // 512,  # spread: not all nodes at once
        )
        await rt.db.submit(record_use, command)


def _portions(uses: Iterable[Use]) -> Iterator[tuple[Use, ...]]:
    portion: list[Use] = []
    room = PORTION
    for use in uses:
        names = iter(sorted(use.clients))
        number = use.active_num
        while True:
            taken = frozenset(islice(names, room))
            portion.append(Use(code_index=use.code_index, clients=taken, active_num=number))
            room -= len(taken) or 1
            number = None  # said once
            if room > 0:
                break
            yield tuple(portion)
            portion, room = [], PORTION
    if portion:
        yield tuple(portion)


def client_context(client_index: str) -> str:
    """What the vault binds the id of a client to."""
    return f"relay-client:{client_index}"


async def record_use(tx: Tx, commands: Sequence[RecordUse]) -> Sequence[None]:
    """Hot verb: write uses of relayed codes in service down and see to it that somebody reports them. Other codes are left out."""
    found = await licenses.by_codes(tx, sorted({use.code_index for c in commands for use in c.uses}), lock=False)
    kinds = await relay.kinds_of(tx, {loaded.view.product_id for loaded in found.values()})
    said: dict[tuple[int, int, str], tuple[RecordUse, str | int]] = {}
    for command in commands:
        for use in command.uses:
            loaded = found.get(use.code_index)
            if loaded is None or not _counts(command, loaded.view, kinds[loaded.view.product_id]):
                continue
            view, index = loaded.view, command.rt.vault.index
            for client in use.clients:
                key = (view.id, command.day, index(CLIENT_INDEX, f"{view.public_id}\n{client}"))
                said[key] = (command, client)
            key = (view.id, command.day, "")
            if use.active_num is not None and use.active_num > _number(said.get(key)):
                said[key] = (command, use.active_num)
    known = await relay.known_usage(tx, said)
    full = await relay.full_days(tx, said, MAX_CLIENTS_A_DAY)
    fresh = {
        key: (command, item)
        for key, (command, item) in said.items()
        if (item > (known.get(key) or -1) if isinstance(item, int) else key not in known and key[:2] not in full)
    }
    await relay.add_usage(tx, [_row(key, command, item) for key, (command, item) in fresh.items()])
    for name, command in sorted({command.connection: command for command, _ in fresh.values()}.items()):
        await ensure_report(tx, name, now=command.now, due_at=command.due_at)
    return [None] * len(commands)


def _counts(command: RecordUse, view: LicenseView, kind: DeliveryKind) -> bool:
    own = view.connection_id == command.connection_id and command.product_id in {None, view.product_id}
    return own and view.state is not LicenseState.ISSUED and kind is DeliveryKind.LICENSE_2_0


def _number(said: tuple[RecordUse, str | int] | None) -> int:
    return said[1] if said is not None and isinstance(said[1], int) else -1


def _row(key: tuple[int, int, str], command: RecordUse, item: str | int) -> NewUsage:
    license_id, day, client_index = key
    sealed = None
    if isinstance(item, str):
        sealed = command.rt.vault.seal(item.encode(), client_context(client_index))
    return NewUsage(
        connection_id=command.connection_id,
        license_id=license_id,
        day=day,
        client_index=client_index,
        client=sealed,
        active_num=item if isinstance(item, int) else None,
        at=command.now,
    )


async def ensure_report(tx: Tx, connection: str, *, now: Instant, due_at: Instant) -> None:
    """Queue a report of this connection unless one will begin late enough to see what this transaction writes."""
    if not await outbox.waits_until(tx, kind=OUTBOX_KIND, subject=connection, after=now + MARGIN):
        await outbox.add(tx, kind=OUTBOX_KIND, subject=connection, payload="{}", now=now, due_at=due_at)


async def resume_reports(rt: Runtime) -> None:
    """Queue reports of what an earlier process, or a restored database, left behind."""
    now = rt.clock()

    async def resume(tx: Tx) -> None:
        for connection in await relay.connections_with_usage(tx):
            await ensure_report(tx, connection, now=now, due_at=now + GATHER)

    await rt.db.write(resume)


class UsageReporter:
    """Reports what waits, one connection at a time in this process."""

    def __init__(self, rt: Runtime, client: MarketplaceClient) -> None:
        self._rt = rt
        self._client = client
        self._locks: dict[str, asyncio.Lock] = {}

    async def report(self, connection: str) -> None:
        """Tell the marketplace of everything that waits for this connection.

        Raises MarketplaceAway where something is left for another try, and CannotAsk.
        """
        async with self._locks.setdefault(connection, asyncio.Lock()):
            stored = await self._rt.db.read(lambda tx: connections.by_public_id(tx, connection))
            if stored is None:
                raise CannotAsk(f"connection {connection} is gone")
            for _ in range(CALLS_AT_ONCE):
                rows = await self._rt.db.read(
                    lambda tx: relay.waiting_usage(tx, stored.connection.id, limit=READ_AT_ONCE)
                )
                if not rows:
                    return
                await self._report_some(stored, rows)
            raise MarketplaceAway(f"more than {CALLS_AT_ONCE} reports: the rest follows")

    async def _report_some(self, stored: StoredConnection, waiting: Sequence[UsageRow]) -> None:
        """One report of the oldest rows, and what came of it written down before the next."""
        account = account_of(self._rt, stored)
        rows, said = self._compose(waiting)
        async with OutboundCall(self._rt, stored.connection, activity="license/software-usage-info", order_id=None):
            outcomes = await self._send(account, said)
            done = [row for code, mine in rows.items() if outcomes[code].heard is Heard.SUCCESS for row in mine]
            refused = [row for code, mine in rows.items() if outcomes[code].heard in BLAMES_A_CODE for row in mine]
            now = self._rt.clock()

            async def mark(tx: Tx) -> None:
                await relay.mark_reported(tx, done, now)
                await relay.mark_refused(tx, refused, now)

            await self._rt.db.write(mark)
            if refused:
                _log.warning("relay_usage_refused", connection=stored.connection.public_id, uses=len(refused))
            if len(done) + len(refused) < sum(map(len, rows.values())):
                raise MarketplaceAway

    def _compose(self, waiting: Sequence[UsageRow]) -> tuple[dict[str, list[UsageRow]], dict[str, list[str | int]]]:
        """Rows by code and what to say of each code, within the bounds of one call; who used a code on two days is named once."""
        codes: dict[int, str] = {}
        rows: dict[str, list[UsageRow]] = {}
        said: dict[str, list[str | int]] = {}
        vault = self._rt.vault
        for row in waiting:
            if row.license_id not in codes:
                if len(codes) == MAX_CODES:
                    continue
                code = vault.open(row.code, code_context(row.license)).decode()
                codes[row.license_id] = code
                rows[code], said[code] = [], []
            code = codes[row.license_id]
            if row.client is not None:
                item: str | int = vault.open(row.client, client_context(row.client_index)).decode()
                new = item not in said[code]
            else:
                item = row.active_num or 0
                new = True
                if any(isinstance(known, int) for known in said[code]):
                    continue  # another day's number: in the next report
            if new and len(said[code]) == MAX_CLIENTS:
                continue
            rows[code].append(row)
            if new:
                said[code].append(item)
        return rows, said

    async def _send(self, account: Account, said: Mapping[str, Sequence[str | int]]) -> dict[str, Outcome]:
        async def together(codes: Sequence[str]) -> Outcome | dict[str, Outcome]:
            failed: set[str] = set()

            async def call() -> None:
                some = {code: said[code] for code in codes}
                failed.update(await open_api_client.report_usage(self._client, account, some, self._rt.clock()))

            outcome = await heard(call)
            if outcome.heard is not Heard.SUCCESS:
                return outcome
            return {code: Outcome(heard=Heard.UNKNOWN if code in failed else Heard.SUCCESS) for code in codes}

        async def alone(code: str) -> Outcome:
            outcome = await together([code])
            return outcome if isinstance(outcome, Outcome) else outcome[code]

        return await by_halves(list(said), together, alone)
