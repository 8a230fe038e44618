"""How the server answers a storm of repeated marketplace callbacks: `python -m benchmarks.storm [DELIVERIES [CONNECTIONS]]`, 100,000 over 16 unless told.

In: one run with its progress and figures. Out: the storm itself (`tests/support_storm`), which a smaller test runs too.
The last line is one JSON object; exit code 1 when an order has two licenses, two answers, or none.
"""

import json
import sys
import tempfile
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from tests.support_process import CHECKOUT, serving
from tests.support_storm import CONNECTIONS, Outcome, open_shop, storm


async def run(deliveries: int, connections: int) -> Outcome:
    """One storm on a directory of its own in the checkout, for /tmp may be memory."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix=".bench-", dir=CHECKOUT) as made,
        Progress(*columns, console=console) as bar,
    ):
        task = bar.add_task("deliveries", total=deliveries)
        data = Path(made) / "data"
        connection = await open_shop(data)
        return await storm(
            data,
            connection,
            serving(data),
            deliveries,
            connections=connections,
            progress=lambda done: bar.update(task, completed=done),
        )


def main() -> int:
    """Run the storm and print its figures."""
    given = [int(argument) for argument in sys.argv[1:3]]
    deliveries, connections = [*given, *(100_000, CONNECTIONS)[len(given) :]]
    outcome = uvloop.run(run(deliveries, connections))
    print(json.dumps({**outcome.summary(), "connections": connections}))
    return int(bool(outcome.duplicates or outcome.different_answers or outcome.unanswered))


if __name__ == "__main__":
    sys.exit(main())
