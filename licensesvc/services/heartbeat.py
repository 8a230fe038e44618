"""The marketplace-compatible query of a license code (spec §1.4), formerly its heartbeat."""

from collections.abc import Sequence

import msgspec

from licensesvc.domain.activation import decide_heartbeat
from licensesvc.domain.errors import DomainError
from licensesvc.domain.instants import Instant
from licensesvc.storage import licenses
from licensesvc.storage.licenses import LoadedLicense
from licensesvc.storage.port import Tx


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True):
    """One call of the query interface; `product_id` None = any product of the connection."""

    code_index: str
    connection_id: int
    product_id: int | None
    now: Instant


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: the marketplace's word for the status, and the license."""

    status: str
    license: LoadedLicense


async def heartbeat(tx: Tx, commands: Sequence[Heartbeat]) -> Sequence[Beat | Exception]:
    """Hot verb: answer all waiting queries and record when their licenses were last seen. No audit events."""
    found = await licenses.by_codes(tx, list({command.code_index for command in commands}), lock=True)
    seen: dict[int, Instant] = {}
    results: list[Beat | Exception] = []
    for command in commands:
        loaded = found.get(command.code_index)
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
        results.append(Beat(status=status, license=loaded))
    if seen:
        await licenses.store_seen(tx, sorted(seen.items()))
    return results
