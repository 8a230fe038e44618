"""The way of a mail through the whole application: asked for over the admin API, sent by its outbox, received by a real server."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from licensesvc.app import create_app
from licensesvc.domain.order import OrderFacts, OrderType
from licensesvc.services.orders.receive_order import receive_line
from licensesvc.settings import Settings
from licensesvc.storage.orders import Buyer
from licensesvc.web.admin.access import CONTROL
from tests.support_edges import open_shop
from tests.support_mail import ADDRESS, SENDER, Inbox, serving
from tests.support_web import Clock, Site, make_catalog, make_order, open_test_runtime, started


class Waiting(Inbox):
    """Tells when the first mail has arrived."""

    def __init__(self):
        super().__init__()
        self.arrived = asyncio.Event()

    async def handle_DATA(self, server, session, envelope):  # noqa: N802
        answer = await super().handle_DATA(server, session, envelope)
        self.arrived.set()
        return answer


@asynccontextmanager
async def open_sold(tmp_path, inbox) -> AsyncIterator[tuple[httpx2.AsyncClient, str, str]]:
    """The application with a mail server and an order of a known buyer; an owner's client, the paths of its license and its case."""
    clock = Clock()
    async with serving(inbox) as port, open_test_runtime(tmp_path, clock) as rt:
        shop = await open_shop(rt)
        facts = OrderFacts(order_id="CS1", order_type=OrderType.NEW, marketplace_product_id="OFFI100")
        buyer = Buyer(customer_id="c-1", email=ADDRESS)
        sold = await rt.db.write(
            lambda tx: receive_line(tx, rt, shop.connection, facts, buyer=buyer, source="test", by="test")
        )
        settings = Settings(
            data_dir=str(tmp_path / "data"),
            smtp_url=f"smtp+plain://localhost:{port}",
            mail_from=SENDER,
            public_url="http://x",
        )
        app = create_app(rt, settings)

        async def as_owner(scope, receive, send):
            await app({**scope, CONTROL: True}, receive, send)

        async with (
            started(app),
            httpx2.AsyncClient(transport=httpx2.ASGITransport(as_owner), base_url="http://x") as client,
        ):
            yield (
                client,
                f"/admin/v1/licenses/{sold.license.view.public_id}",
                f"/admin/v1/supervision-cases/{sold.case.public_id}",
            )


async def test_a_mail_that_is_asked_for_arrives(tmp_path):
    inbox = Waiting()
    async with open_sold(tmp_path, inbox) as (client, path, _):
        tag = (await client.get(path)).headers["etag"]
        answer = await client.post(f"{path}/send-code", json={"reason": "lost"}, headers={"if-match": tag})
        async with asyncio.timeout(30):
            await inbox.arrived.wait()

    assert answer.status_code == 200
    assert ADDRESS not in answer.text
    assert inbox.mails[0][0].rcpt_tos == [ADDRESS]


@pytest.mark.parametrize(("language", "title"), [("zh-CN", "交付进度"), ("en", "Your order")])
async def test_a_link_that_is_asked_for_arrives_and_opens_the_page(tmp_path, language: str, title: str):
    inbox = Waiting()
    async with open_sold(tmp_path, inbox) as (client, _, case):
        wish = {"json": {"days": 3, "language": language}, "headers": {"idempotency-key": "k"}}
        answer = await client.post(f"{case}/buyer-links/mail", **wish)
        async with asyncio.timeout(30):
            await inbox.arrived.wait()
        again = await client.post(f"{case}/buyer-links/mail", **wish)
        mail = inbox.mails[0][1]
        (url,) = re.findall(r"http://x/buyer/\S+", mail.get_content())
        page = await client.get(url)
        async with asyncio.timeout(30):
            while (known := (await client.get(f"{case}/buyer-links")).json()["items"][0])["mail_unsent"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    token = url.rpartition("/")[2]
    assert (answer.status_code, answer.json()["mail_unsent"], again.json()) == (201, True, answer.json())
    assert "url" not in answer.json()
    assert token not in answer.text
    assert ADDRESS not in answer.text
    assert title in mail["subject"]
    assert (page.status_code, "CS1" in page.text) == (200, True)
    assert known["mailed_at"] is not None
    assert len(inbox.mails) == 1


async def test_without_a_mail_server_nothing_is_queued(site: Site):
    order = await make_order(site, await make_catalog(site))
    path = f"/admin/v1/licenses/{order['lines'][0]['license']}"
    tag = (await site.reader.get(path)).headers["etag"]

    answer = await site.operator.post(f"{path}/send-code", json={"reason": "lost"}, headers={"if-match": tag})

    assert (answer.status_code, answer.json()["code"]) == (409, "MAIL_NOT_CONFIGURED")
    assert (await site.rows())["outbox"] == 0


async def test_without_a_mail_server_no_link_is_made(site: Site):
    order = await make_order(site, await make_catalog(site))
    case = f"/admin/v1/supervision-cases/{order['lines'][0]['case']}"

    answer = await site.operator.post(f"{case}/buyer-links/mail", json={})

    assert (answer.status_code, answer.json()["code"]) == (409, "MAIL_NOT_CONFIGURED")
    assert ((await site.rows())["buyer_links"], (await site.rows())["outbox"]) == (0, 0)


@pytest.mark.parametrize(
    ("public_url", "buyer", "code"),
    [("", {"customer_id": "c", "email": ADDRESS}, "MAIL_NOT_CONFIGURED"), ("http://x", None, "NO_MAIL_ADDRESS")],
)
async def test_a_link_that_cannot_be_mailed_is_told_so(tmp_path, public_url: str, buyer: dict | None, code: str):
    async with open_test_runtime(tmp_path, Clock()) as rt:
        shop = await open_shop(rt)
        facts = OrderFacts(order_id="CS1", order_type=OrderType.NEW, marketplace_product_id="OFFI100")
        known = Buyer(**buyer) if buyer else None
        sold = await rt.db.write(
            lambda tx: receive_line(tx, rt, shop.connection, facts, buyer=known, source="test", by="test")
        )
        told = Settings(data_dir=str(tmp_path / "data"), smtp_url="smtp://x", mail_from=SENDER, public_url=public_url)
        app = create_app(rt, told, outbox=False)

        async def as_owner(scope, receive, send):
            await app({**scope, CONTROL: True}, receive, send)

        async with (
            started(app),
            httpx2.AsyncClient(transport=httpx2.ASGITransport(as_owner), base_url="http://x") as client,
        ):
            answer = await client.post(
                f"/admin/v1/supervision-cases/{sold.case.public_id}/buyer-links/mail", json={"days": 5}
            )

    assert (answer.status_code, answer.json()["code"]) == (409, code)
    assert ADDRESS not in answer.text
