"""The command `licensesvc`: its groups, and the one place where errors become a line and an exit code."""

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from licensesvc import __version__
from licensesvc.cli.administration import admin, credential, keys
from licensesvc.cli.buyer_links import link
from licensesvc.cli.cases import case
from licensesvc.cli.demonstration import demo
from licensesvc.cli.doctor import doctor
from licensesvc.cli.errors import INTERRUPTED, failure_of
from licensesvc.cli.files import export, import_orders
from licensesvc.cli.inspection import audit, check_config, code
from licensesvc.cli.licenses import license_
from licensesvc.cli.many_cases import confirm_many, record_many
from licensesvc.cli.messages import message, outbox, reconcile
from licensesvc.cli.privacy import buyer, prune
from licensesvc.cli.recovery import backup, backup_key, restore
from licensesvc.cli.running import sandbox, serve
from licensesvc.cli.sandbox_check import check
from licensesvc.cli.sandbox_control import COMMANDS as SANDBOX_COMMANDS
from licensesvc.cli.setup import init, migrate
from licensesvc.cli.vaulting import vault
from licensesvc.cli.webhooks import webhook


class _Program(click.Group):
    """Turns what a command raises into one line, unless `--debug` asks for the traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # click knows these, a reader that has seen enough among them
        except Exception as error:
            if ctx.params["debug"]:
                raise
            raise failure_of(error) from error


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="licensesvc")
@click.option("--debug", is_flag=True, help="Show tracebacks instead of one line.")
def program(*, debug: bool) -> None:
    """License server and activation service for software sold on a cloud marketplace.

    Settings come from options, LICENSESVC_* variables and licensesvc.toml in the data directory, in this order.
    """


for command in (
    init,
    serve,
    sandbox,
    demo,
    migrate,
    check_config,
    admin,
    credential,
    keys,
    vault,
    code,
    license_,
    message,
    outbox,
    reconcile,
    case,
    webhook,
    audit,
    doctor,
    backup,
    backup_key,
    restore,
    import_orders,
    export,
    buyer,
    prune,
):
    program.add_command(command)


for command in (check, *SANDBOX_COMMANDS):
    sandbox.add_command(command)
for command in (link, record_many, confirm_many):
    case.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; what went wrong is one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show Chinese must not end a command
            stream.reconfigure(errors="backslashreplace")
    try:
        outcome = program.main(arguments, prog_name="licensesvc", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "licensesvc"
        return _said(error, f"{error.format_message()} See `{where} --help`.")
    except click.ClickException as error:
        return _said(error, error.format_message())
    except click.Abort:
        return INTERRUPTED
    return outcome if isinstance(outcome, int) else 0


def _said(error: click.ClickException, message: str) -> int:
    click.echo(f"licensesvc: {' '.join(message.split())}", err=True)
    return error.exit_code
