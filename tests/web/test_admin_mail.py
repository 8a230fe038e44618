"""The way of a mail through the whole application: asked for over the admin API, sent by its outbox, received by a real server."""

import asyncio

import httpx2

from licensesvc.app import create_app
from licensesvc.domain.order import OrderFacts, OrderType
from licensesvc.services.receive_order import receive_line
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


async def test_a_mail_that_is_asked_for_arrives(tmp_path):
    inbox, clock = Waiting(), Clock()
    async with serving(inbox) as port, open_test_runtime(tmp_path, clock) as rt:
        shop = await open_shop(rt)
        facts = OrderFacts(order_id="CS1", order_type=OrderType.NEW, marketplace_product_id="OFFI100")
        buyer = Buyer(customer_id="c-1", email=ADDRESS)
        sold = await rt.db.write(
            lambda tx: receive_line(tx, rt, shop.connection, facts, buyer=buyer, source="test", by="test")
        )
        settings = Settings(
            data_dir=str(tmp_path / "data"), smtp_url=f"smtp+plain://localhost:{port}", mail_from=SENDER
        )
        app = create_app(rt, settings)

        async def as_owner(scope, receive, send):
            await app({**scope, CONTROL: True}, receive, send)

        path = f"/admin/v1/licenses/{sold.license.view.public_id}"
        async with (
            started(app),
            httpx2.AsyncClient(transport=httpx2.ASGITransport(as_owner), base_url="http://x") as client,
        ):
            tag = (await client.get(path)).headers["etag"]
            answer = await client.post(f"{path}/send-code", json={"reason": "lost"}, headers={"if-match": tag})
            async with asyncio.timeout(30):
                await inbox.arrived.wait()

        assert answer.status_code == 200
        assert ADDRESS not in answer.text
        assert inbox.mails[0][0].rcpt_tos == [ADDRESS]


async def test_without_a_mail_server_nothing_is_queued(site: Site):
    order = await make_order(site, await make_catalog(site))
    path = f"/admin/v1/licenses/{order['lines'][0]['license']}"
    tag = (await site.reader.get(path)).headers["etag"]

    answer = await site.operator.post(f"{path}/send-code", json={"reason": "lost"}, headers={"if-match": tag})

    assert (answer.status_code, answer.json()["code"]) == (409, "MAIL_NOT_CONFIGURED")
    assert (await site.rows())["outbox"] == 0
