"""Supervision cases over the admin API: events by hand, proofs, the way to completion."""

import hashlib
import stat

import pytest

from tests.support_web import Site, make_catalog, make_order

PDF = b"%PDF-1.7 a proof"
PNG = b"\x89PNG\r\n\x1a\n..."
JPEG = b"\xff\xd8\xff\xe0..."
TEXT = "验收通过\r\naccepted\n".encode()
UPLOAD = {"kind": "acceptance", "filename": "验收.pdf"}


async def open_case(site: Site, delivery_kind: str = "LICENSE_1_0") -> str:
    code = {"license_code": "PL-1"} if delivery_kind == "LICENSE_2_0" else {}
    order = await make_order(site, await make_catalog(site, delivery_kind=delivery_kind), **code)
    return f"/admin/v1/supervision-cases/{order['lines'][0]['case']}"


async def record(site: Site, case: str, event: str, **more: str) -> dict:
    response = await site.operator.post(f"{case}/events", json={"event": event, **more})
    assert response.status_code == 201, response.text
    return response.json()


async def upload(site: Site, case: str, content: bytes = PDF, media_type: str = "application/pdf", **params: str):
    return await site.operator.post(
        f"{case}/proofs", content=content, params={**UPLOAD, **params}, headers={"content-type": media_type}
    )


async def proving(site: Site, delivery_kind: str = "LICENSE_1_0") -> str:
    case = await open_case(site, delivery_kind)
    await record(site, case, "delivered", actor="seller")
    await record(site, case, "activated", actor="software")
    return case


async def test_a_case_goes_all_the_way_with_one_rejection(site: Site):
    case = await proving(site)

    confirming = (await upload(site, case)).json()
    rejected = await record(site, case, "rejected", actor="buyer", reason="wrong screenshot")
    again = (await upload(site, case, PNG, "image/png", filename="b.png", kind="other")).json()
    await record(site, case, "accepted", actor="buyer")
    completed = await record(site, case, "completed", actor="marketplace")

    assert (confirming["node"], confirming["waits_for"]) == ("BUYER_CONFIRMING", "buyer")
    assert (rejected["node"], rejected["rejections"], rejected["events"][-1]["reason"]) == (
        "PROVING",
        1,
        "wrong screenshot",
    )
    assert again["node"] == "BUYER_CONFIRMING"
    assert (completed["node"], completed["waits_for"], completed["settlement_month"]) == ("COMPLETED", None, "2026-12")
    assert [step["event"] for step in completed["events"]] == [
        "started",
        "delivered",
        "activated",
        "proof_uploaded",
        "rejected",
        "proof_uploaded",
        "accepted",
        "completed",
    ]
    assert [proof["filename"] for proof in completed["proofs"]] == ["验收.pdf", "b.png"]


async def test_a_license_2_0_case_is_accepted_with_its_proof(site: Site):
    case = await proving(site, "LICENSE_2_0")

    first = (await upload(site, case)).json()
    second = (await upload(site, case, PNG, "image/png")).json()

    assert (first["node"], second["node"]) == ("ACCEPTED", "ACCEPTED")
    assert len(second["proofs"]) == 2


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (PDF, "application/pdf"),
        (PNG, "image/png"),
        (JPEG, "image/jpeg"),
        (TEXT, "text/plain"),
        (TEXT, "text/plain; charset=utf-8"),
    ],
)
async def test_a_proof_is_stored_by_its_contents_and_private(site: Site, content: bytes, media_type: str):
    case = await proving(site)

    response = await upload(site, case, content, media_type)

    digest = hashlib.sha256(content).hexdigest()
    file = site.rt.proofs_dir / digest[:2] / digest
    proof = response.json()["proofs"][0]
    assert (proof["sha256"], proof["size"], proof["media_type"]) == (digest, len(content), media_type.partition(";")[0])
    assert file.read_bytes() == content
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path for path in site.rt.proofs_dir.rglob("*") if path.is_file()] == [file]


async def test_the_same_file_twice_is_stored_once(site: Site):
    case = await proving(site)

    await upload(site, case)
    response = await upload(site, case, kind="requirement")

    assert [proof["kind"] for proof in response.json()["proofs"]] == ["acceptance", "requirement"]
    assert len([path for path in site.rt.proofs_dir.rglob("*") if path.is_file()]) == 1


async def test_an_upload_under_an_idempotency_key_is_one_proof(site: Site):
    case = await proving(site)
    headers = {"idempotency-key": "k", "content-type": "application/pdf"}

    first = await site.operator.post(f"{case}/proofs", content=PDF, params=UPLOAD, headers=headers)
    second = await site.operator.post(f"{case}/proofs", content=PDF, params=UPLOAD, headers=headers)

    assert second.content == first.content
    assert (await site.rows())["proofs"] == 1


