"""Commands about webhook endpoints: who is told of events, stopping and going on, sending again."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from licensesvc.cli.errors import Failure
from licensesvc.cli.options import data_dir_option, json_option, print_facts, print_rows, settings_of

if TYPE_CHECKING:
    from licensesvc.cli.admin_client import AdminClient

_LISTED: Final = ("id", "url", "events", "disabled_at", "disabled_why", "failing_since")

endpoint_argument = click.argument("endpoint", metavar="ENDPOINT")


@click.group()
def webhook() -> None:
    """Webhook endpoints: who is told of events. ENDPOINT is our id, whe_…."""


@webhook.command("list")
@data_dir_option
@click.option("--disabled/--enabled", default=None, help="Only those that are sent nothing, or only the others.")
@json_option
def list_endpoints(data_dir: str | None, *, disabled: bool | None, as_json: bool) -> None:
    """List endpoints, the oldest first."""
    given = {} if disabled is None else {"disabled": str(disabled).lower()}
    rows = _run(data_dir, lambda client: client.all("/webhook-endpoints", **given))
    shown = [{name: row[name] for name in _LISTED} | {"events": ", ".join(row["events"])} for row in rows]
    print_rows(rows if as_json else shown, as_json=as_json)


@webhook.command()
@click.argument("url")
@data_dir_option
@click.option(
    "--event", "events", multiple=True, metavar="FILTER", help="A type, `group.*` or `*` (default); repeatable."
)
@click.option("--description", default="", help="What it is for.")
@click.option("--signature", "signatures", multiple=True, metavar="KIND", help="v1 (default) or v1a; repeatable.")
@json_option
def create(url: str, data_dir: str | None, description: str, *, as_json: bool, **lists: tuple[str, ...]) -> None:
    """Add an endpoint, told of events from now on; its secret is shown this once."""
    given = {name: values for name, values in lists.items() if values}
    body = {"url": url, "description": description, **given}
    print_facts(_run(data_dir, lambda client: client.post("/webhook-endpoints", body)), as_json=as_json)


@webhook.command()
@endpoint_argument
@data_dir_option
@json_option
def disable(endpoint: str, data_dir: str | None, *, as_json: bool) -> None:
    """Send nothing until the endpoint is enabled again; events wait."""
    print_facts(_run(data_dir, lambda client: client.post(f"{_path(endpoint)}/disable")), as_json=as_json)


@webhook.command()
@endpoint_argument
@data_dir_option
@click.option("--skip-missed", is_flag=True, help="Leave out what happened meanwhile.")
@json_option
def enable(endpoint: str, data_dir: str | None, *, skip_missed: bool, as_json: bool) -> None:
    """Send again, first of all what happened meanwhile, in order."""
    body = {"skip_missed": skip_missed}
    print_facts(_run(data_dir, lambda client: client.post(f"{_path(endpoint)}/enable", body)), as_json=as_json)


@webhook.command()
@endpoint_argument
@click.option("--since", required=True, metavar="TIME", help="RFC 3339, e.g. 2026-11-25T00:00:00Z.")
@data_dir_option
@json_option
def replay(endpoint: str, since: str, data_dir: str | None, *, as_json: bool) -> None:
    """Send the events since a time again, part by part; receivers know each by its id."""
    print_facts({"queued": _run(data_dir, lambda client: _replay(client, endpoint, since))}, as_json=as_json)


async def _replay(client: "AdminClient", endpoint: str, since: str) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from licensesvc.cli.admin_client import AdminRefused

    console = Console(stderr=True)
    queued = 0
    following = since
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("queueing", total=None)
        while True:
            try:
                answer = await client.post(f"{_path(endpoint)}/replay", {"since": following})
            except AdminRefused as refused:
                if not queued:
                    raise
                raise Failure(f"{queued} queued; go on later with --since {following}: {refused}") from None
            queued += int(answer["queued"])
            progress.update(task, completed=queued)
            if answer["next_since"] is None:
                return queued
            if answer["next_since"] == following:
                raise Failure(f"{queued} queued; more events bear the time {following} than one part holds")
            following = answer["next_since"]


def _path(endpoint: str) -> str:
    """The path of an endpoint: one segment, whatever was typed."""
    return f"/webhook-endpoints/{quote(endpoint, safe='')}"


def _run(data_dir: str | None, work: "Callable[[AdminClient], Any]") -> Any:
    from licensesvc.cli.admin_client import open_admin

    async def run() -> Any:
        async with open_admin(settings_of(data_dir=data_dir)) as client:
            return await work(client)

    return asyncio.run(run())
