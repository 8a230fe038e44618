"""Commands about CSV files: orders into the server, lists out of it."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from licensesvc.cli.errors import FAILED, Failure
from licensesvc.cli.options import data_dir_option, json_option, print_json, settings_of

if TYPE_CHECKING:
    from licensesvc.cli.admin_client import AdminClient
    from licensesvc.services.imports.csvfiles import Layout, Record
    from licensesvc.settings import Settings

PART: Final = 500
"""Rows that are sent at once, so that progress can be shown and no request takes long."""
_COUNTS: Final = ("created", "known", "bad")


@click.command("import-orders")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@data_dir_option
@click.option("--connection", required=True, metavar="ID", help="Whose orders they are, con_….")
@click.option("--dry-run", is_flag=True, help="Report what would happen and write nothing.")
@click.option("--all-or-nothing", is_flag=True, help="Write only if a dry run finds no bad row.")
@json_option
def import_orders(
    file: Path, data_dir: str | None, connection: str, *, dry_run: bool, all_or_nothing: bool, as_json: bool
) -> int:
    """Import orders, with codes that were made elsewhere, from a CSV file; exit code 1 when a row is bad.

    The same file again changes nothing.
    """
    settings = settings_of(data_dir=data_dir)
    passes = [dry_run] if dry_run or not all_or_nothing else [True, False]
    report = asyncio.run(_import(settings, file, connection, passes))
    if as_json:
        print_json(report)
    else:
        for bad in report["bad_rows"]:
            click.echo(f"line {bad['line']}: {bad['problem']}")
        counted = ", ".join(f"{report[name]} {name}" for name in _COUNTS)
        click.echo(f"{report['rows']} rows: {counted}{'' if report['written'] else '; nothing was written'}")
    return FAILED if report["bad"] else 0


async def _import(settings: "Settings", path: Path, connection: str, passes: Sequence[bool]) -> dict[str, Any]:
    from licensesvc.cli.admin_client import open_admin
    from licensesvc.domain.errors import InvalidParameter
    from licensesvc.services.imports.csvfiles import examine
    from licensesvc.services.imports.import_orders import COLUMNS, REQUIRED
    from licensesvc.services.imports.import_rows import MAX_ROWS

    report: dict[str, Any] = {}
    with path.open("rb") as file:
        try:
            layout = examine(file, required=REQUIRED, known=COLUMNS, max_rows=MAX_ROWS)
        except InvalidParameter as error:
            raise Failure(f"{path}: {error.message}") from None
        async with open_admin(settings) as client:
            for dry_run in passes:
                report = await _walk(client, file, layout, connection, dry_run=dry_run)
                if report["bad"]:
                    break
    return report


async def _walk(
    client: "AdminClient", file: IO[bytes], layout: "Layout", connection: str, *, dry_run: bool
) -> dict[str, Any]:
    """Send the rows part by part, and put the reports together."""
    from rich.console import Console
    from rich.progress import Progress

    from licensesvc.services.imports.csvfiles import records

    total: dict[str, Any] = {"rows": layout.rows, **dict.fromkeys(_COUNTS, 0), "bad_rows": [], "written": not dry_run}
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("trying" if dry_run else "importing", total=layout.rows)
        with closing(records(file, layout)) as rows:
            while part := list(islice(rows, PART)):
                report = await _send(client, layout, part, connection, dry_run=dry_run)
                for name in _COUNTS:
                    total[name] += report[name]
                total["bad_rows"] += report["bad_rows"]
                progress.advance(task, len(part))
    return total


async def _send(
    client: "AdminClient", layout: "Layout", part: Sequence["Record"], connection: str, *, dry_run: bool
) -> dict[str, Any]:
    from licensesvc.services.imports import csvfiles

    sent = [record for record in part if record.problem is None]
    rows = [[record.cells.get(column) for column in layout.columns] for record in sent]
    content = csvfiles.lines([layout.columns, *rows]).encode()
    report = await client.upload("/imports", csvfiles.MEDIA_TYPE, content, connection=connection, dry_run=dry_run)
    bad = [{**row, "row": sent[row["row"] - 1].row, "line": sent[row["row"] - 1].line} for row in report["bad_rows"]]
    for record in part:
        if record.problem is not None:
            bad.append({"row": record.row, "line": record.line, "code": "INVALID_PARAMETER", "problem": record.problem})
            report["bad"] += 1
    return {**report, "bad_rows": sorted(bad, key=lambda row: row["row"])}


@click.command()
@click.argument("kind", type=click.Choice(["licenses", "orders", "cases"]))
@data_dir_option
@click.option(
    "--output", type=click.File("wb", atomic=True), default="-", help="File to write (default: standard output)."
)
def export(kind: str, data_dir: str | None, output: IO[bytes]) -> None:
    """Write all licenses, orders or supervision cases as CSV."""
    settings = settings_of(data_dir=data_dir)
    from licensesvc.cli.admin_client import open_admin

    async def written() -> None:
        async with open_admin(settings) as client:
            async for piece in client.download(f"/exports/{kind}"):
                output.write(piece)

    asyncio.run(written())
