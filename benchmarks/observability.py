"""What the access line and the metrics cost a request: `python -m benchmarks.observability`.

The same requests go through an empty ASGI application, bare and observed; the line is written for real, into /dev/null.
Processor time of the best of the rounds counts: other programs only ever make a round slower.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any, Final

import uvloop
from litestar.types import ASGIApp

from licensesvc import logs
from licensesvc.metrics import Metrics
from licensesvc.web.observed import Observed, tell_caller

BUDGET_US: Final = 15.0
REQUESTS: Final = 3_000
ROUNDS: Final = 11


class _Handler:
    paths = frozenset({"/v1/licenses/validate"})


async def _empty(scope: Any, _receive: Any, send: Any) -> None:
    """Tells what an edge tells and answers nothing."""
    scope["route_handler"], scope["path_template"] = _Handler, "/v1/activations/{activation_id:str}"
    tell_caller(scope, "crd_01J5Z6Q8W9X0Y1Z2A3B4C5D6E7", "con_01J5Z6Q8W9X0Y1Z2A3B4C5D6E7")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _receive() -> Any:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(_message: Any) -> None:
    return


async def _microseconds(app: ASGIApp) -> float:
    headers = [(b"host", b"licenses.example"), (b"content-type", b"application/json"), (b"accept", b"*/*")]
    scopes: list[Any] = [
        {
            "type": "http",
            "method": "POST",
            "headers": headers,
            "client": ("198.51.100.7", 40000),
            "licensesvc.request_id": "7a1dada91019468c897a1be6602d4914",
        }
        for _ in range(REQUESTS)
    ]
    began = time.process_time()
    for scope in scopes:
        await app(scope, _receive, _send)
    return (time.process_time() - began) / REQUESTS * 1e6


async def _measure() -> tuple[float, float]:
    observed = Observed(_empty, Metrics(), logs.AccessLog("info"))
    bare_rounds, observed_rounds = [], []
    for _ in range(ROUNDS):
        bare_rounds.append(await _microseconds(_empty))
        observed_rounds.append(await _microseconds(observed))
    return min(bare_rounds), min(observed_rounds)


def cost_us() -> float:
    """Microseconds that one request pays, its line written into /dev/null."""
    kept = sys.stderr
    with Path("/dev/null").open("w", encoding="utf-8") as nowhere:
        sys.stderr = nowhere
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                bare, observed = runner.run(_measure())
        finally:
            sys.stderr = kept
    return observed - bare


def main() -> int:
    """Print the figure; exit code 1 when it is above the budget."""
    cost = cost_us()
    print(f"access line and metrics: {cost:.1f} µs a request (budget {BUDGET_US:g} µs)")
    return int(cost > BUDGET_US)


if __name__ == "__main__":
    sys.exit(main())
