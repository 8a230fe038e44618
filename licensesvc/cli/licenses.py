"""Commands about licenses: find, show, and what the seller changes by hand, each with its reason."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final

import click

from licensesvc.cli.errors import Failure
from licensesvc.cli.options import data_dir_option, json_option, print_facts, print_rows, settings_of

_LISTED: Final = ("id", "order_id", "code_hint", "status", "seats", "seats_taken", "expires_at")

license_argument = click.argument("license_", metavar="LICENSE")
reason_option = click.option("--reason", required=True, help="Why; the audit keeps it for good.")


@click.group("license")
def license_() -> None:
    """Licenses. LICENSE is our id (lic_…) or a license code; `-` reads the code from standard input."""


@license_.command("list")
@data_dir_option
@click.option("--order-id", metavar="ID", help="The marketplace's order id.")
@click.option("--product", metavar="ID", help="Our id of the product, prd_….")
@click.option("--buyer", metavar="ID", help="Our id of the buyer, buy_….")
@click.option("--customer-id", metavar="ID", help="The marketplace's id of the buyer.")
@click.option("--status", metavar="STATUS", help="ALIVE, EXPIRED, SUSPENDED, ….")
@json_option
def list_licenses(data_dir: str | None, *, as_json: bool, **filters: str | None) -> None:
    """List licenses of which all that is given is true."""
    from licensesvc.cli.admin_client import open_admin

    settings = settings_of(data_dir=data_dir)
    given = {name: value for name, value in filters.items() if value is not None}

    async def listed() -> list[dict[str, Any]]:
        async with open_admin(settings) as client:
            return await client.all("/licenses", **given)

    rows = asyncio.run(listed())
    print_rows(rows if as_json else [{name: row[name] for name in _LISTED} for row in rows], as_json=as_json)


@license_.command("show")
@license_argument
@data_dir_option
@json_option
def show(license_: str, data_dir: str | None, *, as_json: bool) -> None:
    """Show a license."""
    from licensesvc.cli.admin_client import open_admin

    settings = settings_of(data_dir=data_dir)
    wanted = _read(license_)

    async def shown() -> dict[str, Any]:
        async with open_admin(settings) as client:
            return await client.get(await _path(client, wanted))

    print_facts(asyncio.run(shown()), as_json=as_json)


def _change(verb: str, text: str, *options: Callable[[Any], Any]) -> None:
    """Add the command of one verb of the admin API; its options are the fields of the body."""

    def change(license_: str, data_dir: str | None, *, as_json: bool, **body: Any) -> None:
        from licensesvc.cli.admin_client import open_admin

        settings = settings_of(data_dir=data_dir)
        wanted = _read(license_)

        async def changed() -> dict[str, Any]:
            async with open_admin(settings) as client:
                return await client.change(await _path(client, wanted), verb, _body(body))

        print_facts(asyncio.run(changed()), as_json=as_json)

    command: Any = change
    for option in (license_argument, data_dir_option, *options, reason_option, json_option):
        command = option(command)
    license_.command(verb, help=text)(command)


_change("suspend", "Stop a license until it is reinstated; its time runs on.")
_change("reinstate", "End the suspension of a license.")
_change("revoke", "End a license for good.")
_change(
    "renew",
    "Add a period to the end of a license, its own unless another is given.",
    click.option("--unit", type=click.Choice(["YEAR", "MONTH", "DAY"]), help="Unit of the period."),
    click.option("--count", type=int, help="How many of the unit."),
)
_change(
    "move-expiry",
    "Let a license end at a time, or, without one, when marketplace and policy say.",
    click.option("--expires-at", metavar="TIME", help="RFC 3339, e.g. 2027-11-23T16:00:00Z."),
)
_change(
    "change-quantity",
    "Sell more or fewer seats.",
    click.option("--quantity", type=int, required=True, help="Seats from now on."),
)
_change("replace-code", "Replace a code that leaked; the old one is unknown at once.")
_change(
    "free-seat",
    "Force a seat free, the oldest unless one is named.",
    click.option("--activation", metavar="ID", help="The activation that holds it, act_…."),
)
_change("send-code", "Mail the code to the buyer.", click.option("--language", help="zh-CN or en."))


def _body(options: dict[str, Any]) -> dict[str, Any]:
    if "unit" not in options:
        return options
    unit, count = options.pop("unit"), options.pop("count")
    if (unit is None) != (count is None):
        raise click.UsageError("give --unit and --count together")
    return options if unit is None else {**options, "period": {"unit": unit, "count": count}}


def _read(text: str) -> str:
    return sys.stdin.readline().strip() if text == "-" else text


async def _path(client: Any, wanted: str) -> str:
    """The path of the license that is meant by its id or its code."""
    if wanted.startswith("lic_"):
        return f"/licenses/{wanted}"
    found = await client.all("/licenses", code=wanted)
    if not found:
        raise Failure("no license has this code")
    return f"/licenses/{found[0]['id']}"
