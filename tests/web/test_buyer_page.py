"""The buyer's page without a browser: what it shows, what it lets happen, and what it keeps to itself."""

import re

import pytest

from tests.support_buyer import PDF, PNG, Linked, claiming, confirming, link_to, open_linked
from tests.support_web import Site

FLOW_STARTS = {"claim": claiming, "accept": confirming}


def heads(response) -> dict[str, str]:
    return {name.lower(): value for name, value in response.headers.items()}


async def shown(linked: Linked, query: str = "") -> str:
    response = await linked.site.stranger.get(linked.page + query)
    assert response.status_code == 200, response.text
    return response.text


async def test_a_claim_is_asked_for_twice_and_recorded_as_the_buyers_word(site: Site):
    linked = await claiming(site)

    assert "PL-1" not in await shown(linked)
    question = await shown(linked, "?ask=claim&lang=en")
    assert "no longer possible" in question
    before = await linked.detail()
    done = await linked.send("claim")
    detail = await linked.detail()

    assert before["node"] == "CLAIMING"
    assert (done.status_code, done.headers["location"]) == (303, f"{linked.page}?lang=en&done=1")
    assert detail["node"] == "ACTIVATING"
    last = detail["events"][-1]
    assert (last["event"], last["actor"], last["source"], last["confirmed_at"]) == (
        "claimed",
        "buyer",
        "buyer_page",
        None,
    )
    assert detail["unconfirmed_since"] is not None
    code = await linked.send("show_code")
    assert (code.status_code, "PL-1" in code.text) == (200, True)
    assert "license.code_shown" in await site.audit_kinds()


async def test_the_code_is_not_shown_before_the_claim(site: Site):
    linked = await claiming(site)

    response = await linked.send("show_code")
    answer = await site.stranger.post(
        f"{linked.page}/actions", json={"action": "show_code", "version": (await linked.detail())["version"]}
    )

    assert (response.status_code, answer.status_code) == (409, 409)
    assert "PL-1" not in response.text + answer.text


async def test_a_buyer_rejects_with_files_and_then_accepts(site: Site):
    linked = await confirming(site)

    files = [("files", ("<img src=x>.png", PNG, "text/html")), ("files", ("../../b.pdf", PDF, "x/y"))]
    rejected = await linked.send("reject", reason="  截图不对\r\nwrong  ", files=files)
    after = await linked.detail()
    await linked.upload("again.pdf")
    accepted = await linked.send("accept")
    detail = await linked.detail()

    assert (rejected.status_code, accepted.status_code) == (303, 303)
    assert after["events"][-1]["reason"] == "截图不对\nwrong"
    assert [(proof["kind"], proof["filename"], proof["media_type"]) for proof in after["proofs"][1:]] == [
        ("other", "<img src=x>.png", "image/png"),
        ("other", "b.pdf", "application/pdf"),
    ]
    assert (detail["node"], detail["acceptance_confirmed_at"]) == ("ACCEPTED", None)
    assert "&lt;img src=x&gt;.png" in await shown(linked)


async def test_a_buyer_submits_the_system_code(site: Site):
    linked = await open_linked(site, "LICENSE_1_0_SYSTEM_CODE")

    empty = await linked.send("submit_code", buyer_code="   ")
    sent = await linked.send("submit_code", buyer_code="HW-0042")
    told = await site.operator.get(f"{linked.case}/buyer-code")

    assert (empty.status_code, 'href="#buyer_code"' in empty.text) == (422, True)
    assert (sent.status_code, told.json()) == (303, {"buyer_code": "HW-0042"})
    assert "HW-0042" not in await shown(linked)


@pytest.mark.parametrize(("action", "again"), [("claim", claiming), ("accept", confirming)])
async def test_a_double_click_and_a_stale_page_change_nothing(site: Site, action: str, again):
    linked = await again(site)
    version = (await linked.detail())["version"]

    first = await linked.send(action, version)
    second = await linked.send(action, version)
    stale = await linked.send("reject", version, reason="late")

    assert (first.status_code, second.status_code, stale.status_code) == (303, 409, 409)
    assert "Already done" in second.text
    events = (await linked.detail())["events"]
    assert sum(event["source"] == "buyer_page" for event in events) == 1


