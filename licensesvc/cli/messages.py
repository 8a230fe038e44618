"""Commands about what went wrong with the marketplace: interface messages, given-up work, and what the nightly comparison found."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from licensesvc.cli.errors import FAILED
from licensesvc.cli.licenses import reason_option
from licensesvc.cli.options import data_dir_option, json_option, print_facts, print_json, print_rows, settings_of

if TYPE_CHECKING:
    from licensesvc.cli.admin_client import AdminClient
    from licensesvc.settings import Settings

PART: Final = 10
"""Messages that are restarted in one request, so that progress can be shown."""
_LISTED: Final = ("id", "received_at", "direction", "activity", "order_id", "state", "outcome", "purpose")
_OUTBOX: Final = ("id", "kind", "about", "state", "attempts", "due_at", "last_error")
_FINDINGS: Final = ("id", "order_id", "line_id", "kind", "ours", "theirs", "repair", "found_at")
_STATES: Final = ("SUCCEEDED", "IN_PROGRESS", "FAILED", "RETRIED", "RESTARTED", "UNPROVEN")
_UNDONE: Final = ("FAILED", "IN_PROGRESS")
_NOT_REACHED: Final = {
    "result": "refused",
    "code": "MARKETPLACE_NOT_ASKED",
    "detail": "the marketplace does not answer, so this one was not tried",
    "notes": [],
}

_FILTERS: Final[tuple[Callable[[Any], Any], ...]] = (
    click.option("--order-id", metavar="ID", help="The marketplace's order id."),
    click.option("--license", metavar="ID", help="Our id of a license, lic_…."),
    click.option("--connection", metavar="ID", help="Our id of the connection, con_…."),
    click.option("--activity", metavar="NAME", help="getLicense, orderNotify, order/query, …."),
    click.option("--direction", type=click.Choice(["in", "out"]), help="Callbacks, or calls of ours."),
    click.option("--since", metavar="TIME", help="RFC 3339, e.g. 2026-11-23T16:00:00Z."),
    click.option("--until", metavar="TIME", help="RFC 3339; this moment no more."),
)


def _filters(command: Any) -> Any:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@click.group()
def message() -> None:
    """Interface messages (生产接口消息): what the marketplace and this server said to each other."""


@message.command("list")
@data_dir_option
@_filters
@click.option("--state", type=click.Choice(_STATES), help="Where they stand by now.")
@click.option("--purpose", type=click.Choice(["live", "test"]), help="Business, or test calls.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True, help="How many, the newest.")
@json_option
def list_messages(data_dir: str | None, limit: int, *, as_json: bool, **filters: str | None) -> None:
    """List the newest messages of which all that is given is true, the newest first."""
    rows = _run(
        settings_of(data_dir=data_dir),
        lambda client: client.page("/messages", limit, order="newest", **_given(filters)),
    )
    print_rows(rows if as_json else [{name: row[name] for name in _LISTED} for row in rows], as_json=as_json)


@message.command()
@click.argument("message_id", metavar="ID")
@data_dir_option
@json_option
def show(message_id: str, data_dir: str | None, *, as_json: bool) -> None:
    """Show a message (msg_…) with its restarts; codes, signatures and people are masked."""
    print_facts(
        _run(settings_of(data_dir=data_dir), lambda client: client.get(f"/messages/{message_id}")), as_json=as_json
    )


@message.command()
@click.argument("ids", metavar="[ID]…", nargs=-1)
@data_dir_option
@_filters
@click.option("--state", type=click.Choice(_UNDONE), help="Only those that stand so (default: both).")
@click.option("--all", "every", is_flag=True, help="All that are undone, or all that the filters find.")
@reason_option
@click.option("--without-asking", is_flag=True, help="Do not ask the marketplace whether the order still stands.")
@click.option("--even-if-overtaken", is_flag=True, help="Although a later call of the kind may be undone.")
@json_option
def restart(
    ids: tuple[str, ...],
    data_dir: str | None,
    reason: str,
    *,
    every: bool,
    without_asking: bool,
    even_if_overtaken: bool,
    as_json: bool,
    **filters: str | None,
) -> int:
    """Carry messages out again, in the order in which they came: those named, or those undone ones that the filters find.

    The marketplace's own retries are not changed by this: restart the messages there too. Exit code 1 when one was not carried out.
    """
    given = _given(filters)
    if bool(ids) == bool(every or given):
        raise click.UsageError("name messages, or give filters or --all")
    wish = {"reason": reason, "without_asking": without_asking, "even_if_overtaken": even_if_overtaken}
    items = _run(settings_of(data_dir=data_dir), lambda client: _restart(client, ids, given, wish))
    if as_json:
        print_json(items)
    else:
        for item in items:
            said = ": ".join(str(item[name]) for name in ("code", "detail") if item[name])
            click.echo(f"{item['message']}: {item['result'].replace('_', ' ')}{f' ({said})' if said else ''}")
        for note in sorted({note for item in items for note in item["notes"]}):
            click.echo(f"note: {note}")
        click.echo(f"{len(items)} restarted" if items else "nothing to restart")
    return FAILED if any(item["result"] in {"failed", "refused"} for item in items) else 0


async def _restart(
    client: "AdminClient", ids: Sequence[str], filters: dict[str, str], wish: dict[str, Any]
) -> list[dict[str, Any]]:
    """Restart part by part; what the server leaves for later comes first in the next part."""
    waiting = list(ids) or await _undone(client, filters)
    items: list[dict[str, Any]] = []
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("restarting", total=len(waiting))
        while waiting:
            part, waiting = waiting[:PART], waiting[PART:]
            answer = await client.post("/messages/restart", {**wish, "ids": part})
            items += answer["items"]
            waiting = answer["left"] + waiting
            progress.advance(task, len(answer["items"]))
            if answer["stopped"] == "marketplace":
                items += [{**_NOT_REACHED, "message": left} for left in waiting]
                break
    return items


async def _undone(client: "AdminClient", filters: dict[str, str]) -> list[str]:
    """The live messages that neither succeeded nor were followed by one that did, as they came."""
    states = [filters["state"]] if "state" in filters else _UNDONE
    found: list[dict[str, Any]] = []
    for state in states:
        found += await client.all("/messages", **{"direction": "in", "purpose": "live", **filters, "state": state})
    found.sort(key=lambda row: (row["received_at"], row["id"]))
    return [row["id"] for row in found if row["restart_of"] is None]


@click.group()
def outbox() -> None:
    """Work that is carried out in the background: asking for orders, mail."""


@outbox.command("list")
@data_dir_option
@click.option("--state", type=click.Choice(["waiting", "done", "given_up"]), help="What became of it (default: all).")
@click.option("--kind", metavar="KIND", help="order_query, mail_code, mail_buyer_link, ….")
@json_option
def list_outbox(data_dir: str | None, *, as_json: bool, **filters: str | None) -> None:
    """List background work, the oldest first."""
    rows = _run(settings_of(data_dir=data_dir), lambda client: client.all("/outbox", **_given(filters)))
    print_rows(rows if as_json else [{name: row[name] for name in _OUTBOX} for row in rows], as_json=as_json)


@outbox.command()
@click.argument("ids", metavar="ID…", nargs=-1, required=True)
@data_dir_option
@reason_option
@json_option
def retry(ids: tuple[str, ...], data_dir: str | None, reason: str, *, as_json: bool) -> None:
    """Try work that was given up (obx_…) again, for as long as the first time."""

    async def retried(client: "AdminClient") -> list[dict[str, Any]]:
        return [await client.post(f"/outbox/{item}/retry", {"reason": reason}) for item in ids]

    rows = _run(settings_of(data_dir=data_dir), retried)
    print_rows(rows if as_json else [{name: row[name] for name in _OUTBOX} for row in rows], as_json=as_json)


@click.command()
@data_dir_option
@click.option(
    "--now", "compare", is_flag=True, help="Compare with the marketplace first, without waiting for the night."
)
@click.option("--connection", metavar="ID", help="Only this one, con_… (default: all).")
@click.option("--repair", metavar="FINDING", help="Put a finding (fnd_…) right; needs --reason.")
@click.option("--dismiss", metavar="FINDING", help="Leave a finding as it is; needs --reason.")
@click.option("--reason", help="Why; the audit keeps it for good.")
@json_option
def reconcile(
    data_dir: str | None,
    connection: str | None,
    repair: str | None,
    dismiss: str | None,
    reason: str | None,
    *,
    compare: bool,
    as_json: bool,
) -> int:
    """Show what our record of orders and the marketplace's say differently; exit code 1 when there is something."""
    settled = [(finding, verb) for finding, verb in ((repair, "repair"), (dismiss, "dismiss")) if finding]
    if settled:
        if len(settled) > 1 or compare or not reason:
            raise click.UsageError("give --repair or --dismiss alone, and --reason")
        path = f"/reconciliation/findings/{settled[0][0]}/{settled[0][1]}"
        finding = _run(settings_of(data_dir=data_dir), lambda client: client.post(path, {"reason": reason}))
        print_facts(finding, as_json=as_json)
        return 0
    rows = _run(settings_of(data_dir=data_dir), lambda client: _findings(client, connection, compare=compare))
    print_rows(rows if as_json else [{name: row[name] for name in _FINDINGS} for row in rows], as_json=as_json)
    return FAILED if rows else 0


