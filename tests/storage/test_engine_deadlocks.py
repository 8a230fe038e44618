"""Writers that wait for each other in a circle: one is rolled back and repeated, and nobody hears of it."""

import asyncio

import pytest

from licensesvc.storage.port import Deadlocked
from licensesvc.storage.writer import DEADLOCK_TRIES
from tests.support_storage import open_at


@pytest.fixture(params=["postgres"])
def engine(request):
    """A SQLite file has one writer: nobody to wait for."""
    return request.param


async def sell(tx, article):
    assert await tx.run("UPDATE articles SET stock = stock - 1 WHERE id = $1", article) == 1


async def test_of_two_deadlocked_writers_both_succeed(place, shop, count):
    other = await open_at(place)
    have_one = [asyncio.Event(), asyncio.Event()]
    tries = [0, 0]

    def sells(me, first, second):
        async def crosswise(tx):
            tries[me] += 1
            await sell(tx, first)
            have_one[me].set()
            await have_one[1 - me].wait()
            await sell(tx, second)

        return crosswise

    await asyncio.gather(shop.write(sells(0, 1, 2)), other.write(sells(1, 2, 1)))

    assert sorted(tries) == [1, 2]
    assert await count("articles WHERE (id, stock) IN ((1, 8), (2, 99998))") == 2
    await other.close()


async def test_a_deadlocked_batch_is_repeated_one_by_one(place, shop, count):
    other = await open_at(place)
    have_one = [asyncio.Event(), asyncio.Event()]
    batches = []

    async def in_reverse(tx, articles):
        batches.append(len(articles))
        for article in sorted(articles, reverse=True):
            await sell(tx, article)
            if not have_one[0].is_set():
                have_one[0].set()
                await have_one[1].wait()
        return articles

    async def upwards(tx):
        await sell(tx, 1)
        have_one[1].set()
        await have_one[0].wait()
        await sell(tx, 2)

    sold = await asyncio.gather(shop.submit(in_reverse, 1), shop.submit(in_reverse, 2), other.write(upwards))

    assert sold == [1, 2, None]
    assert batches in ([2], [2, 1, 1])
    assert await count("articles WHERE (id, stock) IN ((1, 8), (2, 99998))") == 2
    await other.close()


async def test_a_lone_command_gives_up_after_some_tries(shop):
    tries = []

    async def always(tx):
        tries.append(tx)
        await tx.run("DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = 'deadlock_detected'; END $$")

    with pytest.raises(Deadlocked):
        await shop.write(always)

    assert len(tries) == DEADLOCK_TRIES
    await shop.write(lambda tx: sell(tx, 1))
