"""Rows of `supervision_cases`, `supervision_events` and `proofs`."""

from collections.abc import Collection, Sequence

import msgspec

from licensesvc.domain.instants import Instant
from licensesvc.domain.supervision import Actor, Event, FlowName, Node
from licensesvc.storage.port import Row, Tx
from licensesvc.storage.where import EVERYTHING, Where

_CASE = (
    "id, public_id, line_ref, connection_id, flow, node, version, entered_at, rejections, accepted_at, completed_at,"
    " settlement_month"
)
_PROOF = "id, public_id, case_id, kind, filename, media_type, size, sha256, uploaded_at"


class StoredCase(msgspec.Struct, frozen=True, kw_only=True):
    """Where the supervision of one order line stands."""

    id: int
    public_id: str
    line_ref: int
    connection_id: int
    flow: FlowName
    node: Node
    version: int
    entered_at: Instant
    rejections: int = 0
    accepted_at: Instant | None = None
    completed_at: Instant | None = None
    settlement_month: str | None = None


class CaseEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One step that was taken: who did what, when, told by which source."""

    case_id: int
    at: Instant
    event: Event
    actor: Actor
    source: str
    from_node: Node
    to_node: Node
    reason: str | None = None


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery proof; its bytes lie in the content-addressed proof store under `sha256`."""

    id: int
    public_id: str
    case_id: int
    kind: str
    filename: str
    media_type: str
    size: int
    sha256: str
    uploaded_at: Instant


def _case(row: Row) -> StoredCase:
    return StoredCase(
        id=row["id"],
        public_id=row["public_id"],
        line_ref=row["line_ref"],
        connection_id=row["connection_id"],
        flow=FlowName(row["flow"]),
        node=Node(row["node"]),
        version=row["version"],
        entered_at=row["entered_at"],
        rejections=row["rejections"],
        accepted_at=row["accepted_at"],
        completed_at=row["completed_at"],
        settlement_month=row["settlement_month"],
    )


async def insert(tx: Tx, case: StoredCase, now: Instant) -> int:
    """Open a case; its `id` field is ignored, the new internal id is returned."""
    row = await tx.one(
        "INSERT INTO supervision_cases (public_id, line_ref, connection_id, flow, node, entered_at, created_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id",
        case.public_id,
        case.line_ref,
        case.connection_id,
        case.flow.value,
        case.node.value,
        case.entered_at,
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


async def page(tx: Tx, *, after: int, limit: int, where: Where = EVERYTHING) -> list[StoredCase]:
    """Up to `limit` cases with an internal id above `after`, ascending; conditions name `c`."""
    rows = await tx.all(
        f"SELECT {_CASE} FROM supervision_cases c WHERE id > $1{where.sql(3)} ORDER BY id LIMIT $2",
        after,
        limit,
        *where.values,
    )
    return [_case(row) for row in rows]


async def store(tx: Tx, cases: Sequence[StoredCase], events: Sequence[CaseEvent]) -> None:
    """Write stepped cases, each against the version that it carries, and the events that moved them."""
    await tx.many(
        "UPDATE supervision_cases SET node = $3, version = version + 1, entered_at = $4, rejections = $5,"
        " accepted_at = $6, completed_at = $7, settlement_month = $8 WHERE id = $1 AND version = $2",
        [
            (
                case.id,
                case.version,
                case.node.value,
                case.entered_at,
                case.rejections,
                case.accepted_at,
                case.completed_at,
                case.settlement_month,
            )
            for case in cases
        ],
    )
    await tx.many(
        "INSERT INTO supervision_events (case_id, at, event, actor, source, from_node, to_node, reason)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        [
            (e.case_id, e.at, e.event.value, e.actor.value, e.source, e.from_node.value, e.to_node.value, e.reason)
            for e in events
        ],
    )


async def events_of(tx: Tx, case_id: int) -> list[CaseEvent]:
    """Every step of a case, in order."""
    rows = await tx.all(
        "SELECT case_id, at, event, actor, source, from_node, to_node, reason FROM supervision_events"
        " WHERE case_id = $1 ORDER BY id",
        case_id,
    )
    return [
        CaseEvent(
            case_id=row["case_id"],
            at=row["at"],
            event=Event(row["event"]),
            actor=Actor(row["actor"]),
            source=row["source"],
            from_node=Node(row["from_node"]),
            to_node=Node(row["to_node"]),
            reason=row["reason"],
        )
        for row in rows
    ]


async def insert_proof(tx: Tx, proof: Proof) -> None:
    """Record a proof whose bytes are already stored; its `id` field is ignored."""
    await tx.run(
        "INSERT INTO proofs (public_id, case_id, kind, filename, media_type, size, sha256, uploaded_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        proof.public_id,
        proof.case_id,
        proof.kind,
        proof.filename,
        proof.media_type,
        proof.size,
        proof.sha256,
        proof.uploaded_at,
    )


async def proofs_of(tx: Tx, case_id: int) -> list[Proof]:
    """Every proof of a case, in order."""
    rows = await tx.all(f"SELECT {_PROOF} FROM proofs WHERE case_id = $1 ORDER BY id", case_id)
    return [
        Proof(
            id=row["id"],
            public_id=row["public_id"],
            case_id=row["case_id"],
            kind=row["kind"],
            filename=row["filename"],
            media_type=row["media_type"],
            size=row["size"],
            sha256=row["sha256"],
            uploaded_at=row["uploaded_at"],
        )
        for row in rows
    ]
