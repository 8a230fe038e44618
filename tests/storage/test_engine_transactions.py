"""What one transaction promises, on both engines."""

import asyncio
import stat
import threading

import pytest

from licensesvc.storage.port import ConstraintViolated, StorageUnavailable
from tests.support_storage import Pause, open_at


async def test_four_methods_carry_int_text_bytes_and_null(database):
    async def story(tx):
        blob = "BLOB" if tx.engine == "sqlite" else "BYTEA"
        assert await tx.run(f"CREATE TABLE t (id BIGINT PRIMARY KEY, a TEXT, b {blob})") == 0
        await tx.many("INSERT INTO t (id, a, b) VALUES ($1, $2, $3)", [(1, "许可", b"\x00\xff"), (2, None, None)])
        assert await tx.run("UPDATE t SET a = $1 WHERE id > $2", "x", 1) == 1
        assert await tx.one("SELECT a FROM t WHERE id = $1", 3) is None
        new = await tx.one("INSERT INTO t (id, a) VALUES ($2, $1) RETURNING id, a", "y", 1_700_000_000_000)
        assert (new["id"], new[1]) == (1_700_000_000_000, "y")
        return await tx.all("SELECT id, a, b FROM t ORDER BY id LIMIT 2")

    rows = await database.write(story)
    assert [tuple(row) for row in rows] == [(1, "许可", b"\x00\xff"), (2, "x", None)]


async def test_marks_are_rewritten_for_the_engine(shop):
    async def story(tx):
        names = await tx.all("SELECT id FROM articles WHERE name IN @list($1) AND id > $2", ["scarce", "it's"], 0)
        ids = await tx.all("SELECT name FROM articles WHERE id IN @ints($1)", [2, 3])
        locked = await tx.one("SELECT a.stock FROM articles a WHERE a.id = $1 @lock(a)", 1)
        nothing = await tx.all("SELECT id FROM articles WHERE name IN @list($1)", [])
        return [row["id"] for row in names], [row["name"] for row in ids], locked["stock"], nothing

    assert await shop.write(story) == ([1], ["plenty"], 10, [])


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("UPDATE articles SET stock = -1", "check"),
        ("INSERT INTO articles (id, name, stock) VALUES (3, 'scarce', 1)", "unique"),
        ("INSERT INTO articles (id, name, stock) VALUES (1, 'third', 1)", "unique"),
        ("INSERT INTO articles (id, name, stock) VALUES (3, NULL, 1)", "not_null"),
        ("INSERT INTO sales (buyer, article) VALUES (1, 99)", "foreign_key"),
    ],
)
async def test_a_refused_change_names_its_constraint_and_no_value(shop, sql, kind):
    with pytest.raises(ConstraintViolated) as refused:
        await shop.write(lambda tx: tx.run(sql))
    assert refused.value.kind == kind
    if kind == "check":
        assert refused.value.name == "stock_not_negative"
    assert "scarce" not in str(refused.value)


async def test_what_a_function_raises_rolls_back_and_reaches_its_caller(shop, count):
    async def fails(tx):
        await tx.run("INSERT INTO sales (buyer, article) VALUES (1, 1)")
        raise LookupError("stop")

    with pytest.raises(LookupError, match="stop"):
        await shop.write(fails)
    assert await count("sales") == 0


async def test_a_caught_error_still_loses_the_transaction(shop, count):
    async def goes_on(tx):
        await tx.run("INSERT INTO sales (buyer, article) VALUES (1, 1)")
        with pytest.raises(ConstraintViolated):
            await tx.run("UPDATE articles SET stock = -1")

    with pytest.raises(ConstraintViolated):
        await shop.write(goes_on)
    assert await count("sales") == 0


async def test_errors_of_the_sql_text_stay_the_engines_own(shop):
    with pytest.raises(Exception, match="nowhere") as error:
        await shop.read(lambda tx: tx.all("SELECT 1 FROM nowhere"))
    assert not isinstance(error.value, StorageUnavailable)


async def test_a_reader_sees_one_snapshot_while_others_write(shop):
    pause = Pause()

    async def reads_twice(tx):
        before = await tx.one("SELECT stock FROM articles WHERE id = 1")
        await pause.hold(tx)
        after = await tx.one("SELECT stock FROM articles WHERE id = 1")
        return before["stock"], after["stock"]

    reader = asyncio.create_task(shop.read(reads_twice))
    await pause.reached()
    await shop.write(lambda tx: tx.run("UPDATE articles SET stock = 5 WHERE id = 1"))
    pause.end()
    assert await reader == (10, 10)
    assert (await shop.read(lambda tx: tx.one("SELECT stock FROM articles WHERE id = 1")))["stock"] == 5


async def test_a_reader_cannot_write(shop, count):
    with pytest.raises(StorageUnavailable, match=r"(?i)read.?only"):
        await shop.read(lambda tx: tx.run("DELETE FROM articles"))
    assert await count("articles") == 2


async def test_cancelled_readers_give_their_connections_back(shop, count):
    for _ in range(20):
        reader = asyncio.create_task(count("articles, articles b"))
        await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait({reader})
    assert await asyncio.gather(*(count("articles") for _ in range(8))) == [2] * 8


async def test_a_transaction_knows_its_engine_and_chain(place, engine):
    database = await open_at(place, chain="node-7")

    async def facts(tx):
        return tx.engine, tx.chain

    assert await database.read(facts) == await database.write(facts) == (engine, "node-7")
    assert database.engine == engine
    await database.close()


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_a_new_file_is_private_with_its_companions(shop, place):
    files = list(place.parent.glob("licensesvc.db*"))
    assert len(files) == 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_sqlite_is_set_up_to_lose_nothing(shop):
    async def settings(tx):
        names = ("journal_mode", "synchronous", "foreign_keys", "query_only", "wal_autocheckpoint", "busy_timeout")
        return [(await tx.one(f"PRAGMA {name}"))[0] for name in names]

    assert await shop.write(settings) == ["wal", 2, 1, 0, 1000, 5000]
    assert (await shop.read(settings))[3:5] == [1, 0]


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
@pytest.mark.parametrize("way", ["read", "write"])
async def test_a_transaction_that_awaits_something_else_is_refused_and_undone(shop, count, way):
    future = asyncio.get_running_loop().create_future()

    async def waits(tx):
        if way == "write":
            await tx.run("DELETE FROM articles")
        await future

    with pytest.raises(RuntimeError, match="awaits its statements"):
        await getattr(shop, way)(waits)
    assert await count("articles") == 2


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
async def test_what_nobody_waits_for_is_interrupted(shop, count):
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    begun = threading.Event()

    async def count_for_ever(tx):
        tx._connection.set_progress_handler(begun.set, 1_000)  # called by the running statement
        await tx.one(endless)

    reader = asyncio.create_task(shop.read(count_for_ever))
    await asyncio.to_thread(begun.wait, 10)
    reader.cancel()
    assert await asyncio.gather(*(count("articles") for _ in range(4))) == [2] * 4
    assert reader.cancelled()
