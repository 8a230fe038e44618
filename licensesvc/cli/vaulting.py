"""Commands about the keys that seal secrets and codes at rest: `vault list`, `vault rotate`."""

import asyncio
from typing import TYPE_CHECKING, Any, Final

import click

from licensesvc.cli.options import data_dir_option, json_option, print_rows, settings_of

if TYPE_CHECKING:
    from licensesvc.cli.admin_client import AdminClient

LOOK_EVERY_S: Final = 0.2


@click.group()
def vault() -> None:
    """Keys that seal secrets and codes at rest."""


@vault.command("list")
@data_dir_option
@json_option
def list_keys(data_dir: str | None, *, as_json: bool) -> None:
    """List the vault keys and how many values lie under each."""
    settings = settings_of(data_dir=data_dir)
    from licensesvc.cli.admin_client import open_admin

    async def ask() -> list[dict[str, Any]]:
        async with open_admin(settings) as client:
            return await _keys(client)

    print_rows(asyncio.run(ask()), as_json=as_json)


@vault.command()
@data_dir_option
@json_option
def rotate(data_dir: str | None, *, as_json: bool) -> None:
    """Seal with a new key and wait until everything is sealed anew; make a backup afterwards.

    Breaking off loses nothing: a server goes on with it. Older keys go some minutes later, once nothing lies under them.
    """
    settings = settings_of(data_dir=data_dir)
    from rich.console import Console
    from rich.progress import Progress

    from licensesvc.cli.admin_client import open_admin

    async def work() -> list[dict[str, Any]]:
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
            async with open_admin(settings) as client:
                await client.post("/vault-keys/rotate")
                items = await _keys(client)
                total = _older(items)
                task = progress.add_task("sealing anew", total=total)
                while left := _older(items):
                    progress.update(task, completed=total - left)
                    await asyncio.sleep(LOOK_EVERY_S)
                    items = await _keys(client)
            return items

    print_rows(asyncio.run(work()), as_json=as_json)


async def _keys(client: "AdminClient") -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = (await client.get("/vault-keys"))["items"]
    return items


def _older(items: list[dict[str, Any]]) -> int:
    return sum(key["sealed"] for key in items if not key["seals"])
