"""The outbox: carried out once, tried again with jitter for 24 h, and a worker that nothing stops."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from licensesvc.domain.instants import HOUR
from licensesvc.marketplace.huawei.callbacks import OrderNotify
from licensesvc.marketplace.huawei.client import MarketplaceUnreachable
from licensesvc.marketplace.huawei.orders import MalformedAnswer, MarketplaceRefusal
from licensesvc.marketplace.huawei.wire import SignatureRefused
from licensesvc.services.calls.receive_call import receive_call
from licensesvc.services.outbox_worker import OutboxWorker
from licensesvc.storage.port import StorageUnavailable
from tests.services.test_service_orders import Marketplace
from tests.support_edges import change, rows


@pytest.fixture(params=["sqlite"])
def engine(request):
    """Both engines run these statements in the tests of orders and of notifications."""
    return request.param


class Failing:
    """A marketplace that answers with an error until told otherwise."""

    def __init__(self, error):
        self.error = error
        self.calls = 0
        self.asked = asyncio.Event()

    async def order_query(self, *_args):
        self.calls += 1
        self.asked.set()
        if self.error is None:
            return await Marketplace().order_query(None, None, None, None)
        raise self.error


class DyingDatabase:
    """A database that answers so many calls and is away for the next ones."""

    def __init__(self, db):
        self._db = db
        self.away = False
        self.refused = asyncio.Event()

    async def read(self, fn):
        return await self._answer(self._db.read, fn)

    async def write(self, fn):
        return await self._answer(self._db.write, fn)

    async def _answer(self, call, fn):
        if self.away:
            self.refused.set()
            raise StorageUnavailable("the database is away")
        return await call(fn)


async def notify(shop, nonce="nonce1", *, order_id="CS1", test=False):
    call = OrderNotify(order_id=order_id, order_line_id=None, test=test)
    await receive_call(shop.rt, shop.connection, call, nonce=nonce, by=shop.connection.public_id, source="callback")


async def item(rt):
    return await rt.db.read(lambda tx: tx.one("SELECT * FROM outbox"))


async def test_a_notification_becomes_an_order(shop):
    await notify(shop)

    assert await OutboxWorker(shop.rt, Marketplace()).work_once() == 1
    assert await rows(shop.rt, "orders", "licenses") == [1, 1]
    assert (await item(shop.rt))["done_at"] == shop.rt.clock()
    assert await OutboxWorker(shop.rt, Marketplace()).work_once() == 0


async def test_a_test_notification_queues_nothing_but_spends_its_nonce(shop):
    await notify(shop, test=True)

    assert await rows(shop.rt, "outbox", "nonces") == [0, 1]


async def test_a_replayed_nonce_queues_nothing(shop):
    await notify(shop)

    with pytest.raises(SignatureRefused):
        await notify(shop, order_id="CS2")
    assert await rows(shop.rt, "outbox", "nonces") == [1, 1]


async def test_the_nonce_commits_with_its_effect_or_not_at_all(shop):
    async def lost(fn):
        async def then_fail(tx):
            await fn(tx)
            raise StorageUnavailable("lost before COMMIT")

        return await shop.rt.db.write(then_fail)

    database = DyingDatabase(shop.rt.db)
    database.write = lost
    with pytest.raises(StorageUnavailable):
        await notify(replace_db(shop, database))

    assert await rows(shop.rt, "outbox", "nonces") == [0, 0]
    await notify(shop)
    assert await rows(shop.rt, "outbox", "nonces") == [1, 1]


def replace_db(shop, database):
    return replace(shop, rt=replace(shop.rt, db=database))


async def test_sixteen_copies_of_one_notification_queue_one(shop):
    copies = await asyncio.gather(*(notify(shop) for _ in range(16)), return_exceptions=True)

    assert sum(isinstance(copy, SignatureRefused) for copy in copies) == 15
    assert await rows(shop.rt, "outbox") == [1]


@pytest.mark.parametrize(
    "error",
    [
        MarketplaceUnreachable("time-out"),
        MarketplaceRefusal("MKT.0150", "Illegal operation"),
        MalformedAnswer("no JSON"),
        ZeroDivisionError("a fault of ours"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_fails_is_tried_again_later_and_later(shop, clock, error):
    marketplace = Failing(error)
    worker = OutboxWorker(shop.rt, marketplace)
    await notify(shop)
    waits = []
    with capture_logs():
        for _ in range(8):
            await worker.work_once()
            due = (await item(shop.rt))["due_at"]
            waits.append(due - clock.now)
            assert await worker.work_once() == 0
            clock.now = due

    assert marketplace.calls == 8
    assert all(2**n * 1_000 <= wait <= 2**n * 2_000 for n, wait in enumerate(waits))
    assert type(error).__name__ in (await item(shop.rt))["last_error"]
    marketplace.error = None
    await worker.work_once()
    assert (await item(shop.rt))["done_at"] is not None


async def test_after_a_day_an_item_is_given_up(shop, clock):
    marketplace = Failing(MarketplaceUnreachable("time-out"))
    worker = OutboxWorker(shop.rt, marketplace)
    await notify(shop)
    started = clock.now
    while (row := await item(shop.rt))["given_up_at"] is None:
        clock.now = row["due_at"]
        await worker.work_once()

    assert 23 * HOUR <= row["given_up_at"] - started <= 24 * HOUR
    assert 50 <= row["attempts"] <= 130
    assert await worker.work_once() == 0


async def test_an_item_that_waited_for_a_day_still_gets_its_whole_day(shop, clock):
    await notify(shop)
    clock.now += 25 * HOUR  # the server was down
    first_try = clock.now
    worker = OutboxWorker(shop.rt, Failing(MarketplaceUnreachable("time-out")))

    await worker.work_once()
    while (row := await item(shop.rt))["given_up_at"] is None:
        clock.now = row["due_at"]
        await worker.work_once()

    assert row["first_tried_at"] == first_try
    assert 23 * HOUR <= row["given_up_at"] - first_try <= 24 * HOUR


async def running(worker):
    task = asyncio.create_task(worker.run())
    await asyncio.sleep(0)
    return task


async def stop(task):
    assert not task.done(), task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition):
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110 - the row is written by the code under test
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("moment", ["before the work", "while it is at work"])
async def test_the_worker_outlives_a_database_that_goes_away(shop, moment):
    database = DyingDatabase(shop.rt.db)
    marketplace = Failing(None)
    if moment == "while it is at work":
        answer = marketplace.order_query

        async def and_die(*args):
            database.away = True
            return await answer(*args)

        marketplace.order_query = and_die
    else:
        database.away = True
    worker = OutboxWorker(replace(shop.rt, db=database), marketplace)
    await notify(shop)

    task = await running(worker)
    await asyncio.wait_for(database.refused.wait(), 5)
    marketplace.order_query = Failing(None).order_query
    database.away = False
    worker.wake()

    async def done():
        assert not task.done()
        return (await item(shop.rt))["done_at"] is not None

    await until(done)
    await stop(task)


async def test_the_worker_outlives_an_item_that_it_does_not_understand(shop):
    await notify(shop)
    await notify(shop, "nonce2", order_id="CS1")
    await change(shop.rt, "UPDATE outbox SET payload = 'no JSON' WHERE id = 1")
    await shop.rt.db.write(
        lambda tx: tx.run(
            "INSERT INTO outbox (kind, subject, payload, created_at, due_at) VALUES ('x', 'x', 'x', 0, 0)"
        )
    )
    task = await running(OutboxWorker(shop.rt, Marketplace()))

    async def one_done():
        row = await shop.rt.db.read(lambda tx: tx.one("SELECT COUNT(*) AS n FROM outbox WHERE done_at IS NOT NULL"))
        return row["n"] == 1

    await until(one_done)
    await stop(task)
    assert await rows(shop.rt, "orders") == [1]


async def test_waking_starts_work_at_once(shop):
    worker = OutboxWorker(shop.rt, marketplace := Failing(None))
    task = await running(worker)
    await notify(shop)
    worker.wake()

    await asyncio.wait_for(marketplace.asked.wait(), 2)
    await stop(task)
