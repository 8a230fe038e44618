"""Counts over whole tables, for people who look at the state of the shop."""

import msgspec

from licensesvc.domain.calendar import QUARTER
from licensesvc.domain.instants import Instant
from licensesvc.domain.supervision import Node
from licensesvc.storage.port import Tx

MAX_KINDS = 100
"""Kinds of failing messages that are told, the most frequent first."""
_GOOD_OUTCOMES = "('ok', '000000')"


class FailingMessages(msgspec.Struct, frozen=True, kw_only=True):
    """Interface messages of one kind that did not succeed."""

    direction: str
    activity: str
    outcome: str
    count: int


class OutboxState(msgspec.Struct, frozen=True, kw_only=True):
    """Work that waits, how much of it has failed before, and what was given up for good."""

    waiting: int
    failing: int
    given_up: int


async def licenses_activated(tx: Tx, since: Instant) -> list[tuple[int, int]]:
    """First activations of licenses since then, as (quarter of an hour since 1970, count)."""
    return await _by_quarter(tx, "SELECT activated_at AS at FROM license_states WHERE activated_at >= $1", since)


async def seats_taken(tx: Tx, since: Instant) -> list[tuple[int, int]]:
    """Seats taken since then, also those free again, as (quarter of an hour since 1970, count)."""
    return await _by_quarter(tx, "SELECT created_at AS at FROM activations WHERE created_at >= $1", since)


async def cases_by_node(tx: Tx) -> dict[Node, int]:
    """How many supervision cases stand at each node."""
    rows = await tx.all("SELECT node, COUNT(*) AS n FROM supervision_cases GROUP BY node")
    found = {row["node"]: row["n"] for row in rows}
    return {node: found.get(node, 0) for node in Node}


async def failing_messages(tx: Tx, since: Instant) -> list[FailingMessages]:
    """Interface messages since then that did not succeed, the most frequent kinds first."""
    rows = await tx.all(
        "SELECT direction, activity, outcome, COUNT(*) AS n FROM messages"
        f" WHERE received_at >= $1 AND outcome NOT IN {_GOOD_OUTCOMES}"
        " GROUP BY direction, activity, outcome ORDER BY n DESC, direction, activity, outcome LIMIT $2",
        since,
        MAX_KINDS,
    )
    return [
        FailingMessages(direction=row["direction"], activity=row["activity"], outcome=row["outcome"], count=row["n"])
        for row in rows
    ]


async def outbox_state(tx: Tx) -> OutboxState:
    """What the outbox holds that is not done."""
    row = await tx.one(
        "SELECT COUNT(CASE WHEN given_up_at IS NULL THEN 1 END) AS waiting,"
        " COUNT(CASE WHEN given_up_at IS NULL AND attempts > 0 THEN 1 END) AS failing,"
        " COUNT(given_up_at) AS given_up FROM outbox WHERE done_at IS NULL"
    )
    assert row is not None
    return OutboxState(waiting=row["waiting"], failing=row["failing"], given_up=row["given_up"])


async def _by_quarter(tx: Tx, instants: str, since: Instant) -> list[tuple[int, int]]:
    rows = await tx.all(
        f"SELECT at / {QUARTER} AS quarter, COUNT(*) AS n FROM ({instants}) happened GROUP BY quarter", since
    )
    return [(row["quarter"], row["n"]) for row in rows]
