"""The buyer's page in a real Chromium: by keyboard alone, on a phone, with axe-core, with hostile names, in both languages.

Screenshots go to a temporary directory, or to the one that LICENSESVC_SCREENSHOTS names.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn

from licensesvc.services.buyer.delivery_pack import delivery_pack
from licensesvc.web.buyer import pages
from licensesvc.web.request_ids import RequestIds
from tests.support_buyer import PDF, Linked, claiming, confirming, open_linked
from tests.support_web import Site

playwright_api = pytest.importorskip("playwright.async_api", reason="needs playwright, which drives Chromium")
axe_api = pytest.importorskip("axe_playwright_python.async_playwright", reason="needs axe-playwright-python")
Browser, Page = playwright_api.Browser, playwright_api.Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install -y chromium fonts-noto-cjk")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1100, "height": 900}


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with playwright_api.async_playwright() as playwright:
        try:
            opened = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        except playwright_api.Error as error:
            pytest.skip(f"{CHROMIUM} cannot be launched: {error.message.splitlines()[0]}")
        yield opened
        await opened.close()


@pytest.fixture
async def served(site: Site) -> AsyncIterator[str]:
    """The application behind a socket; its base URL."""
    server = uvicorn.Server(uvicorn.Config(RequestIds(site.app), port=0, lifespan="off", log_config=None))
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # uvicorn tells of its start by this flag only
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await task


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    directory = Path(os.environ.get("LICENSESVC_SCREENSHOTS") or tmp_path / "screenshots")
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@asynccontextmanager
async def opened(browser: Browser, size: dict, **more: object) -> AsyncIterator[Page]:
    context = await browser.new_context(viewport=size, **more)
    yield await context.new_page()
    await context.close()


async def tab_to(page: Page, selector: str, most: int = 40) -> None:
    """Press Tab until what the selector means has the focus, which must be visible then."""
    for _ in range(most):
        await page.keyboard.press("Tab")
        if await page.evaluate("s => document.activeElement.matches(s)", selector):
            style = "getComputedStyle(document.activeElement).outlineStyle"
            assert await page.evaluate(style) != "none", selector
            return
    raise AssertionError(f"{selector} cannot be reached by keyboard")


async def press(page: Page, selector: str) -> None:
    await tab_to(page, selector)
    async with page.expect_navigation():
        await page.keyboard.press("Enter")


async def test_claim_and_code_by_keyboard_alone(site: Site, served: str, browser: Browser):
    linked = await claiming(site)
    async with opened(browser, DESK) as page:
        await page.goto(f"{served}{linked.page}?lang=en")
        await press(page, "a[href*='ask=claim']")
        await press(page, "button[type=submit]")
        assert "Recorded." in await page.inner_text("main")
        assert (await linked.detail())["node"] == "ACTIVATING"
        await press(page, "a[href*='ask=show_code']")
        await press(page, "button[type=submit]")
        assert await page.inner_text(".code") == "PL-1"


async def test_reject_with_a_file_and_accept_by_keyboard_alone(
    site: Site, served: str, browser: Browser, tmp_path: Path
):
    linked = await confirming(site)
    (file := tmp_path / "截图.pdf").write_bytes(PDF)
    async with opened(browser, DESK) as page:
        await page.goto(f"{served}{linked.page}?lang=zh-CN")
        await press(page, "a[href*='ask=reject']")
        await press(page, "button[type=submit]")
        assert "请填写原因" in await page.inner_text("[role=alert]")
        await tab_to(page, "#reason")
        await page.keyboard.type("有效期截图不对")
        await tab_to(page, "#files")
        await page.set_input_files("#files", file)  # which key opens the dialog is up to the browser
        await press(page, "button[type=submit]")
        detail = await linked.detail()
        assert (detail["events"][-1]["reason"], detail["proofs"][-1]["filename"]) == ("有效期截图不对", "截图.pdf")
        await linked.upload("again.pdf")
        await page.reload()
        await press(page, "a[href*='ask=accept']")
        await press(page, "button[type=submit]")
        assert "已验收" in await page.inner_text("main")
    assert (await linked.detail())["node"] == "ACCEPTED"


async def states(site: Site) -> dict[str, str]:
    """Every state that a page has, by the path that shows it."""
    claim = await claiming(site)
    confirm = await confirming(site, order_id="CS-A")
    await confirm.record("rejected", actor="buyer", reason="截图不对 / wrong screenshot")
    await confirm.upload("evidence.pdf")
    submit = await open_linked(site, "LICENSE_1_0_HARDWARE_CODE", order_id="CS-B")
    refund = await open_linked(site, "GENERAL", order_id="CS-C")
    await refund.record("refund_asked", actor="buyer", reason="too late", amount=100, paid=100)
    ended = await confirming(site, "ONLINE_LICENSE", order_id="CS-D")
    await ended.record("accepted", actor="buyer")
    await ended.record("completed", actor="marketplace")
    case_id = ended.case.rsplit("/", 1)[1]
    pack = await site.rt.db.read(lambda tx: delivery_pack(tx, site.rt, case_id))
    return {
        "claiming": claim.page,
        "ask-claim": f"{claim.page}?ask=claim",
        "confirming": f"{confirm.page}?done=1",
        "ask-accept": f"{confirm.page}?ask=accept",
        "ask-reject": f"{confirm.page}?ask=reject",
        "ask-code": f"{confirm.page}?ask=show_code",
        "ask-submit": f"{submit.page}?ask=submit_code",
        "refund": refund.page,
        "completed": ended.page,
        "gone": "/buyer/nothing",
        "unknown-pack": "/verify/nothing",
        "genuine-pack": f"/verify/{pack.statement}",
        "pack": f"{ended.case}/delivery-pack?format=html",
    }


def in_language(path: str, lang: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}lang={lang}"


@pytest.mark.parametrize(("lang", "scheme"), [("zh-CN", "light"), ("en", "dark")])
async def test_every_state_is_accessible_and_fits_a_phone(
    site: Site, served: str, browser: Browser, kept: Path, lang: str, scheme: str
):
    axe = axe_api.Axe()
    faults = {}
    async with opened(browser, PHONE, color_scheme=scheme) as page:

        async def look(name: str) -> None:
            result = await axe.run(page)
            if result.violations_count:
                faults[name] = result.generate_report()
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= PHONE["width"], (name, wide)
            shown = await page.evaluate("document.documentElement.lang")
            assert shown == ("zh-CN" if name == "pack" else lang)  # a pack is one document in both
            await page.screenshot(path=kept / f"{name}.{lang}.png", full_page=True)

        await page.set_extra_http_headers({"authorization": f"Bearer {site.tokens['operator']}"})  # for the pack
        found = await states(site)
        for name, path in found.items():
            await page.goto(served + in_language(path, lang))
            await look(name)
        await page.goto(served + in_language(found["ask-reject"], lang))
        await page.click("button[type=submit]")
        await look("reject-errors")
        await page.goto(served + in_language(found["ask-code"], lang))
        await page.click("button[type=submit]")
        await look("code")
        await page.goto(served + in_language(found["ask-accept"], lang))
        await page.evaluate("document.querySelector('[name=version]').value = '1'")
        await page.click("button[type=submit]")
        await look("changed")
    assert not faults, "\n".join(faults.values())


CANARY = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>'


async def hostile(site: Site) -> Linked:
    """A case with a canary in every field that a stranger or the marketplace can set."""
    linked = await confirming(site, order_id="CS<script>window.hit=1</script>")
    await linked.record("rejected", actor="buyer", reason=CANARY)
    await linked.upload(f"{CANARY.replace('/', '')}.pdf")
    await site.rt.db.write(lambda tx: tx.run("UPDATE products SET name = $1", CANARY))
    return linked


async def hit(browser: Browser, address: str) -> bool:
    async with opened(browser, DESK) as page:
        await page.goto(address, wait_until="load")
        assert "window.hit" in await page.content()
        return await page.evaluate("window.hit === 1")


async def test_hostile_names_never_run(site: Site, served: str, browser: Browser, monkeypatch: pytest.MonkeyPatch):
    linked = await hostile(site)
    addresses = [f"{served}{linked.page}{query}" for query in ("", "?ask=accept", "?ask=reject")]

    escaped = [await hit(browser, address) for address in addresses]
    monkeypatch.setattr(pages, "_JINJA", pages._JINJA.overlay(autoescape=False))
    unescaped = [await hit(browser, address) for address in addresses]
    monkeypatch.setattr(pages, "HEADERS", pages.CLOSED)
    open_to_all = await hit(browser, addresses[0])

    assert escaped == [False, False, False]
    assert unescaped == [False, False, False], "the policy alone stops them"
    assert open_to_all, "without escaping and policy the canary runs, so the test can fail"
