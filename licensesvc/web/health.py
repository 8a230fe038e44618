"""`/healthz`: the process answers. `/readyz`: it can serve, i.e. its database answers."""

from litestar import MediaType, Response, get
from litestar.di import NamedDependency

from licensesvc.services.runtime import Runtime
from licensesvc.storage.port import StorageError, Tx


@get("/healthz", media_type=MediaType.TEXT, include_in_schema=False)
async def healthz() -> str:
    """Say that the process is alive."""
    return "ok\n"


@get("/readyz", media_type=MediaType.TEXT, include_in_schema=False)
async def readyz(runtime: NamedDependency[Runtime]) -> Response[str]:
    """Say whether requests can be served, with the reason if not."""
    try:
        await runtime.db.read(_answer)
    except StorageError as error:
        return Response(f"database: {error}\n", status_code=503)
    return Response("ready\n", status_code=200)


async def _answer(tx: Tx) -> None:
    await tx.one("SELECT 1 AS alive")
