"""Commands that an owner gives: admin tokens, credentials of software, signing keys."""

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from licensesvc.cli.options import data_dir_option, json_option, print_facts, print_rows, settings_of

if TYPE_CHECKING:
    from licensesvc.settings import Settings


@click.group()
def admin() -> None:
    """Who may administer."""


@admin.command("create-token")
@data_dir_option
@click.option("--name", required=True, help="Whose it is.")
@click.option("--role", default="owner", show_default=True, help="owner, operator or reader.")
@json_option
def create_token(data_dir: str | None, name: str, role: str, *, as_json: bool) -> None:
    """Make a token for the admin API; it is shown this once."""
    print_facts(_post(settings_of(data_dir=data_dir), "/tokens", {"name": name, "role": role}), as_json=as_json)


@click.group()
def credential() -> None:
    """Access keys of software and of the seller's programs."""


@credential.command("create")
@data_dir_option
@click.option("--connection", required=True, metavar="ID", help="The connection, con_….")
@click.option("--product", metavar="ID", help="The product, prd_…; exactly with scope device.")
@click.option("--scope", default="device", show_default=True, help="device or seller.")
@click.option("--name", required=True, help="What it is for.")
@json_option
def create_credential(data_dir: str | None, *, as_json: bool, **command: Any) -> None:
    """Make an access key and a secret key; the secret key is shown this once."""
    print_facts(_post(settings_of(data_dir=data_dir), "/credentials", command), as_json=as_json)


@click.group()
def keys() -> None:
    """Keys that sign licenses and receipts."""


@keys.command("list")
@data_dir_option
@json_option
def list_keys(data_dir: str | None, *, as_json: bool) -> None:
    """List the keys in the data directory."""
    settings = settings_of(data_dir=data_dir)
    from licensesvc.app import require_data
    from licensesvc.domain.instants import rfc3339
    from licensesvc.signing import keyset

    require_data(settings)
    rows = [
        {"kid": key.kid, "status": key.status, "created_at": rfc3339(key.created_at)}
        for key in sorted(keyset.load(settings.signing_keys_file).keys, key=lambda key: key.created_at)
    ]
    print_rows(rows, as_json=as_json)


@keys.command("rotate")
@data_dir_option
@json_option
def rotate_keys(data_dir: str | None, *, as_json: bool) -> None:
    """Sign with the next key from now on; a running server does so at once."""
    print_rows(_post(settings_of(data_dir=data_dir), "/keys/rotate", None)["items"], as_json=as_json)


@keys.command("compromise")
@click.argument("kid", metavar="KID")
@data_dir_option
@click.option("--reason", required=True, help="Why; kept in the audit chain.")
@json_option
def compromise_key(kid: str, data_dir: str | None, reason: str, *, as_json: bool) -> None:
    """Give up a key that leaked: it is neither published nor believed again; the next one signs, if it did.

    The next key lies in the same file: if the file leaked, give up both.
    """
    answer = _post(settings_of(data_dir=data_dir), f"/keys/{quote(kid, safe='')}/compromise", {"reason": reason})
    print_rows(answer["items"], as_json=as_json)


def _post(settings: "Settings", path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    from licensesvc.cli.admin_client import open_admin

    async def post() -> dict[str, Any]:
        async with open_admin(settings) as client:
            return await client.post(path, body)

    return asyncio.run(post())
