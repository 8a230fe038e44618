"""Commands that only read, also beside a running server: `check-config`, `code inspect`, `audit`."""

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from licensesvc.cli.errors import FAILED, Misconfigured, failure_of
from licensesvc.cli.options import data_dir_option, json_option, print_facts, print_json, settings_of

if TYPE_CHECKING:
    from licensesvc.services.upkeep.audit_database import AuditReport
    from licensesvc.settings import Settings


@click.command("check-config")
@data_dir_option
@json_option
def check_config(data_dir: str | None, *, as_json: bool) -> None:
    """Show the settings, and say what a server would refuse to start with."""
    settings = settings_of(data_dir=data_dir)
    import msgspec

    problem = asyncio.run(_problem(settings))
    shown = msgspec.structs.asdict(settings)
    for name in ("database_url", "smtp_url"):
        if shown[name]:
            shown[name] = "***"
    print_facts({**shown, "ready": problem is None}, as_json=as_json)
    if problem is not None:
        raise Misconfigured(problem)


async def _problem(settings: "Settings") -> str | None:
    from licensesvc.app import open_reader, open_runtime
    from licensesvc.cli.tls import certificate_of

    try:
        certificate_of(settings)
        async with open_runtime(settings, open_reader):
            return None
    except Exception as error:  # noqa: BLE001 - whatever stops a server is what is asked for
        return failure_of(error).message


@click.group()
def code() -> None:
    """License codes."""


@code.command("inspect")
@click.argument("text", metavar="CODE")
@data_dir_option
@json_option
def inspect_code(text: str, data_dir: str | None, *, as_json: bool) -> None:
    """Say what a code is, and whose license it opens; `-` reads the code from standard input."""
    settings = settings_of(data_dir=data_dir)
    from licensesvc.domain import licensecode

    text = sys.stdin.readline().strip() if text == "-" else text
    facts = licensecode.inspect(text)
    shown: dict[str, Any] = {"kind": facts.kind, "prefix": facts.prefix, "hint": licensecode.hint(text)}
    if settings.signing_keys_file.exists():
        shown |= asyncio.run(_license_of(settings, text))
    print_facts(shown, as_json=as_json)


async def _license_of(settings: "Settings", text: str) -> dict[str, Any]:
    from licensesvc.app import now, open_reader, open_runtime
    from licensesvc.domain.instants import rfc3339
    from licensesvc.domain.license import status_at
    from licensesvc.services.licenses.issue_license import code_index
    from licensesvc.storage import licenses

    async with open_runtime(settings, open_reader) as rt:
        loaded = await rt.db.read(lambda tx: licenses.by_code(tx, code_index(rt, text)))
    if loaded is None:
        return {"license": None}
    view = loaded.view
    return {
        "license": view.public_id,
        "order_id": loaded.order_id,
        "status": status_at(view, now()),
        "seats": view.seats,
        "seats_taken": view.seats_taken,
        "expires_at": None if view.expires_at is None else rfc3339(view.expires_at),
    }


@click.command()
@data_dir_option
@json_option
def audit(data_dir: str | None, *, as_json: bool) -> int:
    """Re-read everything and report what contradicts itself; exit code 1 when something does."""
    report = asyncio.run(_audit(settings_of(data_dir=data_dir)))
    if as_json:
        print_json({"clean": report.clean, "counts": report.counts, "findings": report.findings})
    else:
        for finding in report.findings:
            click.echo(f"{finding.check}: {finding.subject}: {finding.problem}")
        counted = ", ".join(f"{count} {kind}" for kind, count in report.counts.items()) or "nothing"
        click.echo(f"{'clean' if report.clean else f'{len(report.findings)} findings'}: {counted} re-read")
    return 0 if report.clean else FAILED


async def _audit(settings: "Settings") -> "AuditReport":
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from licensesvc.app import open_reader, open_runtime
    from licensesvc.services.upkeep.audit_database import audit_database

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), TextColumn("{task.completed}"), TimeElapsedColumn()
    async with open_runtime(settings, open_reader) as rt:
        with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
            tasks: dict[str, Any] = {}

            def count(kind: str, done: int) -> None:
                if kind not in tasks:
                    tasks[kind] = progress.add_task(kind, total=None)
                progress.update(tasks[kind], completed=done)

            return await audit_database(rt, count)
