"""Rows of `supervision_cases` and `supervision_events`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.supervision import NODES, REFUNDS, Actor, Event, FlowName, Node, Refund, Source
from licensesvc.domain.supervision_case import CaseState, Facts, Happening
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

_STATE: Final = CaseState.__struct_fields__
_COLUMNS: Final = (*_STATE, "flow", "due_at")
_CASE: Final = f"id, public_id, line_ref, connection_id, version, standard_version, {', '.join(_COLUMNS)}"
_EVENT: Final = "id, case_id, at, recorded_at, event, actor, source, from_node, to_node, reason, confirmed_at, facts"
_FACTS: Final = msgspec.json.Decoder(Facts)


class StoredCase(msgspec.Struct, frozen=True, kw_only=True):
    """Where the supervision of one order line stands; `due_at` is when the first promise would be broken."""

    id: int
    public_id: str
    line_ref: int
    connection_id: int
    flow: FlowName
    state: CaseState
    version: int
    standard_version: int = 0
    due_at: Instant | None = None

    @property
    def node(self) -> Node:
        """Where it stands."""
        return self.state.node


class CaseEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a case, what it did to the node, and when we learned of it."""

    id: int = 0
    case_id: int
    happening: Happening
    from_node: Node
    to_node: Node
    recorded_at: Instant


def _case(row: Row) -> StoredCase:
    fields = {name: row[name] for name in _STATE} | {"node": Node(row["node"]), "refund": Refund(row["refund"])}
    return StoredCase(
        id=row["id"],
        public_id=row["public_id"],
        line_ref=row["line_ref"],
        connection_id=row["connection_id"],
        flow=FlowName(row["flow"]),
        state=CaseState(**fields),
        version=row["version"],
        standard_version=row["standard_version"],
        due_at=row["due_at"],
    )


async def insert(tx: Tx, case: StoredCase, now: Instant) -> int:
    """Open a case; its `id` field is ignored, the new internal id is returned."""
    row = await tx.one(
        "INSERT INTO supervision_cases (public_id, line_ref, connection_id, flow, node, entered_at, standard_version,"
        " created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
        case.public_id,
        case.line_ref,
        case.connection_id,
        case.flow.value,
        case.state.node.value,
        case.state.entered_at,
        case.standard_version,
        now,
    )
    assert row is not None
    return int(row["id"])


async def of_lines(tx: Tx, line_refs: Sequence[int]) -> dict[int, StoredCase]:
    """The cases of these order lines, by line, locked until the commit."""
    rows = await tx.all(
        f"SELECT {_CASE} FROM supervision_cases c WHERE line_ref IN @ints($1) ORDER BY id @lock(c)", list(line_refs)
    )
    return {row["line_ref"]: _case(row) for row in rows}


async def public_ids_of_lines(tx: Tx, line_refs: Collection[int]) -> dict[int, str]:
    """Our ids of the cases of these order lines, by internal id of the line."""
    rows = await tx.all(
        "SELECT line_ref, public_id FROM supervision_cases WHERE line_ref IN @ints($1)", sorted(line_refs)
    )
    return {row["line_ref"]: row["public_id"] for row in rows}


async def by_public_id(tx: Tx, public_id: str, *, lock: bool = False) -> StoredCase | None:
    """Find a case by its id."""
    row = await tx.one(
        f"SELECT {_CASE} FROM supervision_cases c WHERE public_id = $1" + (" @lock(c)" if lock else ""), public_id
    )
    return _case(row) if row else None


async def by_id(tx: Tx, case_id: int) -> StoredCase:
    """Load a case that a foreign key promises."""
    row = await tx.one(f"SELECT {_CASE} FROM supervision_cases c WHERE id = $1", case_id)
    assert row is not None
    return _case(row)


