"""The OpenAPI document at `/schema/openapi.json`, the page that shows it at `/schema`, and what a problem type means.

In: how they are served; the page's script and style lie in `static/` and come from this server only. Out: what the document says,
which the routes tell.
"""

from pathlib import Path
from typing import Any, Final

import msgspec
from litestar import Request, Response, Router, get
from litestar.datastructures import ResponseHeader
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.openapi.spec import Components, License, SecurityScheme, Tag
from litestar.params import FromPath

from licensesvc import __version__
from licensesvc.web.problems import TABLE, Refusal

ADMIN_SCHEME: Final = "adminToken"

_STATIC: Final = Path(__file__).parent / "static"
_MEDIA_TYPES: Final = {".js": "text/javascript", ".css": "text/css"}  # the framework adds the charset
_FILES: Final = {
    path.name: (_MEDIA_TYPES[path.suffix], path.read_bytes())
    for path in sorted(_STATIC.iterdir())
    if path.suffix in _MEDIA_TYPES
}
_PAGE: Final = b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>licensesvc API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/schema/static/swagger-ui.css">
<div id="page"></div>
<script src="/schema/static/swagger-ui-bundle.js"></script>
<script src="/schema/static/page.js"></script>
</html>
"""
_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class _Page(OpenAPIRenderPlugin):
    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:  # noqa: ARG002
        return _PAGE


@get("/static/{name:str}", include_in_schema=False)
async def static_file(name: FromPath[str]) -> Response[bytes]:
    """Return one of the page's files; the framework's own router answers 500 to names that no file system takes."""
    found = _FILES.get(name)
    if found is None:
        raise Refusal("NOT_FOUND", "the page has no such file")
    media_type, content = found
    return Response(content, media_type=media_type, headers={"cache-control": "public, max-age=3600"})


class ProblemKind(msgspec.Struct, frozen=True, kw_only=True):
    """What all problems of one type share."""

    code: str
    status: int
    title: str


@get("/problems/{name:str}", tags=["problems"], operation_id="getProblemKind")
async def problem_kind(name: FromPath[str]) -> ProblemKind:
    """Return what the `type` of a problem document points to."""
    code = name.upper().replace("-", "_")
    if code not in TABLE:
        raise Refusal("NOT_FOUND", "there is no such problem type")
    return ProblemKind(code=code, status=TABLE[code].status, title=TABLE[code].title)


def openapi_config() -> OpenAPIConfig:
    """Serve the document of the application that it is given to."""
    router = Router(
        "/schema",
        route_handlers=[
            static_file,
        ],
        response_headers=[ResponseHeader(name=name, value=value) for name, value in _HEADERS.items()],
        include_in_schema=False,
    )
    return OpenAPIConfig(
        title="licensesvc",
        version=__version__,
        summary="License server and activation service for software sold on a cloud marketplace",
        license=License(name="Apache-2.0", identifier="Apache-2.0"),
        components=Components(
            security_schemes={
                ADMIN_SCHEME: SecurityScheme(
                    type="http", scheme="bearer", description="A token of `POST /admin/v1/tokens` (`lsa_…`)."
                )
            }
        ),
        tags=[
            Tag(name="software", description="What programs call with a license code."),
            Tag(name="admin", description="What administrators call with their token."),
            Tag(name="problems", description="Errors, as RFC 9457 problem documents."),
        ],
        use_handler_docstrings=True,
        openapi_router=router,
        render_plugins=[_Page(path="/"), JsonRenderPlugin()],
    )
