"""The command `demo`: a server and a sandbox marketplace as real processes, and one order through its whole life.

In: data directory, processes, what is printed at the end. Out: the order's way (`story`).
"""

import asyncio
import shlex
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import click

from licensesvc.cli.errors import FAILED, INTERRUPTED, Failure
from licensesvc.cli.options import data_dir_option, print_json

if TYPE_CHECKING:
    from licensesvc.cli.story import Teller, Told
    from licensesvc.settings import Settings

KEPT_PORTS: Final = ("8080", "8090")
"""Of the server and of the sandbox when they keep serving."""
FREE_PORTS: Final = ("0", "0")


@click.command()
@data_dir_option
@click.option("--port", metavar="PORT", help="Port of the server (default: a free one; 8080 with --serve).")
@click.option("--sandbox-port", metavar="PORT", help="Port of the sandbox (default: a free one; 8090 with --serve).")
@click.option(
    "--serve", "keep_serving", is_flag=True, help="Keep serving afterwards, on ./data if nothing else is said."
)
def demo(data_dir: str | None, port: str | None, sandbox_port: str | None, *, keep_serving: bool) -> int:
    """Take one order through its whole life and verify every step.

    Without --data-dir everything happens in a temporary directory. The last line is one JSON document.
    """
    from licensesvc.settings import load

    began = time.monotonic()
    default_port, default_sandbox_port = KEPT_PORTS if keep_serving else FREE_PORTS
    with _directory(data_dir, keep=keep_serving) as directory:
        # Settings of somebody's real server are not for the demonstration.
        settings = load({"data_dir": directory, "port": port or default_port}, environment={})
        outcome = asyncio.run(_run(settings, sandbox_port or default_sandbox_port, began, keep_serving=keep_serving))
    if isinstance(outcome, int):
        return outcome
    print_json(
        {
            "order_id": outcome.order_id,
            "license_code": outcome.license_code,
            "activated": True,
            "receipt_kid": outcome.receipt_kid,
            "supervision": outcome.supervision,
            "seconds": round(time.monotonic() - began, 2),
        }
    )
    return 0


@contextmanager
def _directory(given: str | None, *, keep: bool) -> Iterator[str]:
    if given is not None or keep:
        yield given or "data"
        return
    with tempfile.TemporaryDirectory(prefix="licensesvc-") as directory:
        yield directory


async def _run(settings: "Settings", sandbox_port: str, began: float, *, keep_serving: bool) -> "Told | int":
    """Return what was told, or an exit code when there is nothing to print behind it."""
    import httpx2

    from licensesvc.cli.story import Teller

    teller = Teller(began)
    life = asyncio.create_task(_live(settings, sandbox_port, teller, keep_serving=keep_serving))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, life.cancel)
    try:
        return await life
    except asyncio.CancelledError:
        return INTERRUPTED
    except Failure as error:
        teller.failed(error.message)
    except httpx2.HTTPError as error:
        teller.failed(f"a server did not answer: {error!r}")
    return FAILED


async def _live(settings: "Settings", sandbox_port: str, teller: "Teller", *, keep_serving: bool) -> "Told | int":
    from licensesvc.app import create_data, migrate_database
    from licensesvc.cli.admin_client import open_admin
    from licensesvc.cli.children import child
    from licensesvc.cli.datalock import data_lock
    from licensesvc.cli.stage import first_token, set_up
    from licensesvc.cli.story import tell
    from licensesvc.signing.privatefiles import private_directory

    data = private_directory(settings.data)
    with data_lock(settings.lock_file):
        create_data(settings)
        await migrate_database(settings)
    where = ("--data-dir", str(data.absolute()), "--port")
    async with (
        child("the server", "serve", *where, str(settings.port), log=data / "serve.log") as server,
        child("the sandbox", "sandbox", *where, sandbox_port, log=data / "sandbox.log") as sandbox,
    ):
        server_url, sandbox_url = await server.ready(), await sandbox.ready()
        try:
            async with open_admin(settings) as admin:
                stage = await set_up(settings, admin, server_url, sandbox_url)
                teller.step("ready", f"license server {server_url}, sandbox marketplace {sandbox_url}, data in {data}")
                told = await tell(teller, settings, stage, admin)
                _keep(settings, told)
                token = await first_token(admin) if keep_serving else None
        except Exception:
            for running in (server, sandbox):
                teller.quote(running.name, running.log_tail())
            raise
        if not keep_serving:
            return told
        _say_where(settings, server_url, sandbox_url, token)
        with suppress(asyncio.CancelledError):  # Ctrl-C is how this is meant to end
            await asyncio.gather(server.ended(), sandbox.ended())
    return 0


def _keep(settings: "Settings", told: "Told") -> None:
    from licensesvc.cli.stage import documents_dir
    from licensesvc.signing.privatefiles import write_private

    directory = documents_dir(settings)
    write_private(directory / "license.jws", told.license.encode())
    write_private(directory / "receipt.jws", told.receipt.encode())
    write_private(directory / "jwks.json", told.jwks)


def _say_where(settings: "Settings", server_url: str, sandbox_url: str, token: str | None) -> None:
    from licensesvc.cli.stage import MARKETPLACE_PRODUCT, credential_file

    click.echo(
        f"\nLicense server       {server_url}\nAPI page (OpenAPI)   {server_url}/schema\nSandbox marketplace  {sandbox_url}"
    )
    if token is not None:
        click.echo(f"Admin token          {token}\n                     shown this once: keep it")
    click.echo(
        f"Try it               python -m licensesvc sandbox order --data-dir {shlex.quote(settings.data_dir)}"
        f" --product-id {MARKETPLACE_PRODUCT}\n"
        f"                     makes another code; the keys of a program that activates it are in {credential_file(settings)}"
    )
    click.echo("Ctrl-C stops both.")