async def page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[StoredCase]:
    """Up to `limit` cases with an internal id above `after`, ascending; conditions name `c`."""
    rows = await tx.all(
        f"SELECT {_CASE} FROM supervision_cases c WHERE id > $1{where.sql(3)} ORDER BY id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [_case(row) for row in rows]


def _turns() -> Mapping[Actor, str]:
    """Per actor the condition that it is their turn, from the tables that `turn` reads."""
    conditions = {}
    for actor in Actor:
        nodes = ", ".join(f"'{node}'" for node, (_, whose) in NODES.items() if whose is actor)
        refunds = ", ".join(f"'{refund}'" for refund, whose in REFUNDS.items() if whose is actor)
        alone = [f"c.refund = 'NONE' AND c.node IN ({nodes})"] if nodes else []
        alone += [f"c.refund IN ({refunds})"] if refunds else []
        condition = f"c.appealed_at IS NULL AND ({' OR '.join(alone)})" if alone else "c.id IS NULL"
        conditions[actor] = f"(c.appealed_at IS NOT NULL OR {condition})" if actor is Actor.MARKETPLACE else condition
    return conditions


TURNS: Final = _turns()
"""SQL conditions: whose turn it is, as `domain.supervision_case.turn` says it."""


async def store(tx: Tx, cases: Sequence[StoredCase], events: Sequence[CaseEvent]) -> None:
    """Write stepped cases, each against the version that it carries, and the events that moved them."""
    changes = ", ".join(f"{name} = ${number}" for number, name in enumerate(_COLUMNS, start=3))
    await tx.many(
        f"UPDATE supervision_cases SET {changes}, version = version + 1, wake_at = NULL WHERE id = $1 AND version = $2",
        [(case.id, case.version, *_values(case.state), case.flow.value, case.due_at) for case in cases],
    )
    await tx.many(
        "INSERT INTO supervision_events (case_id, at, recorded_at, event, actor, source, from_node, to_node, reason,"
        " confirmed_at, facts) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        [
            (
                event.case_id,
                event.happening.at,
                event.recorded_at,
                event.happening.event.value,
                event.happening.actor.value,
                event.happening.source.value,
                event.from_node.value,
                event.to_node.value,
                event.happening.reason,
                event.happening.confirmed_at,
                msgspec.json.encode(event.happening.facts).decode(),
            )
            for event in events
        ],
    )


def _values(state: CaseState) -> list[object]:
    return [_plain(getattr(state, name)) for name in _STATE]


def _plain(value: object) -> object:
    return value.value if isinstance(value, Node | Refund) else value


async def confirm(tx: Tx, case_id: int, up_to: int, confirmed_at: Instant) -> None:
    """Record that the marketplace shows this event of a case, and so every one before it."""
    await tx.run(
        "UPDATE supervision_events SET confirmed_at = $3 WHERE case_id = $1 AND id <= $2 AND confirmed_at IS NULL",
        case_id,
        up_to,
        confirmed_at,
    )


async def confirm_all(tx: Tx, case_id: int, confirmed_at: Instant) -> None:
    """Record that the marketplace shows everything that has happened to a case so far."""
    await tx.run(
        "UPDATE supervision_events SET confirmed_at = $2 WHERE case_id = $1 AND confirmed_at IS NULL",
        case_id,
        confirmed_at,
    )


async def events_of(tx: Tx, case_id: int) -> list[CaseEvent]:
    """Every event of a case, in order."""
    return (await events_of_cases(tx, [case_id])).get(case_id, [])


async def events_of_cases(tx: Tx, case_ids: Collection[int]) -> dict[int, list[CaseEvent]]:
    """Every event of these cases, in order, by internal id of the case."""
    rows = await tx.all(
        f"SELECT {_EVENT} FROM supervision_events WHERE case_id IN @ints($1) ORDER BY id", sorted(case_ids)
    )
    found: dict[int, list[CaseEvent]] = {}
    for row in rows:
        found.setdefault(row["case_id"], []).append(_event(row))
    return found


def _event(row: Row) -> CaseEvent:
    return CaseEvent(
        id=row["id"],
        case_id=row["case_id"],
        happening=Happening(
            event=Event(row["event"]),
            actor=Actor(row["actor"]),
            source=Source(row["source"]),
            at=row["at"],
            confirmed_at=row["confirmed_at"],
            reason=row["reason"],
            facts=_FACTS.decode(row["facts"]),
        ),
        from_node=Node(row["from_node"]),
        to_node=Node(row["to_node"]),
        recorded_at=row["at"] if row["recorded_at"] is None else row["recorded_at"],
    )


async def put_buyer_code(tx: Tx, case_id: int, sealed: bytes) -> None:
    """Keep the code that the buyer submitted; a later one takes its place."""
    await tx.run("UPDATE supervision_cases SET buyer_code = $2 WHERE id = $1", case_id, sealed)


async def buyer_code(tx: Tx, case_id: int) -> bytes | None:
    """The code that the buyer submitted, sealed."""
    row = await tx.one("SELECT buyer_code FROM supervision_cases WHERE id = $1", case_id)
    return bytes(row["buyer_code"]) if row and row["buyer_code"] is not None else None
