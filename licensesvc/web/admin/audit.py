"""`/audit-events` and `/audit/verification`: who did what to which record, and whether the chain of it holds."""

import re
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from licensesvc.domain.audit import AuditRow
from licensesvc.domain.instants import parse_rfc3339, rfc3339
from licensesvc.services.runtime import Runtime
from licensesvc.services.upkeep.verify_audit import ChainReport, verify_audit
from licensesvc.storage import audit
from licensesvc.storage.audit import BEGINNING, Place
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import READER
from licensesvc.web.admin.answers import Time
from licensesvc.web.cursors import DEFAULT_LIMIT, Limit, Page, decode_place, encode_place, invalid_cursor, page_response
from licensesvc.web.problems import problems

_KIND: Final = "audit"
_NUMBER_BYTES: Final = 8
_CHAIN: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")

Named = Annotated[
    str | None, QueryParameter(min_length=1, max_length=100, pattern=r"^[!-~]+$(?!\n)", description="Exactly this one.")
]
Moment = Annotated[str | None, QueryParameter(max_length=40, description="RFC 3339, e.g. 2026-11-23T16:00:00Z.")]
# Longer than other cursors: the place of an event names its chain.
AuditCursor = Annotated[
    str | None, QueryParameter(max_length=160, description="`next_cursor` of the page before; opaque.")
]


class AuditEventView(msgspec.Struct, frozen=True, kw_only=True):
    """`actor` did `kind` to `subject`; `hash` (hex, SHA-256) seals it to the event before it in its `chain`."""

    chain: str
    seq: int
    at: Time
    actor: str
    kind: str
    subject: str
    detail: dict[str, str | int | None]
    hash: str


class AuditVerification(msgspec.Struct, frozen=True, kw_only=True):
    """Whether every chain holds; `broken_at` is the first event of a chain that was changed, removed or put in."""

    clean: bool
    chains: list[ChainReport]


def _view(row: AuditRow) -> AuditEventView:
    event = row.event
    return AuditEventView(
        chain=row.chain,
        seq=row.seq,
        at=rfc3339(event.at),
        actor=event.actor,
        kind=event.kind,
        subject=event.subject,
        detail=event.detail,
        hash=row.hash.hex(),
    )


@get(
    "/audit-events",
    opt=READER,
    operation_id="listAuditEvents",
    responses=problems("INVALID_CURSOR", "INVALID_PARAMETER"),
)
async def list_events(
    request: Request[Any, Any, Any],
    runtime: NamedDependency[Runtime],
    *,
    subject: Named = None,
    kind: Named = None,
    actor: Named = None,
    since: Moment = None,
    until: Moment = None,
    limit: Limit = DEFAULT_LIMIT,
    cursor: AuditCursor = None,
) -> Response[Page[AuditEventView]]:
    """List audit events, the oldest first: of a record, of a kind (`license.revoked`), of an actor, in [since, until)."""
    where = (
        EVERYTHING.given("e.subject = {}", subject)
        .given("e.kind = {}", kind)
        .given("e.actor = {}", actor)
        .given("e.at >= {}", None if since is None else parse_rfc3339(since))
        .given("e.at < {}", None if until is None else parse_rfc3339(until))
    )
    after = BEGINNING if cursor is None else _place(decode_place(_KIND, cursor))
    found = await runtime.db.read(lambda tx: audit.search(tx, after=after, limit=limit + 1, where=where))
    following = encode_place(_KIND, _bytes(found[limit - 1])) if len(found) > limit else None
    return page_response(request, [_view(row) for row in found[:limit]], following)


@get("/audit/verification", opt=READER, operation_id="verifyAudit", responses=problems())
async def verification(runtime: NamedDependency[Runtime]) -> AuditVerification:
    """Re-compute every hash of the audit chains; takes a second for some hundred thousand events."""
    chains = await verify_audit(runtime)
    return AuditVerification(clean=all(report.broken_at is None for report in chains), chains=chains)


def _bytes(row: AuditRow) -> bytes:
    numbers = (number.to_bytes(_NUMBER_BYTES, "big", signed=True) for number in (row.event.at, row.seq))
    return b"".join((*numbers, row.chain.encode()))


def _place(place: bytes) -> Place:
    at, seq, chain = place[:_NUMBER_BYTES], place[_NUMBER_BYTES : 2 * _NUMBER_BYTES], place[2 * _NUMBER_BYTES :]
    if not _CHAIN.fullmatch(chain):  # the check of a cursor is no secret: anybody can make one
        raise invalid_cursor()
    return int.from_bytes(at, "big", signed=True), chain.decode(), int.from_bytes(seq, "big", signed=True)


ROUTES: Final = (list_events, verification)
