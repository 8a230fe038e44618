"""`doctor`: is this installation fit to serve, and could it be brought back? It changes nothing, also beside a running server."""

import asyncio
from typing import TYPE_CHECKING

import click

from licensesvc.cli.errors import FAILED
from licensesvc.cli.options import data_dir_option, json_option, print_json, settings_of

if TYPE_CHECKING:
    from licensesvc.cli.checks import Diagnosis


@click.command()
@data_dir_option
@json_option
def doctor(data_dir: str | None, *, as_json: bool) -> int:
    """Check settings, files, keys, database, clock, disk and libraries; exit code 1 when something fails."""
    settings = settings_of(data_dir=data_dir)
    from licensesvc.cli.checks import State, diagnose

    findings = asyncio.run(diagnose(settings))
    if as_json:
        print_json(findings)
    else:
        _print(findings)
    return FAILED if any(finding.state is State.FAILED for finding in findings) else 0


def _print(findings: "list[Diagnosis]") -> None:
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        click.echo(f"{finding.state:7}  {finding.check:{width}}  {finding.found}")
        if finding.advice:
            click.echo(f"{'':7}  {'':{width}}  -> {finding.advice}")
