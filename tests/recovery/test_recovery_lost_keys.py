"""Keys that are lost, or belong to another installation: a clear statement at start, nothing half-working."""

import asyncio
import re
import shutil
import subprocess
import sys

import pytest

from licensesvc.cli.program import run
from tests.support_process import CHECKOUT
from tests.support_stock import make_stock

LOST = {
    "vault-keys.json": ("init", "check-config"),
    "signing-keys.json": ("init", "check-config"),
}


@pytest.mark.parametrize(
    ("name", "command"), [(name, command) for name, commands in LOST.items() for command in commands]
)
async def test_lost_keys_stop_everything_with_a_clear_statement(tmp_path, name, command, capsys):
    await make_stock(tmp_path / "data", licenses=1)
    (tmp_path / "data" / name).unlink()

    assert await asyncio.to_thread(run, [command, "--data-dir", str(tmp_path / "data")]) == 2
    said = capsys.readouterr().err
    assert re.search(rf"but not \S*{name}: put back what belongs to it, or restore a backup", said), said
    assert not (tmp_path / "data" / name).exists()


@pytest.mark.parametrize("command", ["check-config", "audit"])
async def test_vault_keys_of_another_installation_stop_everything(tmp_path, command, capsys):
    for place in ("data", "other"):
        await make_stock(tmp_path / place, licenses=1)
    shutil.copy(tmp_path / "other" / "vault-keys.json", tmp_path / "data" / "vault-keys.json")

    assert await asyncio.to_thread(run, [command, "--data-dir", str(tmp_path / "data")]) == 2
    assert "are lost for good" in capsys.readouterr().err


async def test_a_server_does_not_start_on_foreign_vault_keys(tmp_path):
    for place in ("data", "other"):
        await make_stock(tmp_path / place, licenses=1)
    shutil.copy(tmp_path / "other" / "vault-keys.json", tmp_path / "data" / "vault-keys.json")
    command = [sys.executable, "-m", "licensesvc", "serve", "--data-dir", str(tmp_path / "data"), "--port", "0"]

    tried = await asyncio.to_thread(subprocess.run, command, cwd=CHECKOUT, capture_output=True, timeout=30, check=False)

    assert tried.returncode == 2
    assert tried.stdout == b""
    assert tried.stderr.startswith(b"licensesvc: the vault keys do not open what the database holds")
    assert tried.stderr.count(b"\n") == 1
