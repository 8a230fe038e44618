"""Readiness with its reasons, and the figures behind `/metrics`, on both engines."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from licensesvc.domain.instants import MINUTE
from licensesvc.services.runtime import Runtime
from licensesvc.services.upkeep import readiness
from licensesvc.services.upkeep.measure import measure
from licensesvc.services.upkeep.readiness import Readiness
from licensesvc.signing.signer import ForeignKid
from licensesvc.signing.vault import CannotOpen
from licensesvc.storage import outbox
from licensesvc.storage.migrate import DatabaseTooNew, MigrationChanged
from licensesvc.storage.port import StorageUnavailable
from tests.support_edges import Shop
from tests.support_web import Clock


@pytest.fixture
def checks(rt: Runtime, tmp_path: Path) -> Readiness:
    return Readiness(rt, tmp_path, least_free_bytes=1)


def raising(error: Exception) -> Any:
    def fail(*_args: Any) -> Any:
        raise error

    return fail


async def test_a_sound_process_is_ready_and_nothing_was_changed(checks: Readiness, rt: Runtime):
    assert await checks.reasons() == ()
    assert rt.db.waiting == 0


async def test_a_database_that_cannot_be_written_is_a_reason_without_its_own_words(
    checks: Readiness, rt: Runtime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rt.db, "write", raising(StorageUnavailable("user=seller password=canary")))

    assert await checks.reasons() == ("database: it cannot be written",)


async def test_a_closed_database_is_a_reason(checks: Readiness, rt: Runtime):
    await rt.db.close()

    assert await checks.reasons() == ("database: it cannot be written",)


async def test_a_database_that_does_not_answer_is_given_up(
    checks: Readiness, rt: Runtime, monkeypatch: pytest.MonkeyPatch
):
    async def never(_fn: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(rt.db, "write", never)
    monkeypatch.setattr(readiness, "PATIENCE_S", 0.01)

    assert await checks.reasons() == ("database: no answer within 0.01 s",)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DatabaseTooNew("0009"), "migrations: a newer release has changed the database"),
        (MigrationChanged("0001"), "migrations: one was changed after it had been applied"),
    ],
)
async def test_a_foreign_schema_is_a_reason(
    checks: Readiness, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
):
    monkeypatch.setattr(readiness, "pending", raising(error))

    assert await checks.reasons() == (reason,)


async def test_a_missing_migration_is_named(checks: Readiness, monkeypatch: pytest.MonkeyPatch):
    async def missing(_db: Any) -> list[str]:
        return ["0002_next"]

    monkeypatch.setattr(readiness, "pending", missing)

    assert await checks.reasons() == ("migrations: 0002_next not applied",)


@pytest.mark.parametrize(("more", "reasons"), [(0, ()), (2**60, ("disk: almost full",))])
async def test_a_full_disk_is_a_reason(rt: Runtime, tmp_path: Path, more: int, reasons: tuple[str, ...]):
    assert await Readiness(rt, tmp_path, least_free_bytes=more).reasons() == reasons


async def test_a_data_directory_that_is_gone_is_a_reason(rt: Runtime, tmp_path: Path):
    assert await Readiness(rt, tmp_path / "gone", 1).reasons() == ("disk: the data directory is gone",)


async def test_a_key_that_does_not_sign_or_open_is_a_reason(
    rt: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(rt.vault, "open", raising(CannotOpen()), raising=False)
    assert await Readiness(rt, tmp_path, 1).reasons() == ("keys: the vault does not open what it seals",)

    monkeypatch.setattr(rt.signer, "made", lambda *_args: False)
    assert await Readiness(rt, tmp_path, 1).reasons() == ("keys: the signing key does not verify its own signatures",)

    monkeypatch.setattr(rt.signer, "sign", raising(ForeignKid()))
    assert await Readiness(rt, tmp_path, 1).reasons() == ("keys: the signing key is compromised",)


async def test_strangers_who_ask_often_write_once(checks: Readiness, rt: Runtime, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(now=100)
    monkeypatch.setattr(readiness.time, "monotonic", clock)
    writes = 0
    write = rt.db.write

    async def counted(fn: Any) -> Any:
        nonlocal writes
        writes += 1
        return await write(fn)

    monkeypatch.setattr(rt.db, "write", counted)
    await asyncio.gather(*(checks.reasons() for _ in range(100)))
    assert writes == 1
    clock.now += 3
    await checks.reasons()
    assert writes == 2


async def test_it_heals_without_a_restart(checks: Readiness, rt: Runtime, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(readiness, "KEPT_S", 0)
    with monkeypatch.context() as patch:
        patch.setattr(rt.db, "write", raising(StorageUnavailable("full")))
        assert await checks.reasons()

    assert await checks.reasons() == ()


async def test_figures_of_an_empty_database_are_zeros(rt: Runtime):
    figures = await measure(rt)

    assert figures.licenses == {"ISSUED": 0, "ACTIVE": 0, "REVOKED": 0, "RELEASED": 0}
    assert (figures.outbox_open, figures.outbox_given_up, figures.outbox_age_seconds) == (0, 0, 0)


async def test_figures_count_licenses_and_tell_the_age_of_the_oldest_open_item(rt: Runtime, shop: Shop, clock: Clock):
    await shop.sell("CS1")
    await shop.sell("CS2")
    for subject in "abc":
        now = clock.now
        await rt.db.write(lambda tx, s=subject, n=now: outbox.add(tx, kind="k", subject=s, payload="{}", now=n))
        clock.now += MINUTE
    first, second, _ = await rt.db.read(lambda tx: outbox.due(tx, now=clock.now, limit=9))
    await rt.db.write(lambda tx: outbox.done(tx, first.id, clock.now))
    await rt.db.write(lambda tx: outbox.give_up(tx, second.id, now=clock.now, error="x"))

    figures = await measure(rt)

    assert figures.licenses["ISSUED"] == 2
    assert (figures.outbox_open, figures.outbox_given_up, figures.outbox_age_seconds) == (1, 1, 60)