async def test_a_get_changes_nothing(site: Site):
    linked = await confirming(site)
    rows, detail = await site.rows(), await linked.detail()

    for query in ("", "?ask=accept", "?ask=reject", "?ask=show_code", "?ask=nonsense", "?action=accept&version=5"):
        await shown(linked, query)
    await site.stranger.get(f"{linked.page}/case")
    await site.stranger.get(f"{linked.page}/proofs/{detail['proofs'][0]['id']}")

    assert (await site.rows(), await linked.detail()) == (rows, detail)


async def test_every_answer_is_closed(site: Site):
    linked = await confirming(site)
    proof = (await linked.detail())["proofs"][0]["id"]
    answers = [
        await site.stranger.get(linked.page),
        await site.stranger.get(f"{linked.page}?ask=reject"),
        await site.stranger.get(f"{linked.page[:-1]}"),
        await site.stranger.get(f"{linked.page}/case"),
        await site.stranger.get("/buyer/x/case"),
        await site.stranger.get(f"{linked.page}/proofs/{proof}"),
        await linked.send("accept", 1),
        await linked.send("accept"),
    ]

    for answer in answers:
        told = heads(answer)
        assert told["referrer-policy"] == "no-referrer"
        assert told["x-robots-tag"].startswith("noindex")
        assert told["cache-control"] == "no-store"
        assert "set-cookie" not in told
        if told.get("content-type", "").startswith("text/html"):
            policy = told["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "script-src" not in policy
            assert "unsafe" not in policy
            assert "<script" not in answer.text
    assert answers[5].headers["content-disposition"].startswith("attachment")


async def test_tokens_that_open_nothing_look_alike(site: Site):
    linked = await confirming(site)
    await site.operator.delete((revoked := await link_to(site, linked.case)).link)
    token = linked.page.rsplit("/", 1)[1]
    swapped = "A" if token[-5] != "A" else "B"
    pages = {
        "changed": f"/buyer/{token[:-5]}{swapped}{token[-4:]}",
        "truncated": f"/buyer/{token[:-1]}",
        "longer": f"/buyer/{token}x",
        "admin token": f"/buyer/{site.tokens['owner']}",
        "revoked": revoked.page,
        "bad bytes": "/buyer/%ff%00",
    }
    answers = {name: await site.stranger.get(page) for name, page in pages.items()}
    posts = [await site.stranger.post(page, data={"action": "accept", "version": "5"}) for page in pages.values()]
    site.clock.now += 31 * 86_400_000
    answers["expired"] = await site.stranger.get(linked.page)

    assert {answer.status_code for answer in [*answers.values(), *posts]} == {404}
    assert len({answer.text for answer in answers.values()}) == 1
    assert token not in answers["changed"].text


async def test_a_link_opens_no_other_case(site: Site):
    mine = await confirming(site)
    other = await confirming(site, "ONLINE_LICENSE", order_id="CS999")
    proof = (await other.detail())["proofs"][0]["id"]

    answer = await site.stranger.get(f"{mine.page}/proofs/{proof}")

    assert answer.status_code == 404
    assert "CS999" not in await shown(mine)


async def test_who_tries_links_is_slowed_down(site: Site):
    codes = [(await site.stranger.get(f"/buyer/lsb_{number}")).status_code for number in range(25)]

    assert codes[:20] == [404] * 20
    assert codes[-1] == 429


async def test_only_a_hash_of_the_token_is_kept(site: Site):
    linked = await confirming(site)
    token = linked.page.rsplit("/", 1)[1]

    assert len(token) > 43
    for path in site.rt.proofs_dir.parent.rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes(), path


async def test_a_case_has_a_bounded_number_of_live_links(site: Site):
    linked = await open_linked(site, "GENERAL")
    for _ in range(19):
        last = await link_to(site, linked.case)
    refused = await site.operator.post(f"{linked.case}/buyer-links", json={"days": 1})
    await site.operator.delete(last.link)
    taken = await site.operator.post(f"{linked.case}/buyer-links", json={"days": 1})

    assert (refused.status_code, taken.status_code) == (422, 201)
    assert len((await site.reader.get(f"{linked.case}/buyer-links")).json()["items"]) == 21


async def test_the_same_as_json(site: Site):
    linked = await confirming(site)

    case = (await site.stranger.get(f"{linked.page}/case")).json()
    bad = await site.stranger.post(f"{linked.page}/actions", json={"action": "reject", "version": case["version"]})
    done = await site.stranger.post(f"{linked.page}/actions", json={"action": "accept", "version": case["version"]})
    again = await site.stranger.post(f"{linked.page}/actions", json={"action": "accept", "version": case["version"]})

    assert case["actions"] == ["accept", "reject", "show_code"]
    assert (bad.status_code, bad.json()["code"]) == (422, "INVALID_PARAMETER")
    assert (done.status_code, done.json()["case"]["node"]) == (200, "ACCEPTED")
    assert (again.status_code, again.json()["code"]) == (412, "STALE_VERSION")


BOUNDARY = {"content-type": "multipart/form-data; boundary=b"}


def part(head: str, body: bytes) -> bytes:
    return f"--b\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + body + b"\r\n"


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"action=accept&version=%ff", {"content-type": "application/x-www-form-urlencoded"}),
        (b"action=accept&version=1%00", {"content-type": "application/x-www-form-urlencoded"}),
        (b"action=accept&action=claim&version=1", {"content-type": "application/x-www-form-urlencoded"}),
        (b"action=accept&version=-1", {"content-type": "application/x-www-form-urlencoded"}),
        (b"action=accept&version=" + "９".encode(), {"content-type": "application/x-www-form-urlencoded"}),
        (b"a=1&" * 50, {"content-type": "application/x-www-form-urlencoded"}),
        (b"reason=" + b"x" * 100_000, {"content-type": "application/x-www-form-urlencoded"}),
        (b"{}", {"content-type": "application/json"}),
        (b"", {"content-type": "multipart/form-data"}),
        (b"--b\r\n", BOUNDARY),
        (part('name="action"', b"accept"), BOUNDARY),
        (part('name="action"', b"\xff") + b"--b--\r\n", BOUNDARY),
        (part('name="reason"', b"x" * 100_000) + b"--b--\r\n", BOUNDARY),
        (part('name="files"; filename="a"', PDF) * 6 + b"--b--\r\n", BOUNDARY),
    ],
)
async def test_bad_forms_are_refused_kindly(site: Site, body: bytes, headers: dict[str, str]):
    linked = await confirming(site)
    before = await site.rows()

    answer = await site.stranger.post(linked.page, content=body, headers=headers)

    assert 400 <= answer.status_code < 500, answer.status_code
    assert heads(answer)["content-type"].startswith("text/html")
    assert await site.rows() == before


