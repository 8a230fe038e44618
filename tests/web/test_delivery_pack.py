"""The delivery pack: as a page, as a PDF that other programs read back, and the page that verifies it."""

import builtins
import re
from io import BytesIO

import pypdfium2
import pytest
import zxingcpp
from pypdf import PdfReader

from tests.support_buyer import confirming
from tests.support_web import Site


def squeezed(text: str) -> str:
    """Without white space, and without the NUL that pypdf reads before each character of an OpenType font."""
    return re.sub(r"[\s\0]+", "", text)


def drawn_text(pdf: bytes) -> str:
    """The text as a second reader, that of a browser, finds it."""
    document = pypdfium2.PdfDocument(pdf)
    try:
        return squeezed("".join(page.get_textpage().get_text_range() for page in document))
    finally:
        document.close()


def qr_of(pdf: bytes) -> list[str]:
    document = pypdfium2.PdfDocument(pdf)
    try:
        return [
            code.text
            for page in document
            for code in zxingcpp.read_barcodes(page.render(scale=3).to_pil().convert("L"))
        ]
    finally:
        document.close()


async def pack(site: Site, linked, how: str):
    response = await site.operator.get(f"{linked.case}/delivery-pack", params={"format": how})
    assert response.status_code == 200, response.text
    return response


async def test_the_pdf_is_read_back_and_its_code_leads_to_the_verification(site: Site):
    linked = await confirming(site)

    response = await pack(site, linked, "pdf")
    text = squeezed("".join(page.extract_text() for page in PdfReader(BytesIO(response.content)).pages))
    (link,) = qr_of(response.content)
    page = await site.stranger.get(link.removeprefix("https://licenses.example"))

    proof = (await linked.detail())["proofs"][0]
    for expected in ("交付证明包", "Deliverypack", "CS123", "验收.pdf", proof["sha256"], "已上传交付证明", "Widget"):
        assert expected in text, expected
        assert expected in drawn_text(response.content), expected
    assert response.headers["content-disposition"].startswith("attachment")
    assert link.startswith("https://licenses.example/verify/")
    assert (page.status_code, "属实：与我们保存的记录一致" in page.text) == (200, True)
    assert proof["sha256"] in page.text


async def test_the_page_shows_a_hint_and_never_the_code(site: Site):
    linked = await confirming(site)
    detail = (await site.reader.get("/admin/v1/licenses")).json()["items"][0]
    code = (await site.operator.get(f"/admin/v1/licenses/{detail['id']}/code")).json()["code"]

    html = (await pack(site, linked, "html")).text

    assert detail["code_hint"] in html
    assert code not in html
    assert "<svg" in html


async def test_a_pack_stays_true_while_its_case_goes_on_and_not_when_facts_change(site: Site):
    linked = await confirming(site)
    (link,) = qr_of((await pack(site, linked, "pdf")).content)
    path = link.removeprefix("https://licenses.example")

    await linked.record("rejected", actor="buyer", reason="again")
    await linked.upload("more.pdf")
    later = await site.stranger.get(f"{path}?lang=en")
    await site.rt.db.write(lambda tx: tx.run("UPDATE proofs SET sha256 = $1", "0" * 64))
    changed = await site.stranger.get(f"{path}?lang=en")

    assert "what the pack says is what we hold" in later.text
    assert "more.pdf" not in later.text
    assert "have changed since" in changed.text


@pytest.mark.parametrize("path", ["x", "a.b.c", "%ff%00", "." * 20_000])
async def test_what_we_did_not_sign_is_no_pack_of_ours(site: Site, path: str):
    answer = await site.stranger.get(f"/verify/{path}?lang=en")

    assert answer.status_code == 404
    assert "no pack of ours" in answer.text


async def test_a_changed_or_foreign_statement_is_refused(site: Site):
    linked = await confirming(site)
    (link,) = qr_of((await pack(site, linked, "pdf")).content)
    path = link.removeprefix("https://licenses.example")
    head, payload, signature = path.split(".")
    swapped = "A" if payload[10] != "A" else "B"

    for other in (path[:-2], f"{head}.{payload[:10]}{swapped}{payload[11:]}.{signature}", f"{path}."):
        assert (await site.stranger.get(other)).status_code == 404, other
    site.clock.now += 11 * 366 * 86_400_000
    assert (await site.stranger.get(path)).status_code == 404


async def test_who_tries_statements_is_slowed_down_and_readers_of_true_packs_are_not(site: Site):
    linked = await confirming(site)
    (link,) = qr_of((await pack(site, linked, "pdf")).content)
    path = link.removeprefix("https://licenses.example")
    forged = f"{path[:-8]}{'A' * 8}"

    true = [(await site.stranger.get(path)).status_code for _ in range(40)]
    tried = [(await site.stranger.get(f"{forged}?lang=en")).status_code for _ in range(25)]
    refused = await site.stranger.get(f"{forged}?lang=en")
    kept_out = (await site.stranger.get(path)).status_code
    elsewhere = (
        (await site.stranger.get("/buyer/lsb_1")).status_code,
        (await site.operator.get(linked.case)).status_code,
    )
    site.clock.now += 60_000
    later = (await site.stranger.get(path)).status_code

    assert true == [200] * 40
    assert tried == [404] * 20 + [429] * 5
    assert "Too many attempts" in refused.text
    assert refused.headers["content-type"].startswith("text/html")
    assert int(refused.headers["retry-after"]) > 0
    assert refused.headers["referrer-policy"] == "no-referrer"
    assert (kept_out, elsewhere, later) == (429, (404, 200), 200)


async def test_without_the_extra_the_answer_says_what_to_install(site: Site, monkeypatch: pytest.MonkeyPatch):
    linked = await confirming(site)
    real = builtins.__import__

    def bare(name: str, *args: object, **kwargs: object) -> object:
        if name == "licensesvc.services.buyer.pack_pdf":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", bare)
    answer = await site.operator.get(f"{linked.case}/delivery-pack?format=pdf")

    assert (answer.status_code, answer.json()["code"]) == (501, "EXTRA_NOT_INSTALLED")
    assert "licensesvc[pdf]" in answer.json()["detail"]
