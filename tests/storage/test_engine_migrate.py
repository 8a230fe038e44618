"""The migration runner, on both engines, with small migrations of its own."""

import asyncio
import itertools

import pytest

from licensesvc.storage.migrate import DatabaseTooNew, MigrationChanged, applied, migrate, pending
from licensesvc.storage.port import ConstraintViolated
from tests.support_storage import open_at

FIRST = """-- compatible-from: 1
-- A comment that ends in a semicolon;
CREATE TABLE boxes (
  id @id,
  label TEXT NOT NULL DEFAULT ';',
  seal @bytes,
  made_at @int NOT NULL
)@strict;

INSERT INTO boxes (label, made_at) VALUES ('a;
b', 1700000000000);
"""
SECOND = "-- compatible-from: 1\nALTER TABLE boxes ADD COLUMN weight @int;\n"


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_boxes.sql").write_text(FIRST)
    (folder / "0002_weight.sql").write_text(SECOND)
    return folder


async def test_a_fresh_database_gets_every_file_in_order_once(database, files):
    assert await pending(database, files) == ["0001_boxes", "0002_weight"]
    assert await migrate(database, files, now=5) == ["0001_boxes", "0002_weight"]
    assert await migrate(database, files, now=6) == await pending(database, files) == []
    assert [(row.number, row.name, row.applied_at) for row in await applied(database)] == [
        (1, "0001_boxes", 5),
        (2, "0002_weight", 5),
    ]
    box = await database.read(lambda tx: tx.one("SELECT id, label, made_at, weight FROM boxes"))
    assert tuple(box) == (1, "a;\nb", 1_700_000_000_000, None)


async def test_an_old_database_gets_only_what_is_missing(database, files):
    (files / "0002_weight.sql").unlink()
    await migrate(database, files, now=1)
    (files / "0002_weight.sql").write_text(SECOND)
    assert await migrate(database, files, now=2) == ["0002_weight"]


async def test_a_changed_file_is_refused(database, files):
    await migrate(database, files, now=1)
    (files / "0002_weight.sql").write_text(SECOND + "-- more\n")
    with pytest.raises(MigrationChanged, match="0002_weight"):
        await migrate(database, files, now=2)
    with pytest.raises(MigrationChanged):
        await pending(database, files)


@pytest.mark.parametrize(
    ("header", "refused"), [("", True), ("-- compatible-from: 3\n", True), ("-- compatible-from: 2\n", False)]
)
async def test_a_database_from_the_future_is_refused_unless_it_says_it_is_compatible(database, files, header, refused):
    third = files / "0003_later.sql"
    third.write_text(header + "CREATE TABLE later (id @id)@strict;\n")
    await migrate(database, files, now=1)
    third.unlink()
    if refused:
        with pytest.raises(DatabaseTooNew, match="0003_later"):
            await migrate(database, files, now=2)
    else:
        assert await migrate(database, files, now=2) == []


async def test_a_failing_file_leaves_nothing_of_itself(database, files):
    bad = "CREATE TABLE crates (id @id)@strict;\nINSERT INTO boxes (label, made_at) VALUES (NULL, 1);\n"
    (files / "0003_crates.sql").write_text(bad)
    with pytest.raises(ConstraintViolated) as error:
        await migrate(database, files, now=1)
    assert error.value.__notes__ == ["while applying migration 0003_crates"]
    assert await pending(database, files) == ["0003_crates"]
    (files / "0003_crates.sql").write_text("CREATE TABLE crates (id @id)@strict;\n")
    assert await migrate(database, files, now=2) == ["0003_crates"]


async def test_concurrent_runners_apply_each_file_once(database, place, files):
    others = [await open_at(place) for _ in range(2)]
    names = await asyncio.gather(*(migrate(runner, files, now=1) for runner in (database, *others)))
    assert sorted(itertools.chain(*names)) == ["0001_boxes", "0002_weight"]
    for other in others:
        await other.close()


async def test_a_gap_in_the_numbers_is_refused(database, files):
    (files / "0004_gap.sql").write_text("SELECT 1;\n")
    with pytest.raises(ValueError, match=r"\[1, 2, 4\]"):
        await migrate(database, files, now=1)
    assert await applied(database) == []