@pytest.mark.parametrize(
    ("fields", "files", "field"),
    [
        ({"reason": ""}, None, "reason"),
        ({"reason": "x" * 1_001}, None, "reason"),
        ({"reason": "ok"}, [("files", ("a.exe", b"MZ\x00\x01", "application/pdf"))], "files"),
        ({"reason": "ok"}, [("files", ("a.pdf", b"", "application/pdf"))], "files"),
    ],
)
async def test_a_rejection_that_lacks_something_is_asked_again(site: Site, fields, files, field: str):
    linked = await confirming(site)

    answer = await linked.send("reject", files=files, **fields)

    assert answer.status_code == 422
    assert f'href="#{field}"' in answer.text
    assert (await linked.detail())["node"] == "BUYER_CONFIRMING"


@pytest.mark.parametrize(
    ("query", "header", "language"),
    [
        ("", "", "zh-CN"),
        ("", "en-GB,en;q=0.9,zh;q=0.1", "en"),
        ("", "de, zh;q=0.8, en;q=0.5", "zh-CN"),
        ("", "de, en;q=junk, ;;;", "zh-CN"),
        ("?lang=en", "zh-CN", "en"),
        ("?lang=xx", "en", "en"),
    ],
)
async def test_the_language_is_the_one_asked_for(site: Site, query: str, header: str, language: str):
    linked = await confirming(site)

    answer = await site.stranger.get(linked.page + query, headers={"accept-language": header})

    assert re.search(r'<html lang="([^"]+)">', answer.text)[1] == language
