"""Commands about links to the buyer's page of a case: made and shown once, or mailed to the buyer; listed, revoked."""

import asyncio
from typing import Any, Final
from urllib.parse import quote

import click

from licensesvc.cli.cases import case_argument
from licensesvc.cli.options import data_dir_option, json_option, print_facts, print_json, print_rows, settings_of

_LISTED: Final = ("id", "created_at", "created_by", "expires_at", "revoked_at", "mailed_at", "mail_unsent")


@click.group()
def link() -> None:
    """Links by which a buyer sees a case without an account. LINK is our id, lnk_…."""


@link.command()
@case_argument
@data_dir_option
@click.option("--days", type=click.IntRange(1), default=30, show_default=True, help="How long it lives; at most 365.")
@click.option("--mail", is_flag=True, help="Mail it to the buyer instead of showing it.")
@click.option(
    "--language", metavar="LANGUAGE", help="Of the mail: zh-CN or en (default: that of the connection's site)."
)
@json_option
def make(case_id: str, data_dir: str | None, days: int, language: str | None, *, mail: bool, as_json: bool) -> None:
    """Make a link to the page of a case; its address is shown this once, or goes to the buyer's mail address alone.

    Whoever has the address can see the code and act for the buyer.
    """
    if language is not None and not mail:
        raise click.UsageError("--language goes with --mail")
    wish = {"days": days} if language is None else {"days": days, "language": language}

    async def made() -> dict[str, Any]:
        from licensesvc.cli.admin_client import open_admin

        async with open_admin(settings_of(data_dir=data_dir)) as client:
            return await client.post(f"/supervision-cases/{_name(case_id)}/buyer-links{'/mail' if mail else ''}", wish)

    print_facts(asyncio.run(made()), as_json=as_json)


@link.command("list")
@case_argument
@data_dir_option
@json_option
def list_links(case_id: str, data_dir: str | None, *, as_json: bool) -> None:
    """List the links of a case, also those that are over, the oldest first; their addresses are not known any more."""

    async def listed() -> list[dict[str, Any]]:
        from licensesvc.cli.admin_client import open_admin

        async with open_admin(settings_of(data_dir=data_dir)) as client:
            items: list[dict[str, Any]] = (await client.get(f"/supervision-cases/{_name(case_id)}/buyer-links"))[
                "items"
            ]
            return items

    rows = asyncio.run(listed())
    print_rows(rows if as_json else [{name: row[name] for name in _LISTED} for row in rows], as_json=as_json)


@link.command()
@click.argument("links", metavar="LINK…", nargs=-1, required=True)
@data_dir_option
@json_option
def revoke(links: tuple[str, ...], data_dir: str | None, *, as_json: bool) -> None:
    """Revoke links, from now on; doing it twice is fine."""

    async def revoked() -> None:
        from licensesvc.cli.admin_client import open_admin

        async with open_admin(settings_of(data_dir=data_dir)) as client:
            for wanted in links:
                await client.delete(f"/buyer-links/{_name(wanted)}")

    asyncio.run(revoked())
    if as_json:
        print_json({"revoked": links})
    else:
        click.echo(f"{len(links)} revoked")


def _name(given: str) -> str:
    """One segment of a path, whatever was typed: revoking must not end up at another record."""
    return quote(given, safe="")
