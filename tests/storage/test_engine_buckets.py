"""The upsert of a bucket says what the pure function says, on both engines, whoever charges at the same time."""

import asyncio
import random

import pytest

from licensesvc.domain.instants import MINUTE, SECOND
from licensesvc.domain.ratelimit import Limit, charged
from licensesvc.services.access.limit_attempts import Charge, charge_buckets
from licensesvc.storage import buckets
from licensesvc.storage.migrate import migrate
from tests.support_storage import open_at

LIMITS = [
    Limit(name="a", count=3, window=MINUTE),
    Limit(name="b", count=1_000, window=SECOND),
    Limit(name="c", count=3, window=MINUTE, at_once=100),
]
NOW = 1_795_000_000_000


@pytest.fixture
async def migrated(database):
    await migrate(database, now=NOW)
    return database


async def rows(database):
    return {
        row["name"]: row["drained_at"]
        for row in await database.read(lambda tx: tx.all("SELECT name, drained_at FROM buckets"))
    }


@pytest.mark.parametrize("limit", LIMITS)
async def test_every_charge_is_what_the_domain_computes(migrated, limit):
    dice = random.Random(7)  # noqa: S311 - a fixed story
    now, expected = NOW, None
    for _ in range(60):
        now += dice.choice([0, 0, 1, limit.interval - 1, limit.interval, limit.depth, 3 * limit.depth, -5 * MINUTE])
        events = dice.randint(1, limit.at_once)
        expected = charged(limit, expected, now, events)

        assert await migrated.write(lambda tx, at=now, n=events: buckets.charge(tx, "x", limit, at, n)) == expected
    assert await rows(migrated) == {"x": expected}


async def test_charges_at_the_same_time_all_count(migrated, place):
    other = await open_at(place, chain="other") if not hasattr(place, "parts") else migrated
    limit = Limit(name="a", count=1_000, window=MINUTE)
    names = [f"bucket {number % 7}" for number in range(280)]
    random.Random(3).shuffle(names)  # noqa: S311

    await asyncio.gather(
        *(
            (migrated, other)[number % 2].submit(charge_buckets, Charge(bucket=name, limit=limit, now=NOW))
            for number, name in enumerate(names)
        )
    )

    assert await rows(migrated) == {f"bucket {number}": NOW + 40 * limit.interval for number in range(7)}
    if other is not migrated:
        await other.close()


async def test_results_come_in_the_order_of_the_commands(migrated):
    limit = LIMITS[0]
    commands = [Charge(bucket=name, limit=limit, now=NOW) for name in ("b", "a", "b", "c")]

    results = await migrated.write(lambda tx: charge_buckets(tx, commands))

    assert results == [NOW + step * limit.interval for step in (1, 1, 2, 1)]


async def test_drained_buckets_go_and_others_stay(migrated):
    limit = LIMITS[0]

    async def fill(tx):
        for name, at in (("old", NOW - 2 * MINUTE), ("new", NOW)):
            await buckets.charge(tx, name, limit, at)

    await migrated.write(fill)
    await migrated.write(lambda tx: buckets.forget_drained(tx, NOW))

    assert list(await rows(migrated)) == ["new"]
