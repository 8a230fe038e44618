"""Rotation of the vault: sealed anew in the background, resumed where it broke off, the old key gone only when nothing needs it."""

import asyncio
import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from licensesvc.app import create_app, now, open_runtime
from licensesvc.cli.program import run
from licensesvc.services.licenses.issue_license import code_index, open_code
from licensesvc.services.upkeep import rotate_vault as rotation
from licensesvc.services.upkeep.audit_database import audit_database
from licensesvc.services.upkeep.rotate_vault import OVERLAP, VaultResealer, rotate_vault, vault_keys
from licensesvc.services.upkeep.sealed_values import _CONTEXTS, unopenable
from licensesvc.settings import Settings
from licensesvc.signing import vault
from licensesvc.signing.vault import CannotOpen, VaultDamaged
from licensesvc.storage import licenses, sealed
from licensesvc.storage.migrate import known
from licensesvc.storage.sealed import COLUMNS
from tests.support_process import running, serving
from tests.support_stock import make_stock

UNSEALED = {"hash", "token_hash", "signing_input", "signature"}
"""Binary columns that hold no secret."""


def test_every_binary_column_is_sealed_or_known_not_to_be():
    binary = set(
        re.findall(r"^\s*(?:ALTER TABLE \w+ ADD COLUMN )?(\w+) @bytes", "\n".join(f.sql for f in known()), re.MULTILINE)
    )

    assert binary == {column.column for column in COLUMNS} | UNSEALED
    assert _CONTEXTS.keys() == {(column.table, column.column) for column in COLUMNS}


@pytest.fixture
async def opened(place, tmp_path):
    """A runtime with sealed values of several kinds, and its settings."""
    settings = Settings(data_dir=str(tmp_path / "data"), database_url=place if isinstance(place, str) else "")
    await make_stock(settings.data, licenses=25, database_url=settings.database_url)
    async with open_runtime(settings) as rt:
        yield rt, settings


async def by_key(rt) -> dict[int, int]:
    return {key.id: key.sealed for key in await rt.db.read(lambda tx: vault_keys(tx, rt))}


async def rotated(rt, settings) -> VaultResealer:
    await rt.db.write(lambda tx: rotate_vault(tx, rt, settings.vault_keys_file, by="test"))
    return VaultResealer(rt, settings.vault_keys_file)


async def test_everything_is_sealed_anew_and_the_old_key_goes_after_the_overlap(opened, monkeypatch):
    rt, settings = opened
    monkeypatch.setattr(sealed, "PAGE", 10)
    before = await by_key(rt)
    resealer = await rotated(rt, settings)
    assert await by_key(rt) == {1: before[1], 2: 0}

    assert await resealer.work_once() == before[1]

    assert await by_key(rt) == {1: 0, 2: before[1]}
    assert await resealer.work_once() == 0
    assert 1 in vault.load(settings.vault_keys_file).created_at  # not before every process has noticed
    later = now() + OVERLAP
    await VaultResealer(replace(rt, clock=lambda: later), settings.vault_keys_file).work_once()
    assert list(vault.load(settings.vault_keys_file).created_at) == [2]
    assert await rt.db.read(lambda tx: unopenable(tx, rt.vault)) == []
    assert (await audit_database(rt)).clean
    kinds = [row["kind"] for row in await rt.db.read(lambda tx: tx.all("SELECT kind FROM audit_events ORDER BY seq"))]
    assert kinds[-2:] == ["vault.rotated", "vault.old_keys_removed"]


async def test_a_rotation_that_broke_off_is_resumed(opened, monkeypatch):
    rt, settings = opened
    monkeypatch.setattr(sealed, "PAGE", 10)
    total = (await by_key(rt))[1]
    resealer = await rotated(rt, settings)
    replace, calls = sealed.replace, []

    async def dies(tx, column, values):
        calls.append(values)
        if len(calls) == 3:
            raise OSError
        await replace(tx, column, values)

    monkeypatch.setattr(sealed, "replace", dies)
    with pytest.raises(OSError):
        await resealer.work_once()
    left = (await by_key(rt))[1]
    assert 0 < left < total
    monkeypatch.setattr(sealed, "replace", replace)

    assert await VaultResealer(rt, settings.vault_keys_file).work_once() == left
    assert await by_key(rt) == {1: 0, 2: total}


async def test_a_value_that_does_not_open_keeps_the_old_key(opened):
    rt, settings = opened
    await rt.db.write(lambda tx: tx.run("UPDATE credentials SET secret = $1", b"\x01\x00\x01" + bytes(40)))
    resealer = await rotated(rt, settings)
    await resealer.work_once()
    later = now() + OVERLAP

    assert await VaultResealer(replace(rt, clock=lambda: later), settings.vault_keys_file).work_once() == 0
    assert list(vault.load(settings.vault_keys_file).created_at) == [1, 2]


