"""What software reports about its use (spec §1.5): clients by name, kept as keyed hashes only, or a number of them.

In: hashing, bounded portions for the writer, the verb. Out: the shape of a report on the wire.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

import msgspec

from licensesvc.domain.activation import decide_heartbeat
from licensesvc.domain.errors import LicenseNotActivated, LicenseNotFound
from licensesvc.domain.instants import Instant
from licensesvc.domain.usage import DayUse, merged
from licensesvc.services.runtime import Runtime
from licensesvc.storage import licenses, usage
from licensesvc.storage.port import Tx

CLIENT_INDEX: Final = "usage-client"
"""Purpose of the vault index that stands for a client."""
PORTION: Final = 250
"""Clients in one command: between two portions of a large report other writes get their turn."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one call says of one code: names of clients, or the largest number that it states."""

    clients: frozenset[str] = frozenset()
    active_num: int | None = None

    def __repr__(self) -> str:
        return f"Report({len(self.clients)} clients, active_num={self.active_num})"


class CodeUse(msgspec.Struct, frozen=True, kw_only=True):
    """A part of what one call says of one code; `clients` are hashes."""

    code_index: str
    clients: frozenset[str]
    active_num: int | None


class ReportUsage(msgspec.Struct, frozen=True, kw_only=True):
    """A portion of one call; `product_id` None = any product of the connection."""

    uses: tuple[CodeUse, ...]
    connection_id: int
    product_id: int | None
    day: int
    now: Instant


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Indexes of the codes of which nothing was counted: they name no license of the caller, or one that is not activated."""

    unknown: frozenset[str] = frozenset()
    not_activated: frozenset[str] = frozenset()


def client_index(rt: Runtime, day: int, name: str) -> str:
    """What stands for a client on one day: on another day the same client has another index."""
    return rt.vault.index(CLIENT_INDEX, f"{day}\0{name}")


async def report_usage(
    rt: Runtime, reports: Mapping[str, Report], *, connection_id: int, product_id: int | None, day: int
) -> Refused:
    """Count what a call reports, by code index; a report that was broken off is completed by repeating it."""
    unknown: set[str] = set()
    not_activated: set[str] = set()
    for uses in _portions(rt, reports, day):
        command = ReportUsage(uses=uses, connection_id=connection_id, product_id=product_id, day=day, now=rt.clock())
        refused = await rt.db.submit(count_usage, command)
        unknown |= refused.unknown
        not_activated |= refused.not_activated
    return Refused(unknown=frozenset(unknown), not_activated=frozenset(not_activated))


def _portions(rt: Runtime, reports: Mapping[str, Report], day: int) -> Iterator[tuple[CodeUse, ...]]:
    portion: list[CodeUse] = []
    room = PORTION
    for index, report in reports.items():
        names = iter(sorted(report.clients))
        active_num = report.active_num
        while True:
            taken = frozenset(client_index(rt, day, name) for name in islice(names, room))
            portion.append(CodeUse(code_index=index, clients=taken, active_num=active_num))
            room -= len(taken)
            active_num = None  # said once
            if room:
                break
            yield tuple(portion)
            portion, room = [], PORTION
    if portion:
        yield tuple(portion)


async def count_usage(tx: Tx, commands: Sequence[ReportUsage]) -> Sequence[Refused | Exception]:
    """Hot verb: count all waiting portions. What a query would answer is counted, whatever its status. No audit events."""
    indexes = {use.code_index for command in commands for use in command.uses}
    found = await licenses.by_codes(tx, sorted(indexes), lock=False)
    counted: list[DayUse] = []
    results: list[Refused | Exception] = []
    for command in commands:
        unknown: set[str] = set()
        not_activated: set[str] = set()
        for use in command.uses:
            loaded = found.get(use.code_index)
            view = loaded.view if loaded else None
            try:
                decide_heartbeat(
                    view, connection_id=command.connection_id, product_id=command.product_id, now=command.now
                )
            except LicenseNotFound:
                unknown.add(use.code_index)
            except LicenseNotActivated:
                not_activated.add(use.code_index)
            else:
                assert view is not None
                counted.append(
                    DayUse(license_id=view.id, day=command.day, clients=use.clients, active_num=use.active_num)
                )
        results.append(Refused(unknown=frozenset(unknown), not_activated=frozenset(not_activated)))
    if counted:
        await usage.add(tx, merged(counted))
    return results
