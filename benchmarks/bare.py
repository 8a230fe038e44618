"""The yardstick: a bare Litestar application that reads the body, served by the same server with the same settings."""

from typing import Any

import uvloop
from litestar import Litestar, Request, post

from licensesvc.cli.serving import listen_tcp, run_server, stop_with_parent, url_of


@post("/", status_code=200)
async def handler(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Read the body and answer a constant."""
    await request.body()
    return {"error_code": "92020000"}


def main() -> None:
    """Serve on a free port of the loopback interface until the parent goes."""
    stop_with_parent()
    with listen_tcp("127.0.0.1", 0) as tcp:
        uvloop.run(run_server(Litestar([handler]), [tcp], f"bare ready on {url_of(tcp)}"))


if __name__ == "__main__":
    main()
