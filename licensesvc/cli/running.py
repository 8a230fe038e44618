"""Commands that keep running, and orders at the sandbox: `serve`, `sandbox`, `sandbox order`."""

from typing import Any, Final

import click

from licensesvc.cli.errors import Failure
from licensesvc.cli.options import (
    data_dir_option,
    exit_with_parent_option,
    host_option,
    json_option,
    print_facts,
    settings_of,
)

SANDBOX_PORT: Final = 8090
LOOPBACK: Final = "127.0.0.1"

_LOCK_NAME: Final = "sandbox.lock"


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


@click.group(invoke_without_command=True)
@data_dir_option
@host_option
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=SANDBOX_PORT, show_default=True, help="Port to listen on."
)
@click.option(
    "--time-factor",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Stretch the waits between retries; 0.001 is a fast marketplace.",
)
@exit_with_parent_option
@click.pass_context
def sandbox(
    ctx: click.Context, data_dir: str | None, host: str | None, port: int, time_factor: float, *, exit_with_parent: bool
) -> None:
    """Play the marketplace until Ctrl-C or SIGTERM."""
    if ctx.invoked_subcommand is not None:
        return
    settings = settings_of(data_dir=data_dir)
    import uvloop

    from licensesvc import logs
    from licensesvc.cli.datalock import data_lock
    from licensesvc.cli.serving import listen_tcp, run_server, stop_with_parent, url_of
    from licensesvc.sandbox.app import create_sandbox
    from licensesvc.sandbox.state import State, sandbox_file

    if exit_with_parent:
        stop_with_parent()
    logs.configure(settings.log_level)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with data_lock(settings.data / _LOCK_NAME) as lock, listen_tcp(host or LOOPBACK, port) as tcp:
        app = create_sandbox(State.open(sandbox_file(settings.data)), time_factor=time_factor)
        lock.tell(url_of(tcp))
        uvloop.run(run_server(app, [tcp], f"sandbox marketplace ready on {url_of(tcp)}"))


@sandbox.command()
@data_dir_option
@click.option("--product-id", required=True, help="productId at the marketplace.")
@click.option("--sku-code", help="skuCode at the marketplace.")
@click.option("--amount", type=int, default=1, show_default=True, help="How many are bought.")
@click.option("--period-type", type=click.Choice(["year", "month", "day"]), help="Unit of the period; none = for good.")
@click.option("--period-number", type=int, help="How many of the unit.")
@click.option("--order-type", default="NEW", show_default=True, help="NEW, TRIAL, RENEW, …")
@click.option("--dialect", default="LICENSE_1_0", show_default=True, help="LICENSE_1_0, LICENSE_2_0 or GENERAL.")
@click.option("--notify/--no-notify", default=True, show_default=True, help="Send the order notification.")
@click.option("--deliver/--no-deliver", default=True, show_default=True, help="Ask for the license (getLicense).")
@json_option
def order(data_dir: str | None, *, as_json: bool, **order: Any) -> None:
    """Place an order at the sandbox that runs on the data directory."""
    settings = settings_of(data_dir=data_dir)
    import httpx2

    from licensesvc.cli.datalock import holder_of

    url = holder_of(settings.data / _LOCK_NAME)
    if not url.startswith("http"):
        raise Failure(f"no sandbox runs on {settings.data}: start `licensesvc sandbox --data-dir {settings.data}`")
    wanted = {name: value for name, value in order.items() if value is not None}
    try:
        response = httpx2.post(f"{url}/sandbox/orders", json=wanted, timeout=30, trust_env=False)
    except httpx2.HTTPError as error:
        raise Failure(f"the sandbox at {url} does not answer ({error}): start it again") from None
    answer = response.json()
    if response.is_error:
        raise Failure(f"the sandbox refused the order: {answer['detail']}")
    made_calls = answer["deliveries"]
    if not as_json:
        answer["deliveries"] = [f"{made['activity']}: {made['verdict']}" for made in answer["deliveries"]]
    print_facts(answer, as_json=as_json)
    if refused := [made["activity"] for made in made_calls if not made["ok"]]:
        raise Failure(f"the seller refused {', '.join(refused)}: see the deliveries above")
