"""Commands about supervision cases: find, show, record what happened, confirm what the marketplace shows."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from licensesvc.cli.errors import FAILED
from licensesvc.cli.options import data_dir_option, json_option, print_facts, print_rows, settings_of

_LISTED: Final = ("id", "order_id", "node", "waits_for", "due_at", "unconfirmed_since", "appealed_at", "refund")
_SHOWN: Final = (
    "id", "order_id", "line_id", "flow", "node", "waits_for", "due_at", "missing", "refund", "appealed_at",
    "unconfirmed_since", "accepted_at", "acceptance_confirmed_at", "completed_at", "settlement_month",
)  # fmt: skip

_FILTERS: Final[tuple[Callable[[Any], Any], ...]] = (
    click.option("--order-id", metavar="ID", help="The marketplace's order id."),
    click.option("--node", metavar="NODE", help="DELIVERING, PROVING, BUYER_CONFIRMING, …."),
    click.option("--waits-for", metavar="ACTOR", help="Whose turn it is: seller, buyer, software, marketplace."),
    click.option("--overdue", is_flag=True, help="Only cases with a broken promise."),
    click.option("--unconfirmed", is_flag=True, help="Only cases with something done here and not confirmed there."),
    click.option("--frozen", is_flag=True, help="Only cases that an appeal freezes."),
    click.option("--settlement-month", metavar="MONTH", help="Only cases billed then, e.g. 2027-01."),
)

case_argument = click.argument("case_id", metavar="CASE")


def filters(command: Any) -> Any:
    """The options by which cases are found."""
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@click.group("case")
def case() -> None:
    """Supervision cases (服务监管). CASE is our id, case_…."""


@case.command("list")
@data_dir_option
@filters
@json_option
def list_cases(data_dir: str | None, *, as_json: bool, **found: str | bool | None) -> None:
    """List cases of which all that is given is true."""
    given = {name: "true" if value is True else str(value) for name, value in found.items() if value}

    async def listed() -> list[dict[str, Any]]:
        from licensesvc.cli.admin_client import open_admin

        async with open_admin(settings_of(data_dir=data_dir)) as client:
            return await client.all("/supervision-cases", **given)

    rows = asyncio.run(listed())
    print_rows(rows if as_json else [{name: row[name] for name in _LISTED} for row in rows], as_json=as_json)


@case.command("show")
@case_argument
@data_dir_option
@json_option
def show(case_id: str, data_dir: str | None, *, as_json: bool) -> None:
    """Show a case: where it stands, what is missing, who must act and by when."""

    async def shown() -> dict[str, Any]:
        from licensesvc.cli.admin_client import open_admin

        async with open_admin(settings_of(data_dir=data_dir)) as client:
            return await client.get(f"/supervision-cases/{case_id}")

    _print(asyncio.run(shown()), as_json=as_json)


@case.command("record")
@case_argument
@click.argument("event")
@data_dir_option
@click.option("--actor", default="operator", show_default=True, help="Who did it.")
@click.option("--at", metavar="TIME", help="When, unless now; RFC 3339.")
@click.option("--here-only", is_flag=True, help="The marketplace does not show it yet.")
@click.option("--reason", help="Why; some events need one.")
@json_option
def record(
    case_id: str, event: str, data_dir: str | None, *, here_only: bool, as_json: bool, **body: str | None
) -> None:
    """Record that EVENT happened, e.g. delivered, accepted, rejected, appealed, ruled_continue, reopened."""
    given = {name: value for name, value in body.items() if value is not None}
    _post(case_id, "events", {"event": event, "confirmed": not here_only, **given}, data_dir, as_json=as_json)


@case.command("confirm")
@case_argument
@click.argument("event")
@data_dir_option
@click.option("--at", metavar="TIME", help="When the marketplace says that it happened; RFC 3339.")
@click.option("--reason", help="Why, where the event is news and needs one.")
@json_option
def confirm(case_id: str, event: str, data_dir: str | None, *, as_json: bool, **body: str | None) -> None:
    """Confirm that the marketplace shows EVENT, and so everything before it."""
    given = {name: value for name, value in body.items() if value is not None}
    _post(case_id, "confirmations", {"event": event, **given}, data_dir, as_json=as_json)


@case.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@data_dir_option
@click.option("--connection", required=True, metavar="ID", help="Whose orders they are, con_….")
@click.option("--dry-run", is_flag=True, help="Report what would happen and write nothing.")
@click.option("--all-or-nothing", is_flag=True, help="Write only if a dry run finds no bad row.")
@json_option
def import_(
    file: Path, data_dir: str | None, connection: str, *, dry_run: bool, all_or_nothing: bool, as_json: bool
) -> int:
    """Import what the marketplace shows, from a CSV file with order_id, line_id, event, time and reason; exit code 1 when a row is bad.

    The same file again changes nothing.
    """
    content = file.read_bytes()

    async def imported() -> dict[str, Any]:
        from licensesvc.cli.admin_client import open_admin

        async with open_admin(settings_of(data_dir=data_dir)) as client:
            return await client.upload(
                "/imports/confirmations",
                "text/csv",
                content,
                connection=connection,
                dry_run=dry_run,
                all_or_nothing=all_or_nothing,
            )

    report = asyncio.run(imported())
    if as_json:
        print_facts(report, as_json=True)
    else:
        for bad in report["bad_rows"]:
            click.echo(f"line {bad['line']}: {bad['problem']}")
        counted = ", ".join(f"{report[name]} {name}" for name in ("recorded", "confirmed", "known", "bad"))
        click.echo(f"{report['rows']} rows: {counted}{'' if report['written'] else '; nothing was written'}")
    return FAILED if report["bad"] else 0


def _post(case_id: str, what: str, body: dict[str, Any], data_dir: str | None, *, as_json: bool) -> None:
    async def posted() -> dict[str, Any]:
        from licensesvc.cli.admin_client import open_admin

        async with open_admin(settings_of(data_dir=data_dir)) as client:
            return await client.post(f"/supervision-cases/{case_id}/{what}", body)

    _print(asyncio.run(posted()), as_json=as_json)


def _print(shown: dict[str, Any], *, as_json: bool) -> None:
    print_facts(shown if as_json else {name: shown[name] for name in _SHOWN}, as_json=as_json)
