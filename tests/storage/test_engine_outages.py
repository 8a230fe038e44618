"""A sick database is a pause: disk full, lost connections, closing."""

import asyncio
import itertools
import threading

import pytest

from licensesvc.storage.port import OutcomeUnknown, StorageUnavailable
from tests.support_storage import execute_once, open_at


async def insert(tx, buyers):
    await tx.many("INSERT INTO sales (buyer, article) VALUES ($1, 2)", [(buyer,) for buyer in buyers])
    return buyers


async def until_it_works(database, buyer):
    async with asyncio.timeout(10):
        while True:
            try:
                return await database.submit(insert, buyer)
            except StorageUnavailable:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_full_disk_is_unavailable_and_heals(shop, count):
    async def limit(tx, pages):
        return (await tx.one(f"PRAGMA max_page_count = {pages}"))[0]

    await shop.write(lambda tx: limit(tx, 1))
    with pytest.raises(StorageUnavailable, match="full"):
        await shop.write(lambda tx: insert(tx, range(100_000)))
    with pytest.raises(StorageUnavailable, match="full"):
        await shop.write(lambda tx: insert(tx, range(100_000)))
    assert await count("sales") == 0
    await shop.write(lambda tx: limit(tx, 100_000))
    assert await shop.submit(insert, 1) == 1
    assert await count("sales") == 1


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_a_terminated_backend_in_mid_load_loses_nothing_acknowledged(shop, place):
    acknowledged, buyers, enough = [], itertools.count(), asyncio.Event()

    async def load():
        while not enough.is_set():
            try:
                acknowledged.append(await shop.submit(insert, next(buyers)))
            except StorageUnavailable:
                await asyncio.sleep(0.005)

    async def progress(commands):
        goal = len(acknowledged) + commands
        async with asyncio.timeout(10):
            while len(acknowledged) < goal:  # noqa: ASYNC110 - the clients know no goals
                await asyncio.sleep(0.001)

    clients = [asyncio.create_task(load()) for _ in range(8)]
    for _ in range(3):
        await progress(30)
        await execute_once(
            place,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE application_name = 'licensesvc' AND datname = current_database()",
        )
    await progress(30)
    enough.set()
    await asyncio.gather(*clients)
    rows = await shop.read(lambda tx: tx.all("SELECT buyer FROM sales"))
    kept = [row["buyer"] for row in rows]
    assert len(kept) == len(set(kept))
    assert set(acknowledged) <= set(kept)


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_a_lost_commit_is_unknown_and_the_writer_goes_on(shop, place):
    async def make_commit_slow(tx):
        await tx.run(
            "CREATE FUNCTION nap() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(4); RETURN NULL; END'"
        )
        await tx.run(
            "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON sales DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW WHEN (NEW.buyer = 1) EXECUTE FUNCTION nap()"
        )

    await shop.write(make_commit_slow)
    commits = asyncio.gather(*(shop.submit(insert, buyer) for buyer in (1, 2)), return_exceptions=True)
    terminated = None
    while not terminated:
        terminated = await execute_once(
            place,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'COMMIT' AND wait_event = 'PgSleep'",
        )
    assert [type(answer) for answer in await commits] == [OutcomeUnknown] * 2
    assert await until_it_works(shop, 3) == 3


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_rows_another_process_holds_are_unavailable_not_waited_for(shop, place):
    other = await open_at(place)
    locked, go_on = asyncio.Event(), asyncio.Event()

    async def hold(tx):
        await tx.one("SELECT a.id FROM articles a WHERE a.id = 1 @lock(a)")
        locked.set()
        await go_on.wait()

    holder = asyncio.create_task(other.write(hold))
    await locked.wait()
    with pytest.raises(StorageUnavailable, match=r"(?i)lock"):
        await shop.write(lambda tx: tx.run("UPDATE articles SET stock = 0 WHERE id = 1"))
    go_on.set()
    await holder
    await other.close()


async def test_a_database_that_cannot_be_reached_is_unavailable(tmp_path, engine):
    place = tmp_path / "missing" / "x.db" if engine == "sqlite" else f"postgresql://u@/x?host={tmp_path}"
    with pytest.raises(StorageUnavailable):
        await open_at(place)


async def test_closing_finishes_the_queue_then_refuses(place, shop, count):
    database = await open_at(place)
    waiting = [asyncio.create_task(database.submit(insert, buyer)) for buyer in range(100)]
    await asyncio.sleep(0)
    await asyncio.gather(database.close(), database.close())
    assert await asyncio.gather(*waiting) == list(range(100))
    assert await count("sales") == 100
    with pytest.raises(StorageUnavailable):
        await database.submit(insert, 1)
    with pytest.raises(StorageUnavailable):
        await database.read(lambda tx: tx.all("SELECT 1"))


async def test_closing_leaves_no_thread_and_an_empty_wal(place, engine):
    before = set(threading.enumerate())
    database = await open_at(place)
    await database.write(lambda tx: tx.run("CREATE TABLE t (id BIGINT)"))
    await database.close()
    for thread in set(threading.enumerate()) - before:  # the last step of a thread comes after its answer
        thread.join(5)
    assert set(threading.enumerate()) <= before
    if engine == "sqlite":
        assert [file.name for file in place.parent.iterdir()] == ["licensesvc.db"]


async def test_a_verb_that_cancels_the_writer_leaves_nobody_waiting(place, shop):
    database = await open_at(place)

    async def cancels(tx, commands):
        raise asyncio.CancelledError

    with pytest.raises(StorageUnavailable):
        await database.submit(cancels, 1)
    with pytest.raises(StorageUnavailable):
        await database.submit(insert, 1)
    with pytest.raises(asyncio.CancelledError):
        await database.close()


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_a_reader_whose_backend_dies_is_unavailable_and_the_next_one_works(shop, place, count):
    async def dies(tx):
        me = (await tx.one("SELECT pg_backend_pid() AS pid"))["pid"]
        await execute_once(place, "SELECT pg_terminate_backend($1::int, 5000)", me)
        await tx.one("SELECT 1")

    for _ in range(5):
        with pytest.raises(StorageUnavailable):
            await shop.read(dies)
    assert await count("articles") == 2


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_a_mistake_in_a_call_is_not_an_outage(shop):
    with pytest.raises(Exception, match="expects 1 argument") as mistake:
        await shop.read(lambda tx: tx.one("SELECT id FROM articles WHERE id = $1", 1, 2))
    assert not isinstance(mistake.value, StorageUnavailable)
