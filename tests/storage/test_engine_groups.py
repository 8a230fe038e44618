"""The one writer: groups commit once, the bad one fails alone, nothing is half done, on both engines."""

import asyncio
import random
from contextlib import suppress

import pytest

from licensesvc.storage.port import ConstraintViolated, StorageUnavailable
from licensesvc.storage.writer import BATCH_LIMIT, QUEUE_LIMIT, RARE_LIMIT
from tests.support_storage import Pause, open_at


class SoldOut(Exception):
    """A command's own no."""


async def buy(tx, commands):
    """Sell one piece of `article` to each (buyer, article), or say SoldOut."""
    results = []
    for buyer, article in commands:
        if await tx.run("UPDATE articles SET stock = stock - 1 WHERE id = $1 AND stock > 0", article):
            await tx.run("INSERT INTO sales (buyer, article) VALUES ($1, $2)", buyer, article)
            results.append(buyer)
        else:
            results.append(SoldOut(buyer))
    return results


async def adjust(tx, deltas):
    """Change the stock without asking: the CHECK constraint may refuse."""
    for delta in deltas:
        await tx.run("UPDATE articles SET stock = stock + CAST($1 AS bigint) WHERE id = 1", delta)
    return deltas


@pytest.fixture
async def counted(place, shop):
    """A second opening of the shop, with the size of each of its commits."""
    sizes = []
    database = await open_at(place, on_batch=lambda size, waited, committed: sizes.append(size))
    yield database, sizes
    await database.close()


async def test_commands_that_wait_together_commit_once(counted):
    database, sizes = counted
    answers = await asyncio.gather(*(database.submit(buy, (buyer, 2)) for buyer in range(64)))
    assert answers == list(range(64))
    assert sizes == [64]


async def test_a_group_has_a_bound(counted):
    database, sizes = counted
    await asyncio.gather(*(database.submit(buy, (buyer, 2)) for buyer in range(BATCH_LIMIT + 1)))
    assert sizes == [BATCH_LIMIT, 1]


async def test_verbs_share_a_group_and_each_is_called_once_in_order(counted):
    database, sizes = counted
    calls = []

    def verb(name):
        async def run(tx, commands):
            calls.append((name, list(commands)))
            return commands

        return run

    left, right = verb("left"), verb("right")
    await asyncio.gather(*(database.submit(left if n % 2 else right, n) for n in range(6)))
    assert calls == [("right", [0, 2, 4]), ("left", [1, 3, 5])]
    assert sizes == [6]


async def test_a_rare_verb_keeps_its_place(counted, engine):
    database, sizes = counted

    async def stock(tx):
        return (await tx.one("SELECT stock FROM articles WHERE id = 1"))["stock"]

    answers = await asyncio.gather(
        database.submit(adjust, 1), database.submit(adjust, 2), database.write(stock), database.submit(adjust, 4)
    )
    assert answers == [1, 2, 13, 4]
    assert sizes == ([4] if engine == "sqlite" else [2, 1, 1])


def selling(buyer, article=2, *, raises=None):
    """A rare verb that sells a piece and then raises, or says its buyer."""

    async def sell(tx):
        await tx.run("INSERT INTO sales (buyer, article) VALUES ($1, $2)", buyer, article)
        if raises is not None:
            raise raises
        return buyer

    return sell


async def test_rare_verbs_share_a_transaction_where_no_other_process_writes(counted, count, engine):
    database, sizes = counted
    answers = await asyncio.gather(*(database.write(selling(buyer)) for buyer in range(RARE_LIMIT + 8)))
    assert answers == list(range(RARE_LIMIT + 8))
    assert sizes == ([RARE_LIMIT, 8] if engine == "sqlite" else [1] * (RARE_LIMIT + 8))
    assert await count("sales") == RARE_LIMIT + 8


@pytest.mark.parametrize("fault", [SoldOut("no"), KeyError("bug")], ids=lambda fault: type(fault).__name__)
async def test_a_rare_verb_that_raises_undoes_its_own_writes_alone(shop, count, fault):
    wanted = [selling(buyer, raises=fault if buyer == 3 else None) for buyer in range(8)]
    answers = await asyncio.gather(*(shop.write(fn) for fn in wanted), return_exceptions=True)
    assert answers[3] is fault
    assert answers[:3] + answers[4:] == [0, 1, 2, 4, 5, 6, 7]
    assert (await count("sales"), await count("sales WHERE buyer = 3")) == (7, 0)


