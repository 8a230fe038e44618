"""`/healthz`: the process answers. `/readyz`: it can serve; if not, a line for each reason."""

from litestar import MediaType, Response, get
from litestar.di import NamedDependency

from licensesvc.services.upkeep.readiness import Readiness


@get("/healthz", media_type=MediaType.TEXT, include_in_schema=False)
async def healthz() -> str:
    """Say that the process is alive."""
    return "ok\n"


@get("/readyz", media_type=MediaType.TEXT, include_in_schema=False)
async def readyz(readiness: NamedDependency[Readiness]) -> Response[str]:
    """Say whether requests can be served, with the reasons if not."""
    reasons = await readiness.reasons()
    if reasons:
        return Response("".join(f"{reason}\n" for reason in reasons), status_code=503)
    return Response("ready\n", status_code=200)
