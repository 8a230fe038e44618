"""The admin REST as commands call it: over the control socket while a server runs, else in this process.

Either way it is the same application, so a command is checked, audited and carried out like any other request of an owner.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import httpx2

from licensesvc.app import create_app, open_runtime, require_data
from licensesvc.cli.control import ControlMark, short_path
from licensesvc.cli.datalock import DataInUse, data_lock
from licensesvc.cli.errors import Failure
from licensesvc.settings import Settings

ANSWER_SECONDS: Final = 30.0
PAGE: Final = 200


class AdminRefused(Failure):
    """The server said no; the text is its reason."""


class AdminClient:
    """Calls `/admin/v1` as the command line; every call raises AdminRefused or Failure."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def get(self, path: str) -> dict[str, Any]:
        """One record."""
        return await self._call("GET", path)

    async def all(self, path: str, **parameters: str) -> list[dict[str, Any]]:
        """Every record of a list."""
        items: list[dict[str, Any]] = []
        more: dict[str, str | int] = {**parameters, "limit": PAGE}
        while True:
            page = await self._call("GET", path, params=more)
            items += page["items"]
            if page["next_cursor"] is None:
                return items
            more["cursor"] = page["next_cursor"]

    async def page(self, path: str, limit: int, **parameters: str) -> list[dict[str, Any]]:
        """The first records of a list."""
        items: list[dict[str, Any]] = (await self._call("GET", path, params={**parameters, "limit": limit}))["items"]
        return items

    async def post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Make or do something."""
        return await self._call("POST", path, json=body)

    async def delete(self, path: str) -> None:
        """End something; nothing is answered."""
        await self._request("DELETE", path)

    async def change(self, path: str, verb: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Do something with a record as it stands now."""
        record = await self.get(path)
        return await self._call("POST", f"{path}/{verb}", json=body, headers={"If-Match": f'"{record["version"]}"'})

    async def download(self, path: str) -> AsyncIterator[bytes]:
        """A file, in pieces."""
        async with self._http.stream("GET", f"/admin/v1{path}") as response:
            if response.is_error:
                await response.aread()
                raise AdminRefused(_reason(response.json()))
            async for piece in response.aiter_bytes():
                yield piece

    async def patch(self, path: str, version: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change a record that still has this version."""
        return await self._call("PATCH", path, json=body, headers={"If-Match": f'"{version}"'})

    async def upload(self, path: str, media_type: str, content: bytes, **parameters: str | bool) -> dict[str, Any]:
        """Send a file."""
        headers = {"Content-Type": media_type}
        return await self._call("POST", path, params=parameters, content=content, headers=headers)

    async def _call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = (await self._request(method, path, **request)).json()
        return answer

    async def _request(self, method: str, path: str, **request: Any) -> httpx2.Response:
        try:
            response = await self._http.request(method, f"/admin/v1{path}", **request)
        except httpx2.TransportError as error:
            raise Failure(
                f"the data directory is in use, but no server answers on its control socket ({error}): try again"
            ) from None
        if response.is_error:
            raise AdminRefused(_reason(response.json()))
        return response


@asynccontextmanager
async def open_admin(settings: Settings) -> AsyncIterator[AdminClient]:
    """Reach the running server of the data directory, or be it for the length of the context."""
    require_data(settings)
    try:
        async with AsyncExitStack() as stack:
            transport: httpx2.AsyncBaseTransport
            try:
                stack.enter_context(data_lock(settings.lock_file))
            except DataInUse:
                transport = httpx2.AsyncHTTPTransport(uds=stack.enter_context(short_path(settings.control_socket)))
            else:
                rt = await stack.enter_async_context(open_runtime(settings))
                app = create_app(rt, settings, outbox=False)
                await stack.enter_async_context(app.lifespan())
                transport = httpx2.ASGITransport(app=ControlMark(app, None))  # type: ignore[arg-type]  # two spellings of ASGI
            http = httpx2.AsyncClient(transport=transport, base_url="http://localhost", timeout=ANSWER_SECONDS)
            yield AdminClient(await stack.enter_async_context(http))
    except ExceptionGroup as group:  # the application's lifespan wraps what passes through it
        raise group.exceptions[0] from None


def _reason(problem: Mapping[str, Any]) -> str:
    faults = [
        f"{fault.get('pointer') or fault.get('parameter')}: {fault['detail']}" for fault in problem.get("errors", ())
    ]
    return "; ".join([f"{problem['title']}: {problem['detail']}", *faults])
