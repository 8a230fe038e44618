"""Problem documents: the table, the handler, the request id."""

import msgspec
import pytest
from litestar import get
from litestar.exceptions import HTTPException
from litestar.params import FromPath

from licensesvc.domain import errors
from licensesvc.domain.errors import DomainError, IllegalTransition, InProgress
from licensesvc.storage.port import ConstraintViolated, OutcomeUnknown, StorageUnavailable
from licensesvc.web.problems import TABLE, Problem
from tests.support_web import Site, open_site


def domain_errors() -> list[type[DomainError]]:
    return [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, DomainError) and kind is not DomainError
    ]


@pytest.mark.parametrize("kind", domain_errors())
def test_every_domain_error_stands_in_the_table(kind: type[DomainError]):
    assert 400 <= TABLE[kind.code].status < 500


@pytest.fixture
def raised() -> dict[str, Exception]:
    return {
        "domain": IllegalTransition("PAID", "accepted"),
        "progress": InProgress(),
        "unmapped": DomainError("internal-detail"),
        "unique": ConstraintViolated("unique", "policies.name"),
        "check": ConstraintViolated("check", "seats_never_oversold"),
        "unavailable": StorageUnavailable("disk-detail"),
        "unknown": OutcomeUnknown("disk-detail"),
        "teapot": HTTPException(status_code=418, detail="secret-detail"),
        "gone": HTTPException(status_code=500, detail="secret-detail"),
        "bug": RuntimeError("secret-detail"),
    }


@pytest.fixture
async def site(tmp_path, raised):
    @get("/raise/{name:str}", sync_to_thread=False)
    def fail(name: FromPath[str]) -> None:
        raise raised[name]

    async with open_site(tmp_path, more=[fail]) as opened:
        yield opened


@pytest.mark.parametrize(
    ("name", "status", "code", "headers"),
    [
        ("domain", 409, "ILLEGAL_TRANSITION", {}),
        ("progress", 409, "IN_PROGRESS", {"retry-after": "1"}),
        ("unmapped", 500, "INTERNAL_ERROR", {}),
        ("unique", 409, "ALREADY_EXISTS", {}),
        ("check", 500, "INTERNAL_ERROR", {}),
        ("unavailable", 503, "UNAVAILABLE", {"retry-after": "1"}),
        ("unknown", 503, "UNAVAILABLE", {"retry-after": "1"}),
        ("teapot", 400, "MALFORMED_REQUEST", {}),
        ("gone", 500, "INTERNAL_ERROR", {}),
        ("bug", 500, "INTERNAL_ERROR", {}),
    ],
)
async def test_whatever_is_raised_becomes_a_problem(
    site: Site, name: str, status: int, code: str, headers: dict[str, str]
):
    response = await site.stranger.get(f"/raise/{name}")

    problem = msgspec.json.decode(response.content, type=Problem)
    assert (response.status_code, problem.status, problem.code) == (status, status, code)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers.items() >= headers.items()
    assert problem.request_id == response.headers["x-request-id"]
    assert "detail" not in problem.detail
    assert "policies" not in response.text


async def test_every_type_leads_to_what_it_means(site: Site):
    for code, kind in TABLE.items():
        response = await site.stranger.get(f"/problems/{code.lower().replace('_', '-')}")
        assert response.json() == {"code": code, "status": kind.status, "title": kind.title}


async def test_an_unknown_type_is_not_found(site: Site):
    assert (await site.stranger.get("/problems/no-such-thing")).status_code == 404


@pytest.mark.parametrize("path", ["/nowhere", "/admin/v1/nowhere", "/admin/v1/policies/a/b", "/%00", "/%ff%fe"])
async def test_an_unknown_path_is_a_problem_too(site: Site, path: str):
    response = await site.owner.get(path)

    problem = response.json()
    assert (response.status_code, problem["code"]) == (404, "NOT_FOUND")
    assert problem["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "BREW"])
async def test_a_wrong_method_names_the_right_ones(site: Site, method: str):
    response = await site.owner.request(method, "/admin/v1/policies")

    assert (response.status_code, response.json()["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert {"GET", "POST"} <= set(response.headers["allow"].split(", "))


@pytest.mark.parametrize(
    ("given", "echoed"),
    [("abc-123", True), ("A" * 64, True), ("A" * 65, False), ("a b", False), ("<script>", False), ("", False)],
)
async def test_a_request_id_is_echoed_if_it_is_harmless(site: Site, given: str, echoed: bool):
    response = await site.stranger.get("/problems/forbidden", headers={"x-request-id": given})

    assert (response.headers["x-request-id"] == given) is echoed
    assert len(response.headers["x-request-id"]) >= 7
