"""Options that commands share, the settings made of them, and how facts are printed."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from licensesvc.settings import Settings

WIDTH: Final = 160
"""Columns of a table that goes into a file: nothing is cut off."""

data_dir_option = click.option("--data-dir", metavar="DIR", help="Data directory (default: data).")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
host_option = click.option("--host", metavar="ADDRESS", help="Address to listen on (default: 127.0.0.1).")
exit_with_parent_option = click.option(
    "--exit-with-parent", is_flag=True, hidden=True, help="Stop when standard input ends."
)


def settings_of(**options: Any) -> "Settings":
    """Merge options with the other sources of settings; raises SettingsError.

    Logs are silenced but for the gravest records: a command says what goes wrong in a line of its own. Servers turn them on again.
    """
    from licensesvc import logs
    from licensesvc.settings import load

    logs.configure("critical")
    return load(options)


def print_facts(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Print names and values, a line each or as one JSON document."""
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        click.echo(f"{name.replace('_', ' ')}: {'-' if shown is None or shown == '' else shown}")


def print_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Print records of the same fields, as a table or as one JSON document."""
    if as_json:
        print_json(rows)
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD)
    for name in rows[0] if rows else ():
        table.add_column(name.replace("_", " "), no_wrap=True)
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else WIDTH).print(table)


def print_json(document: Any) -> None:
    """Print one JSON document on one line."""
    import msgspec

    click.echo(msgspec.json.encode(document).decode())