async def _findings(client: "AdminClient", connection: str | None, *, compare: bool) -> list[dict[str, Any]]:
    if compare:
        known = (
            await client.all("/connections") if connection is None else [await client.get(f"/connections/{connection}")]
        )
        for asking in known:
            if asking["api_access_key"] is not None:
                await _compare(client, asking["id"])
    return await client.all("/reconciliation/findings", resolved="false", **_given({"connection": connection}))


async def _compare(client: "AdminClient", connection: str) -> None:
    """Go on until it is finished, or until the marketplace stops answering."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("comparing", total=None)
        run = await client.post("/reconciliation/runs", {"connection": connection})
        asked = -1
        while run["finished_at"] is None and run["asked"] > asked:
            asked = run["asked"]
            progress.update(task, completed=asked)
            run = await client.post("/reconciliation/runs", {"connection": connection, "begin": False})
    if run["unanswered"]:
        console.print(f"{run['unanswered']} orders without an answer: {run['last_error']}", highlight=False)


def _given(filters: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in filters.items() if value is not None}


def _run(settings: "Settings", work: Callable[["AdminClient"], Any]) -> Any:
    from licensesvc.cli.admin_client import open_admin

    async def run() -> Any:
        async with open_admin(settings) as client:
            return await work(client)

    return asyncio.run(run())