async def test_what_changed_meanwhile_is_not_overwritten(opened):
    rt, _ = opened
    column = next(column for column in COLUMNS if column.table == "credentials")
    value = await rt.db.read(lambda tx: sealed.newest(tx, column))
    await rt.db.write(lambda tx: tx.run("UPDATE credentials SET secret = $1", b"newer"))
    await rt.db.write(lambda tx: sealed.replace(tx, column, [(value, b"stale")]))

    assert (await rt.db.read(lambda tx: sealed.newest(tx, column))).sealed == b"newer"


def test_another_process_opens_what_a_new_key_sealed_at_once(tmp_path):
    here = vault.create(tmp_path / "keys")
    there = vault.load(tmp_path / "keys")
    here.follow(vault.add_key(tmp_path / "keys", 7))

    assert there.open(here.seal(b"secret", "c"), "c") == b"secret"
    assert there.newest == 2
    assert there.index("k", "t") == here.index("k", "t")


def test_processes_that_rotate_at_once_lose_no_key(tmp_path):
    vault.create(tmp_path / "keys")
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: vault.add_key(tmp_path / "keys", 7), range(16)))

    last = vault.load(tmp_path / "keys")
    assert list(last.created_at) == list(range(1, 18))
    assert all(last.open(one.seal(b"secret", "c"), "c") == b"secret" for one in made)


def test_an_unknown_key_opens_nothing(tmp_path):
    here = vault.create(tmp_path / "keys")
    elsewhere = vault.create(tmp_path / "elsewhere")
    elsewhere.follow(vault.add_key(tmp_path / "elsewhere", 7))

    with pytest.raises(CannotOpen):
        here.open(elsewhere.seal(b"secret", "c"), "c")
    (tmp_path / "keys").unlink()
    with pytest.raises(CannotOpen):
        here.open(elsewhere.seal(b"secret", "c"), "c")


def test_a_damaged_file_is_not_rewritten(tmp_path):
    vault.create(tmp_path / "keys")
    document = json.loads((tmp_path / "keys").read_text())
    document["keys"][0]["secret"] = "short"
    (tmp_path / "keys").write_text(json.dumps(document))
    before = (tmp_path / "keys").read_bytes()

    with pytest.raises(VaultDamaged):
        vault.add_key(tmp_path / "keys", 7)
    assert (tmp_path / "keys").read_bytes() == before


async def test_the_server_seals_anew_while_it_serves(tmp_path, capsys):
    stock = await make_stock(tmp_path / "data", licenses=300)
    with running(*serving(tmp_path / "data"), log=tmp_path / "log"):
        assert await asyncio.to_thread(run, ["vault", "rotate", "--data-dir", str(tmp_path / "data"), "--json"]) == 0
    keys = json.loads(capsys.readouterr().out)

    assert [(key["id"], key["seals"], key["sealed"]) for key in keys] == [(2, True, 301), (1, False, 0)]
    settings = Settings(data_dir=str(tmp_path / "data"))
    async with open_runtime(settings) as rt:
        code = next(iter(stock.licenses))

        async def found(tx):
            return await open_code(tx, rt, await licenses.by_code(tx, code_index(rt, code)))

        assert await rt.db.read(found) == code
        assert (await audit_database(rt)).clean


async def test_the_command_works_without_a_server(tmp_path, capsys):
    await make_stock(tmp_path / "data", licenses=3)

    assert await asyncio.to_thread(run, ["vault", "rotate", "--data-dir", str(tmp_path / "data"), "--json"]) == 0
    assert [key["sealed"] for key in json.loads(capsys.readouterr().out)] == [4, 0]


async def test_a_failing_database_does_not_stop_the_resealer(tmp_path, monkeypatch):
    monkeypatch.setattr(rotation, "IDLE_S", 0.001)
    await make_stock(tmp_path / "data", licenses=3)
    settings = Settings(data_dir=str(tmp_path / "data"))
    real, calls = sealed.page_under_others, []

    async def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError
        return await real(*arguments)

    monkeypatch.setattr(sealed, "page_under_others", failing)
    async with open_runtime(settings) as rt:
        await rt.db.write(lambda tx: rotate_vault(tx, rt, settings.vault_keys_file, by="test"))
        async with create_app(rt, settings).lifespan(), asyncio.timeout(10):
            while (await by_key(rt))[1]:
                pass
