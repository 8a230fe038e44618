"""The command `sandbox check`: the marketplace's debugging suite against any seller's production URL."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from licensesvc.cli.errors import Failure
from licensesvc.cli.options import WIDTH, json_option, print_json

if TYPE_CHECKING:
    from licensesvc.sandbox.check import Result

KEY_VARIABLE: Final = "LICENSESVC_CHECK_KEY"
"""Environment variable with the key, for machines."""
MAX_KEY: Final = 256
"""Characters."""


@click.command("check")
@click.argument("url")
@click.option(
    "--key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File with the access key (Key值) of the seller center.",
)
@click.option(
    "--access-key-env",
    metavar="NAME",
    default=KEY_VARIABLE,
    show_default=True,
    help="Environment variable with that key, if there is no file.",
)
@click.option(
    "--dialect",
    type=click.Choice(["2.0", "1.0", "all"]),
    default="2.0",
    show_default=True,
    help="License 2.0, 1.0 or both.",
)
@click.option("--product-id", help="productId in the calls, where the seller knows only real ones.")
@click.option("--code", "license_code", help="License code in the calls, where the seller knows only real ones.")
@click.option("--live", is_flag=True, help="Also send one live call (testFlag 0) about a code that does not exist.")
@json_option
def check(
    url: str,
    key_file: Path | None,
    access_key_env: str,
    dialect: str,
    product_id: str | None,
    license_code: str | None,
    *,
    live: bool,
    as_json: bool,
) -> int:
    """Send every debug case of the marketplace to URL and say which answers it would refuse; exit code 1 if there is one.

    The key comes from --key-file, from the variable, or is asked for; it never stands on the command line.
    """
    from licensesvc.sandbox.check_cases import Dialect

    given = {"productId": product_id, "license": license_code}
    values = {name: value for name, value in given.items() if value is not None}
    dialects = frozenset(Dialect) if dialect == "all" else frozenset({Dialect(dialect)})
    results = asyncio.run(
        _run(_checked(url), _key(key_file, access_key_env), values, dialects, live=live, quiet=as_json)
    )
    failed = sum(result.counts and not result.passed for result in results)
    if as_json:
        from msgspec import to_builtins

        print_json({"url": url, "cases": len(results), "failed": failed, "results": to_builtins(results)})
    else:
        _print(results, failed)
    return int(failed > 0)


def _checked(url: str) -> str:
    import httpx2

    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL as error:
        raise Failure(f"{url}: {error}") from None
    if parsed.scheme not in {"http", "https"} or not parsed.host or parsed.userinfo or {"?", "#"} & set(url):
        raise Failure("URL is the production URL: http(s)://host/path, without query, user and fragment")
    return url


def _key(file: Path | None, variable: str) -> str:
    import os

    if file is not None:
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise Failure(f"{file}: {error}") from None
    else:
        key = os.environ.get(variable) or click.prompt("Access key (Key值)", hide_input=True, err=True)
    if not 0 < len(key) <= MAX_KEY or not key.isprintable():
        raise Failure(f"the access key is 1 to {MAX_KEY} printable characters")
    return key


async def _run(url: str, key: str, values: dict[str, str], dialects: Any, *, live: bool, quiet: bool) -> "list[Result]":
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    from licensesvc.sandbox.check import Checker
    from licensesvc.sandbox.check_cases import cases

    suite = list(cases(dialects, live=live))
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as bar:
        task = bar.add_task("cases", total=len(suite))
        results = []
        async with Checker(url, key, values=values) as checker:
            async for result in checker.run(suite):
                results.append(result)
                bar.update(task, advance=1, description=result.name[:40])
    return results


def _print(results: "list[Result]", failed: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("", "case", "spec", "expected", "ms", "what came"):
        table.add_column(name)
    for result in results:
        mark = "✓" if result.passed else "✗" if result.counts else "·"
        table.add_row(mark, Text(result.name), result.section, result.expected, str(result.ms), Text(result.verdict))
    console.print(table)
    for result in results:
        if result.passed:
            continue
        console.print(Text(f"{'✗' if result.counts else '·'} {result.name}"))
        for label, value in (
            ("sent", result.sent),
            ("came", f"{result.status or 'nothing'} {result.answer}"),
            ("do", result.advice),
        ):
            console.print(Text(f"    {label}: {value}"))
    noted = sum(not result.passed and not result.counts for result in results)
    console.print(
        f"{len(results)} cases, {failed} failed"
        + (f", {noted} that the documentation does not settle would fail (·)" if noted else "")
    )
