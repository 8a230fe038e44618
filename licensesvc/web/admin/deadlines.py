"""`/supervision-due`: what is due in supervision, before and after its time."""

from typing import Annotated, Final

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from licensesvc.domain.instants import DAY, parse_rfc3339, rfc3339
from licensesvc.domain.supervision import Actor
from licensesvc.domain.supervision_deadlines import DueKind
from licensesvc.services.runtime import Runtime
from licensesvc.storage import supervision_due
from licensesvc.storage.where import EVERYTHING
from licensesvc.web.admin.access import READER
from licensesvc.web.admin.answers import Time
from licensesvc.web.problems import problems

AHEAD: Final = 30 * DAY
"""Milliseconds to look ahead unless told."""
MOST: Final = 200


class DueView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that falls due in a case at `at`, from `actor`."""

    case: str
    kind: DueKind
    at: Time
    actor: Actor | None


class DueList(msgspec.Struct, frozen=True, kw_only=True):
    """The soonest first; `more` says that further ones fall due by `until`."""

    until: Time
    items: list[DueView]
    more: bool


@get("/supervision-due", opt=READER, operation_id="listDue", responses=problems("INVALID_PARAMETER"))
async def list_due(
    runtime: NamedDependency[Runtime],
    until: Annotated[
        str | None, QueryParameter(max_length=40, description="RFC 3339; 30 days ahead unless told.")
    ] = None,
    actor: Annotated[Actor | None, QueryParameter(description="Only what this one must do.")] = None,
    kind: Annotated[DueKind | None, QueryParameter(description="Only this kind.")] = None,
) -> DueList:
    """List what falls due and was not announced yet, at most 200 of all cases; a change of a case shows within half a minute."""
    end = runtime.clock() + AHEAD if until is None else parse_rfc3339(until)
    where = EVERYTHING.given("d.actor = {}", actor and actor.value).given("d.kind = {}", kind and kind.value)
    found = await runtime.db.read(lambda tx: supervision_due.soonest(tx, until=end, limit=MOST + 1, where=where))
    return DueList(
        until=rfc3339(end),
        items=[DueView(case=one.case, kind=one.kind, at=rfc3339(one.at), actor=one.actor) for one in found[:MOST]],
        more=len(found) > MOST,
    )


ROUTES: Final = (list_due,)