async def test_a_rare_verb_that_the_database_refuses_fails_alone_also_if_it_swallows_the_error(shop, count):
    async def swallow(tx):
        await selling(101)(tx)
        with suppress(ConstraintViolated):
            await selling(100, article=99)(tx)  # there is no such article

    violated = ("sale of nothing", selling(1, article=99)), ("swallowed", swallow)
    answers = await asyncio.gather(
        shop.write(selling(0)), *(shop.write(fn) for _, fn in violated), shop.write(selling(4)), return_exceptions=True
    )
    assert [type(answer) for answer in answers[1:3]] == [ConstraintViolated] * 2
    assert (answers[0], answers[3]) == (0, 4)
    assert await count("sales") == 2


async def test_a_rare_verb_sees_what_those_before_it_did(shop):
    async def sold(tx):
        return (await tx.one("SELECT COUNT(*) AS n FROM sales"))["n"]

    answers = await asyncio.gather(shop.write(selling(0)), shop.write(sold), shop.write(selling(1)), shop.write(sold))
    assert answers == [0, 1, 1, 2]


async def test_an_own_no_is_raised_and_the_others_commit(shop, count):
    answers = await asyncio.gather(*(shop.submit(buy, (buyer, 1)) for buyer in range(200)), return_exceptions=True)
    assert [answer for answer in answers if not isinstance(answer, SoldOut)] == list(range(10))
    assert await count("sales") == 10


async def test_one_violation_among_64_fails_alone(counted, count):
    database, sizes = counted
    deltas = [1] * 40 + [-1_000_000] + [1] * 23
    answers = await asyncio.gather(*(database.submit(adjust, delta) for delta in deltas), return_exceptions=True)
    assert isinstance(answers[40], ConstraintViolated)
    assert answers[:40] + answers[41:] == [1] * 63
    assert await count("articles WHERE id = 1 AND stock = 73") == 1
    assert sizes == [1] * 63


async def test_a_verb_with_too_few_results_answers_nobody_wrongly(shop, count):
    async def forgetful(tx, commands):
        await buy(tx, commands)
        return []

    answers = await asyncio.gather(*(shop.submit(forgetful, (1, 2)) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ValueError] * 3
    assert await count("sales") == 0


async def test_two_writers_never_oversell(shop, counted, count):
    other, _ = counted
    answers = await asyncio.gather(
        *((shop, other)[buyer % 2].submit(buy, (buyer, 1)) for buyer in range(200)), return_exceptions=True
    )
    sold = [answer for answer in answers if isinstance(answer, int)]
    assert len(sold) == await count("sales") == 10
    assert sum(isinstance(answer, SoldOut) for answer in answers) == 190


async def test_cancelled_callers_leave_whole_commands_or_none(shop, count):
    dice = random.Random(2)  # noqa: S311 - a repeatable storm, not a secret
    callers = [asyncio.create_task(shop.submit(buy, (buyer, 2))) for buyer in range(200)]
    victims = dice.sample(callers, 100)
    while victims:
        for _ in range(dice.randrange(4)):
            await asyncio.sleep(0)
        for victim in victims[:5]:
            victim.cancel()
        del victims[:5]
    done, lost = await asyncio.wait(callers, timeout=30)
    assert not lost
    answered = {caller.result() for caller in done if not caller.cancelled()}
    assert await shop.submit(buy, (1_000, 2)) == 1_000
    rows = await shop.read(lambda tx: tx.all("SELECT buyer FROM sales"))
    buyers = [row["buyer"] for row in rows]
    assert len(buyers) == len(set(buyers))
    assert answered <= set(buyers)
    assert await count(f"articles WHERE id = 2 AND stock = {100_000 - len(buyers)}") == 1


async def test_a_caller_cancelled_while_waiting_writes_nothing(shop, count):
    pause = Pause()
    holder = asyncio.create_task(shop.write(pause.hold))
    await pause.reached()
    waiting = asyncio.create_task(shop.submit(buy, (1, 2)))
    await asyncio.sleep(0)
    waiting.cancel()
    pause.end()
    await holder
    await asyncio.wait({waiting})
    await shop.submit(buy, (2, 2))
    assert (await count("sales WHERE buyer = 1"), await count("sales")) == (0, 1)


async def test_a_full_queue_refuses_at_once(shop):
    pause = Pause()
    holder = asyncio.create_task(shop.write(pause.hold))
    await pause.reached()
    waiting = [asyncio.create_task(shop.submit(buy, (n, 2))) for n in range(QUEUE_LIMIT + 1)]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    assert {type(task.exception()) for task in done} == {StorageUnavailable}
    for task in waiting:
        task.cancel()
    pause.end()
    await asyncio.wait({holder, *waiting})
