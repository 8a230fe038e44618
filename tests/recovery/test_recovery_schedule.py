"""What a server does by itself: backups when they are due, the newest kept, failures tried again and told."""

import asyncio
from dataclasses import replace
from functools import partial

import pytest
from pyrage.x25519 import Identity

from licensesvc.app import create_app, open_reader, open_runtime
from licensesvc.cli.checks import State, _backups
from licensesvc.domain.instants import DAY, HOUR, MINUTE
from licensesvc.services.upkeep import housekeeping
from licensesvc.services.upkeep.housekeeping import AGAIN_AFTER, Housekeeping, backups
from licensesvc.services.upkeep.restore import verify_backup
from licensesvc.settings import Settings
from licensesvc.signing.agefile import UnusableRecipient
from licensesvc.signing.privatefiles import LooseFile
from tests.support_stock import make_stock
from tests.support_web import START, Clock

IDENTITY = Identity.generate()


@pytest.fixture
async def house(tmp_path):
    """Housekeeping with a clock that a test moves."""
    await make_stock(tmp_path / "data", licenses=2)
    settings = Settings(
        data_dir=str(tmp_path / "data"),
        backup_dir=str(tmp_path / "backups"),
        backup_recipient=str(IDENTITY.to_public()),
        backup_every_hours=6,
        backup_keep=3,
    )
    clock = Clock()
    async with open_runtime(settings) as rt:
        yield Housekeeping(replace(rt, clock=clock), settings, partial(open_reader, settings)), settings, clock


async def test_a_backup_is_made_when_it_is_due_and_only_then(house):
    keeping, settings, clock = house

    await keeping.look()
    clock.now += 6 * HOUR - 1000
    await keeping.look()
    assert [at for at, _ in backups(settings)] == [START // 1000 * 1000]
    clock.now += 1000
    await keeping.look()

    made = backups(settings)
    assert len(made) == 2
    assert all(path.stat().st_mode & 0o777 == 0o600 for _, path in made)
    assert verify_backup(made[-1][1], [IDENTITY]).end.rows["licenses"] == 2


async def test_the_newest_are_kept_and_nothing_else_is_touched(house):
    keeping, settings, clock = house
    others = ["licensesvc-other-20200101T000000Z.age", "licensesvc-main-20209999T000000Z.age", "notes.txt"]
    for name in others:
        (settings.data.parent / "backups" / name).touch()
    for _ in range(5):
        await keeping.look()
        clock.now += 6 * HOUR

    assert len(backups(settings)) == 3
    assert backups(settings)[0][0] == (START + 2 * 6 * HOUR) // 1000 * 1000
    assert all((settings.data.parent / "backups" / name).exists() for name in others)


async def test_a_clock_that_was_set_back_does_not_stop_backups(house):
    keeping, settings, clock = house
    clock.now += 400 * DAY
    await keeping.look()
    clock.now -= 400 * DAY
    await keeping.look()

    assert len(backups(settings)) == 2


async def test_a_failure_leaves_nothing_and_is_tried_again_later(house, monkeypatch):
    keeping, settings, clock = house
    real, calls = housekeeping.back_up, []

    async def fails(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        return await real(*arguments)

    monkeypatch.setattr(housekeeping, "back_up", fails)
    await keeping.look()
    clock.now += MINUTE
    await keeping.look()
    assert (len(calls), backups(settings)) == (1, [])

    clock.now += AGAIN_AFTER
    await keeping.look()
    assert len(backups(settings)) == 1


async def test_what_is_past_is_pruned_once_a_day(house):
    keeping, _, clock = house
    rt = keeping._rt
    insert = "INSERT INTO nonces (connection_id, nonce, expires_at) VALUES (1, $1, 1)"
    left = []
    for step in (0, HOUR, DAY):
        clock.now += step
        await rt.db.write(lambda tx, step=step: tx.run(insert, str(step)))
        await keeping.look()
        left.append((await rt.db.read(lambda tx: tx.one("SELECT COUNT(*) AS n FROM nonces")))["n"])

    assert left == [0, 1, 0]


async def test_it_runs_with_the_server(house, monkeypatch):
    _, settings, _ = house
    monkeypatch.setattr(housekeeping, "EVERY_S", 0.001)
    async with open_runtime(settings) as rt, create_app(rt, settings).lifespan(), asyncio.timeout(20):
        while not backups(settings):  # noqa: ASYNC110 - yields, waits for no clock
            await asyncio.sleep(0)


async def test_settings_that_cannot_work_stop_the_start(house, tmp_path):
    keeping, settings, _ = house
    import msgspec

    with pytest.raises(UnusableRecipient):
        create_app(keeping._rt, msgspec.structs.replace(settings, backup_recipient=""))
    (tmp_path / "backups").chmod(0o755)
    with pytest.raises(LooseFile):
        create_app(keeping._rt, settings)


async def test_doctor_tells_of_old_and_missing_backups(house, monkeypatch):
    keeping, settings, clock = house
    monkeypatch.setattr("licensesvc.cli.checks.now", clock)

    def state() -> State:
        return next(iter(_backups(settings))).state

    assert state() is State.FAILED
    await keeping.look()
    assert state() is State.OK
    clock.now += 13 * HOUR
    assert state() is State.FAILED