@pytest.mark.parametrize(
    ("content", "media_type", "params", "code"),
    [
        (b"", "application/pdf", {}, "INVALID_PARAMETER"),
        (PNG, "application/pdf", {}, "INVALID_PARAMETER"),
        (b"<script>", "image/png", {}, "INVALID_PARAMETER"),
        (b"a\0b", "text/plain", {}, "INVALID_PARAMETER"),
        (b"\xff\xfe", "text/plain", {}, "INVALID_PARAMETER"),
        (PDF, "text/html", {}, "UNSUPPORTED_MEDIA_TYPE"),
        (PDF, "application/pdf; charset", {"kind": "selfie"}, "MALFORMED_REQUEST"),
        (PDF, "application/pdf", {"filename": ""}, "MALFORMED_REQUEST"),
        (PDF, "application/pdf", {"filename": "../../etc/passwd"}, "MALFORMED_REQUEST"),
        (PDF, "application/pdf", {"filename": "a\0b"}, "MALFORMED_REQUEST"),
        (PDF, "application/pdf", {"filename": "a\n"}, "MALFORMED_REQUEST"),
        (PDF, "application/pdf", {"filename": "n" * 256}, "MALFORMED_REQUEST"),
        (PDF + bytes(20 * 1024 * 1024), "application/pdf", {}, "BODY_TOO_LARGE"),
    ],
)
async def test_what_is_no_proof_leaves_nothing(site: Site, content: bytes, media_type: str, params: dict, code: str):
    case = await proving(site)
    rows = await site.rows()

    response = await upload(site, case, content, media_type, **params)

    assert response.json()["code"] == code
    assert await site.rows() == rows
    assert list(site.rt.proofs_dir.iterdir()) == []


async def test_a_proof_before_the_activation_is_refused(site: Site):
    case = await open_case(site)

    response = await upload(site, case)

    assert (response.status_code, response.json()["code"]) == (409, "ILLEGAL_TRANSITION")
    assert (await site.rows())["proofs"] == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"event": "rejected", "actor": "buyer", "reason": "r"}, 409, "ILLEGAL_TRANSITION"),
        ({"event": "accepted", "actor": "buyer"}, 409, "FORBIDDEN_ACTOR"),
        ({"event": "delivered", "actor": "buyer"}, 409, "FORBIDDEN_ACTOR"),
        ({"event": "delivered", "at": "2030-01-01T00:00:00Z"}, 422, "INVALID_PARAMETER"),
        ({"event": "delivered", "at": "yesterday"}, 422, "INVALID_PARAMETER"),
        ({"event": "delivered", "amount": 1}, 422, "INVALID_PARAMETER"),
        ({"event": "delivered", "buyer_code": "x"}, 422, "INVALID_PARAMETER"),
        ({"event": "delivered", "enabled_at": "2026-01-01T00:00:00Z"}, 422, "INVALID_PARAMETER"),
        ({"event": "delivered", "resource_order": "CS 1"}, 422, "INVALID_BODY"),
        ({"event": "refund_asked", "actor": "buyer", "reason": "r"}, 422, "INVALID_PARAMETER"),
        ({"event": "refund_asked", "reason": "r", "amount": 2, "paid": 1}, 422, "INVALID_PARAMETER"),
        ({"event": "refund_asked", "reason": "r", "amount": 0, "paid": 1}, 422, "INVALID_BODY"),
        ({"event": "appealed", "actor": "seller"}, 422, "INVALID_PARAMETER"),
        ({"event": "appealed", "actor": "software", "reason": "r"}, 409, "FORBIDDEN_ACTOR"),
        ({"event": "ruled_continue", "reason": "r"}, 409, "ILLEGAL_TRANSITION"),
        ({"event": "reopened", "reason": "r"}, 409, "ILLEGAL_TRANSITION"),
        ({"event": "delivered", "reason": " \t"}, 422, "INVALID_BODY"),
        ({"event": "exploded"}, 422, "INVALID_BODY"),
        ({"event": "delivered", "actor": "nobody"}, 422, "INVALID_BODY"),
        ({"event": "delivered", "reason": ""}, 422, "INVALID_BODY"),
        ({"event": "delivered", "node": "COMPLETED"}, 422, "INVALID_BODY"),
    ],
)
async def test_an_event_that_does_not_fit_changes_nothing(site: Site, body: dict, status: int, code: str):
    case = await open_case(site)
    before = (await site.rows(), (await site.reader.get(case)).json())

    response = await site.operator.post(f"{case}/events", json=body)

    assert (response.status_code, response.json()["code"]) == (status, code)
    assert (await site.rows(), (await site.reader.get(case)).json()) == before


async def test_a_rejection_needs_a_reason(site: Site):
    case = await proving(site)
    await upload(site, case)

    response = await site.operator.post(f"{case}/events", json={"event": "rejected", "actor": "buyer"})

    assert (response.status_code, response.json()["code"]) == (422, "INVALID_PARAMETER")


async def test_cases_are_listed_by_node(site: Site):
    await open_case(site)

    for node, count in (("DELIVERING", 1), ("COMPLETED", 0)):
        items = (await site.reader.get("/admin/v1/supervision-cases", params={"node": node})).json()["items"]
        assert len(items) == count
    wrong = await site.reader.get("/admin/v1/supervision-cases", params={"node": "NOWHERE"})
    assert (wrong.status_code, wrong.json()["errors"][0]["parameter"]) == (400, "node")
