"""Commands that record or confirm the same event in many cases, part by part, so that progress can be shown."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from licensesvc.cli.cases import filters
from licensesvc.cli.errors import FAILED
from licensesvc.cli.options import data_dir_option, json_option, print_json, settings_of

if TYPE_CHECKING:
    from licensesvc.cli.admin_client import AdminClient

PART: Final = 20
"""Cases of one request."""

_SHARED: Final[tuple[Callable[[Any], Any], ...]] = (
    click.argument("event"),
    click.argument("cases", metavar="[CASE]…", nargs=-1),
    data_dir_option,
    filters,
    json_option,
)


def _many(command: Any) -> Any:
    for option in reversed(_SHARED):
        command = option(command)
    return command


@click.command("record-many")
@_many
@click.option("--actor", default="operator", show_default=True, help="Who did it.")
@click.option("--at", metavar="TIME", help="When, unless now; RFC 3339.")
@click.option("--here-only", is_flag=True, help="The marketplace does not show it yet.")
@click.option("--reason", help="Why; some events need one.")
def record_many(
    event: str,
    cases: tuple[str, ...],
    data_dir: str | None,
    actor: str,
    at: str | None,
    reason: str | None,
    *,
    here_only: bool,
    as_json: bool,
    **found: str | bool | None,
) -> int:
    """Record that EVENT happened in many cases: those named, or those that the filters find.

    One that refuses keeps no other back; exit code 1 when one did. An event that has moved a case on is refused the second time.
    """
    wish = {"actor": actor, "at": at, "reason": reason, "confirmed": not here_only}
    return _carry_out("record", event, wish, cases, found, data_dir, as_json=as_json)


@click.command("confirm-many")
@_many
@click.option("--at", metavar="TIME", help="When the marketplace says that it happened; RFC 3339.")
@click.option("--reason", help="Why, where the event is news and needs one.")
def confirm_many(
    event: str,
    cases: tuple[str, ...],
    data_dir: str | None,
    at: str | None,
    reason: str | None,
    *,
    as_json: bool,
    **found: str | bool | None,
) -> int:
    """Confirm that the marketplace shows EVENT in many cases: those named, or those that the filters find.

    One that refuses keeps no other back; exit code 1 when one did. Confirming twice changes nothing.
    """
    return _carry_out("confirm", event, {"at": at, "reason": reason}, cases, found, data_dir, as_json=as_json)


def _carry_out(
    verb: str,
    event: str,
    wish: dict[str, Any],
    cases: Sequence[str],
    found: dict[str, str | bool | None],
    data_dir: str | None,
    *,
    as_json: bool,
) -> int:
    given = {name: "true" if value is True else str(value) for name, value in found.items() if value}
    if bool(cases) == bool(given):
        raise click.UsageError("name cases, or give filters")
    body = {verb: {"event": event, **{name: value for name, value in wish.items() if value is not None}}}

    async def carried_out() -> list[dict[str, Any]]:
        from licensesvc.cli.admin_client import open_admin

        async with open_admin(settings_of(data_dir=data_dir)) as client:
            ids = list(dict.fromkeys(cases)) or [row["id"] for row in await client.all("/supervision-cases", **given)]
            return await _part_by_part(client, ids, body)

    results = asyncio.run(carried_out())
    refused = [result for result in results if result["code"] is not None]
    if as_json:
        print_json(results)
    else:
        for result in refused:
            click.echo(f"{result['case']}: {result['code']}: {result['detail']}")
        click.echo(f"{len(results) - len(refused)} done, {len(refused)} refused")
    return FAILED if refused else 0


async def _part_by_part(client: "AdminClient", waiting: list[str], body: dict[str, Any]) -> list[dict[str, Any]]:
    """What the server leaves for later comes first in the next part."""
    from rich.console import Console
    from rich.progress import Progress

    results: list[dict[str, Any]] = []
    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task(next(iter(body)), total=len(waiting))
        while waiting:
            answer = await client.post("/supervision-cases/bulk", {**body, "cases": waiting[:PART]})
            results += answer["results"]
            waiting = answer["left"] + waiting[PART:]
            progress.advance(task, len(answer["results"]))
    return results
