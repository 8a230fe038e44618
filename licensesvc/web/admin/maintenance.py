"""`/prune`: deleting what is past its retention."""

from typing import Final

import msgspec
from litestar import Response, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from licensesvc.services.runtime import Runtime
from licensesvc.services.upkeep.prune import Pruned, prune, retention_of, stale
from licensesvc.settings import Settings
from licensesvc.web.admin.access import OWNER
from licensesvc.web.jsonbody import JSONRequest
from licensesvc.web.problems import JSON_BODY, problems


class PruneRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`dry_run` only counts."""

    dry_run: bool = False


@post("/prune", status_code=200, opt=OWNER, operation_id="prune", responses=problems(*JSON_BODY))
async def prune_now(
    request: JSONRequest,
    data: JSONBody[PruneRequest],
    runtime: NamedDependency[Runtime],
    settings: NamedDependency[Settings],
) -> Response[Pruned]:
    """Delete what is past the retention of the settings, a bounded number of rows; ask again while `more` is true."""
    kept = retention_of(settings)
    pruned = await stale(runtime, kept) if data.dry_run else await prune(runtime, kept, by=request.user.name)
    return Response(pruned)


ROUTES: Final = (prune_now,)
