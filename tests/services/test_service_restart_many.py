"""Restarting many messages within bounds, and trying given-up work again. On both engines."""

import asyncio

import msgspec
import pytest

from licensesvc.domain.errors import InvalidParameter, NotFound, NotRestartable
from licensesvc.domain.instants import DAY
from licensesvc.domain.messages import MessageState
from licensesvc.marketplace.huawei.client import MarketplaceUnreachable
from licensesvc.services.orders.notify_order import OUTBOX_KIND, OrderQuery
from licensesvc.services.outbox_worker import OutboxWorker
from licensesvc.services.restarts import restart_many as many
from licensesvc.services.restarts import retry_outbox
from licensesvc.services.restarts.restart_many import RestartMany, Undone, restart_many
from licensesvc.storage import outbox
from tests.services.test_service_messages import keep
from tests.services.test_service_orders import Marketplace
from tests.services.test_service_restart import GET_LICENSE, Silent, audited, restarter
from tests.support_edges import rows


async def given_up(shop, order_id="CS1"):
    query = OrderQuery(connection=shop.connection.public_id, order_id=order_id, order_line_id=None)

    async def add(tx):
        payload = msgspec.json.encode(query).decode()
        await outbox.add(tx, kind=OUTBOX_KIND, subject=order_id, payload=payload, now=shop.rt.clock())
        row = await tx.one("SELECT MAX(id) AS id FROM outbox")
        await outbox.give_up(tx, row["id"], now=shop.rt.clock(), error="MarketplaceUnreachable: time-out")
        return row["id"]

    return retry_outbox.public_id(await shop.rt.db.write(add))


async def test_work_that_was_given_up_is_tried_again_for_a_whole_window(shop, clock):
    name = await given_up(shop)
    clock.now += 3 * DAY

    item = await shop.rt.db.write(lambda tx: retry_outbox.retry(tx, shop.rt, name, "ticket", by="li"))

    assert (item.state, item.attempts, item.due_at, item.first_tried_at) == ("waiting", 0, clock.now, None)
    await OutboxWorker(shop.rt, Marketplace()).work_once()
    assert await rows(shop.rt, "orders") == [1]
    [(actor, subject, detail)] = await audited(shop.rt, "outbox.retried")
    assert (actor, subject, detail) == ("li", name, {"kind": "order_query", "about": "CS1", "reason": "ticket"})
    with pytest.raises(NotRestartable, match="done"):
        await shop.rt.db.write(lambda tx: retry_outbox.retry(tx, shop.rt, name, "again", by="li"))


async def test_of_two_operators_one_retries(shop):
    name = await given_up(shop)

    done = await asyncio.gather(
        *(shop.rt.db.write(lambda tx: retry_outbox.retry(tx, shop.rt, name, "ticket", by="li")) for _ in range(4)),
        return_exceptions=True,
    )

    assert sum(isinstance(one, NotRestartable) for one in done) == 3


NO_WORK = ["obx_" + "9" * 26, "obx_" + "0" * 26, "msg_" + "0" * 25 + "1", "obx_1", f"obx_0000000{2**63 - 1}", ""]


async def test_names_of_no_work_are_not_found(shop):
    for name in NO_WORK:
        with pytest.raises(NotFound):
            await shop.rt.db.write(lambda tx, name=name: retry_outbox.retry(tx, shop.rt, name, "x", by="li"))


async def test_many_are_restarted_in_the_order_in_which_they_came(shop):
    made = [
        (await keep(shop, order_id=f"CS{n}", raw=GET_LICENSE.replace(b"CS1", b"CS%d" % n))).public_id for n in range(4)
    ]
    unknown = f"msg_{'0' * 26}"
    wish = RestartMany(reason="r", without_asking=True, ids=(made[2], unknown, made[0], made[2]))

    done = await restart_many(restarter(shop), wish, by="li")

    assert [(item.message, item.result, item.code) for item in done.items] == [
        (made[0], "succeeded", None),
        (made[2], "succeeded", None),
        (unknown, "refused", "NOT_FOUND"),
    ]
    assert (done.left, done.after, done.stopped) == ([], None, None)


async def test_a_filter_finds_what_is_undone_part_by_part(shop):
    for n in range(5):
        await keep(shop, order_id=f"CS{n}", raw=GET_LICENSE.replace(b"CS1", b"CS%d" % n))
    await keep(shop, "000001", authenticated_at=None)
    await keep(shop, purpose="test", raw=GET_LICENSE)
    await keep(shop, "000000", order_id="CS9")
    wish = RestartMany(reason="r", without_asking=True, limit=2, filter=Undone(activity="getLicense"))

    parts, after = [], None
    while True:
        part = await restart_many(restarter(shop), msgspec.structs.replace(wish, after=after), by="li")
        parts.append([item.result for item in part.items])
        after = part.after
        if after is None:
            break

    assert parts == [["succeeded"] * 2, ["succeeded"] * 2, ["succeeded"]]
    assert await rows(shop.rt, "licenses") == [5]
    assert (await restart_many(restarter(shop), wish, by="li")).items == []


async def test_a_silent_marketplace_is_not_asked_for_all_of_them(shop):
    for n in range(6):
        await keep(shop, order_id=f"CS{n}", raw=GET_LICENSE)
    silent = Silent(MarketplaceUnreachable("time-out"))
    wish = RestartMany(reason="r", filter=Undone())

    done = await restart_many(restarter(shop, silent), wish, by="li")

    assert (silent.calls, len(done.items), len(done.left), done.stopped) == (3, 3, 3, "marketplace")
    assert done.after == done.items[-1].message


async def test_many_take_no_longer_than_their_time(shop, monkeypatch):
    monkeypatch.setattr(many, "BULK_S", 0.0)
    ids = tuple([(await keep(shop, order_id=f"CS{n}", raw=GET_LICENSE)).public_id for n in range(2)])

    done = await restart_many(restarter(shop), RestartMany(reason="r", ids=ids), by="li")

    assert (done.items, done.left, done.stopped) == ([], list(ids), "time")


SENSELESS = [
    {},
    {"ids": ("msg_" + "0" * 26,), "filter": Undone()},
    {"filter": Undone(state=MessageState.SUCCEEDED)},
    {"filter": Undone(since="yesterday")},
    {"filter": Undone(), "after": "msg_" + "0" * 26},
]


async def test_a_wish_that_means_nothing_is_refused(shop):
    for wish in SENSELESS:
        with pytest.raises(InvalidParameter):
            await restart_many(restarter(shop), RestartMany(reason="r", **wish), by="li")
