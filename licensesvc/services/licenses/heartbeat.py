"""The marketplace-compatible query of license codes (spec §1.4), formerly their heartbeat."""

from collections.abc import Sequence

import msgspec

from licensesvc.domain.activation import decide_heartbeat, decide_heartbeats
from licensesvc.domain.errors import DomainError
from licensesvc.domain.instants import Instant
from licensesvc.domain.license import WireStatus
from licensesvc.domain.usage import DayUse, merged
from licensesvc.storage import licenses, usage
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """Who uses the software, as older software tells with its query: a vault index, and the day it counts for."""

    index: str
    day: int


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the query interface; `product_id` None = any product of the connection.

    `named` is the text itself: older software of License 1.0 may send its instance id in place of the code (spec §1.4).
    """

    code_index: str
    connection_id: int
    product_id: int | None
    now: Instant
    client: Client | None = None
    named: str = ""

    def __repr__(self) -> str:
        return f"Heartbeat(connection_id={self.connection_id}, product_id={self.product_id})"


class HeartbeatAll(msgspec.Struct, frozen=True, kw_only=True):
    """One call with a list of codes; `product_id` None = any product of the connection."""

    code_indexes: tuple[str, ...]
    connection_id: int
    product_id: int | None
    now: Instant


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the marketplace's word for the status, and the license."""

    status: WireStatus
    license: LoadedLicense


async def heartbeat(tx: Tx, commands: Sequence[Heartbeat]) -> Sequence[Beat | Exception]:
    """Hot verb: answer all waiting queries and record when their licenses were last seen, and by whom. No audit events."""
    found = await licenses.by_codes(tx, list({command.code_index for command in commands}), lock=True)
    instances = {command.named for command in commands if command.named and command.code_index not in found}
    of_instance = await licenses.by_instances(tx, sorted(instances)) if instances else {}
    seen: dict[int, Instant] = {}
    uses: list[DayUse] = []
    results: list[Beat | Exception] = []
    for command in commands:
        loaded = found.get(command.code_index) or of_instance.get(command.named)
        view = loaded.view if loaded else None
        try:
            status = decide_heartbeat(
                view, connection_id=command.connection_id, product_id=command.product_id, now=command.now
            )
        except DomainError as no:
            results.append(no)
            continue
        assert loaded is not None
        seen[loaded.view.id] = max(command.now, seen.get(loaded.view.id, command.now))
        if command.client is not None:
            client = command.client
            uses.append(DayUse(license_id=loaded.view.id, day=client.day, clients=frozenset((client.index,))))
        results.append(Beat(status=status, license=loaded))
    if seen:
        await licenses.store_seen(tx, sorted(seen.items()))
    if uses:
        await usage.add(tx, merged(uses))
    return results


async def heartbeat_all(tx: Tx, commands: Sequence[HeartbeatAll]) -> Sequence[list[Beat] | Exception]:
    """Hot verb: answer queries of lists, in the order of each; a list with a code that has no answer is refused whole."""
    indexes = {index for command in commands for index in command.code_indexes}
    found = await licenses.by_codes(tx, sorted(indexes), lock=True)
    seen: dict[int, Instant] = {}
    results: list[list[Beat] | Exception] = []
    for command in commands:
        listed = [found.get(index) for index in command.code_indexes]
        try:
            statuses = decide_heartbeats(
                [loaded.view if loaded else None for loaded in listed],
                connection_id=command.connection_id,
                product_id=command.product_id,
                now=command.now,
            )
        except DomainError as no:
            results.append(no)
            continue
        known = [loaded for loaded in listed if loaded is not None]
        seen |= {loaded.view.id: max(command.now, seen.get(loaded.view.id, command.now)) for loaded in known}
        results.append([Beat(status=status, license=loaded) for status, loaded in zip(statuses, known, strict=True)])
    if seen:
        await licenses.store_seen(tx, sorted(seen.items()))
    return results
