"""The OpenAPI document and its page."""

import hashlib
import re
from pathlib import Path

import pytest
from litestar.routes import HTTPRoute

from licensesvc.services.supervision.proof_types import MEDIA_TYPES
from licensesvc.web import docs
from tests.support_edges import ask
from tests.support_web import Site

STATIC = Path(docs.__file__).parent / "static"


async def document(site: Site) -> dict:
    return (await site.stranger.get("/schema/openapi.json")).json()


async def test_the_document_is_openapi_3_1_with_every_admin_operation(site: Site):
    schema = await document(site)

    assert schema["openapi"].startswith("3.1")
    documented = {
        (path, method) for path, item in schema["paths"].items() for method in item if path.startswith("/admin")
    }
    served = {
        (re.sub(r":str}", "}", route.path), method.lower())
        for route in site.app.routes
        if isinstance(route, HTTPRoute) and route.path.startswith("/admin")
        for method in route.methods - {"OPTIONS"}
    }
    assert documented == served


async def test_every_admin_operation_has_an_id_a_summary_security_and_its_problems(site: Site):
    schema = await document(site)
    operations = [op for path, item in schema["paths"].items() if path.startswith("/admin") for op in item.values()]

    assert len({op["operationId"] for op in operations}) == len(operations)
    for op in operations:
        assert op["description"], op["operationId"]
        assert op["security"] == [{"adminToken": []}]
        failures = {status: answer for status, answer in op["responses"].items() if status >= "400"}
        assert {"400", "401", "403", "503"} <= failures.keys()
        for answer in failures.values():
            assert list(answer["content"]) == ["application/problem+json"], op["operationId"]
        if "requestBody" in op and "application/json" in op["requestBody"]["content"]:
            assert {"400", "413", "415", "422"} <= failures.keys()
    assert schema["components"]["securitySchemes"]["adminToken"]["scheme"] == "bearer"


async def test_an_upload_documents_its_media_types(site: Site):
    schema = await document(site)

    upload = schema["paths"]["/admin/v1/supervision-cases/{case_id}/proofs"]["post"]
    assert set(upload["requestBody"]["content"]) == MEDIA_TYPES


async def test_the_page_loads_nothing_from_elsewhere(site: Site):
    page = await site.stranger.get("/schema")

    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in page.text
    assert "<script>" not in page.text
    for asset in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        response = await site.stranger.get(asset)
        assert response.status_code == 200, asset


@pytest.mark.parametrize(
    "path",
    [
        "/schema/static",
        "/schema/static/",
        "/schema/static/%00",
        "/schema/static/page.js%00",
        f"/schema/static/{'a' * 300}",
        "/schema/static/swagger-ui.css/x",
        "/schema/static/../x",
        "/schema/static/../docs.py",
        "/schema/static/%2e%2e/docs.py",
        "/schema/static/..%2fdocs.py",
        "/schema/static//etc/passwd",
        "/schema/static/README.md",
        "/schema/static/%ff",
    ],
    ids=lambda path: path[:40],
)
async def test_only_the_page_and_its_files_are_served(site: Site, path: str):
    answer = await ask(site.app, "GET", path)

    assert (answer.status, answer.header("content-type")) == (404, "application/problem+json")
    assert answer.json["code"] == "NOT_FOUND"


async def test_beside_the_page_there_is_nothing(site: Site):
    assert (await ask(site.app, "GET", "/schema/x")).status == 404


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("page.js", "text/javascript"), ("swagger-ui-bundle.js", "text/javascript"), ("swagger-ui.css", "text/css")],
)
async def test_the_files_of_the_page_are_served_as_what_they_are(site: Site, name: str, media_type: str):
    answer = await ask(site.app, "GET", f"/schema/static/{name}")

    assert answer.status == 200
    assert answer.header("content-type") == f"{media_type}; charset=utf-8"
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.body == (STATIC / name).read_bytes()


@pytest.mark.parametrize("name", ["swagger-ui-bundle.js", "swagger-ui.css"])
def test_the_vendored_files_are_those_in_the_readme(name: str):
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()

    assert re.search(rf"`{re.escape(name)}` .*`{digest}`", (STATIC / "README.md").read_text(encoding="utf-8"))
