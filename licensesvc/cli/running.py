"""Commands that keep running: `serve`, `sandbox` and `sandbox serve`."""

from collections.abc import Callable
from typing import Any, Final

import click

from licensesvc.cli.options import (
    data_dir_option,
    exit_with_parent_option,
    host_option,
    settings_of,
)

SANDBOX_PORT: Final = 8090
LOOPBACK: Final = "127.0.0.1"


@click.command()
@data_dir_option
@host_option
@click.option("--port", metavar="PORT", help="Port to listen on; 0 takes a free one (default: 8080).")
@click.option("--tls-cert", metavar="FILE", help="Serve HTTPS with this certificate chain (PEM).")
@click.option("--tls-key", metavar="FILE", help="Private key of the certificate (PEM).")
@exit_with_parent_option
def serve(
    data_dir: str | None,
    host: str | None,
    port: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    *,
    exit_with_parent: bool,
) -> None:
    """Serve licenses until Ctrl-C or SIGTERM."""
    settings = settings_of(data_dir=data_dir, host=host, port=port, tls_cert=tls_cert, tls_key=tls_key)
    from licensesvc.cli.serving import serve_data, stop_with_parent

    if exit_with_parent:
        stop_with_parent()
    serve_data(settings)


def _serving_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a sandbox serves; the group has them too, for it serves when nothing else is asked of it."""
    for option in reversed(
        (
            data_dir_option,
            host_option,
            click.option(
                "--port",
                type=click.IntRange(0, 65_535),
                default=SANDBOX_PORT,
                show_default=True,
                help="Port to listen on.",
            ),
            click.option(
                "--time-factor",
                type=click.FloatRange(min=0, min_open=True),
                default=1.0,
                show_default=True,
                help="Stretch the waits between retries and the days of probes; 0.001 is a fast marketplace.",
            ),
            click.option("--chaos", metavar="SEED[:RATE]", help="Disturb a part of all calls (default rate: 0.3)."),
            click.option("--upper-case", is_flag=True, help="Write signatures of URLs in upper-case hex."),
            click.option("--smtp", metavar="HOST:PORT", help="Send the mails about failures through this server."),
            click.option("--mail-to", metavar="ADDRESS", help="Whom they are for."),
            exit_with_parent_option,
        )
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@_serving_options
@click.pass_context
def sandbox(ctx: click.Context, /, **options: Any) -> None:
    """Play the marketplace until Ctrl-C or SIGTERM."""
    if ctx.invoked_subcommand is None:
        _play(**options)


@sandbox.command("serve")
@_serving_options
def sandbox_serve(**options: Any) -> None:
    """Play the marketplace until Ctrl-C or SIGTERM, as without a command."""
    _play(**options)


def _play(
    data_dir: str | None,
    host: str | None,
    port: int,
    time_factor: float,
    chaos: str | None,
    smtp: str | None,
    mail_to: str | None,
    *,
    upper_case: bool,
    exit_with_parent: bool,
) -> None:
    settings = settings_of(data_dir=data_dir)
    import uvloop

    from licensesvc import logs
    from licensesvc.cli.datalock import data_lock
    from licensesvc.cli.sandbox_control import LOCK_NAME, mail_server_of, wish_of
    from licensesvc.cli.serving import listen_tcp, run_server, stop_with_parent, url_of
    from licensesvc.sandbox.app import create_sandbox
    from licensesvc.sandbox.state import State, sandbox_file

    wish = None if chaos is None else wish_of(chaos)
    mail_server = mail_server_of(smtp, mail_to)
    if exit_with_parent:
        stop_with_parent()
    logs.configure(settings.log_level)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with data_lock(settings.data / LOCK_NAME) as lock, listen_tcp(host or LOOPBACK, port) as tcp:
        lock.tell(url_of(tcp))

        async def serve() -> None:
            app = create_sandbox(
                State.open(sandbox_file(settings.data)),
                time_factor=time_factor,
                upper_case=upper_case,
                chaos=wish,
                mail_server=mail_server,
            )
            await run_server(app, [tcp], f"sandbox marketplace ready on {url_of(tcp)}")

        uvloop.run(serve())
