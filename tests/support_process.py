"""Real server processes for tests and benchmarks: started, waited for, killed, never left behind.

In: the process and its ready line. Out: what it serves and how it is asked.
"""

import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
START_LIMIT_S = 30.0
STOP_LIMIT_S = 15.0

_READY = re.compile(rb"ready on https?://127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Server:
    """A process that answers on `port`; `start_seconds` went by from its creation to its ready line."""

    process: subprocess.Popen[bytes]
    port: int
    start_seconds: float

    def kill(self) -> None:
        """`kill -9`: the process gets no chance to finish anything."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ask it to stop and wait for that."""
        self.process.terminate()
        self.process.wait(STOP_LIMIT_S)


@contextmanager
def running(module: str, *arguments: str, log: Path) -> Iterator[Server]:
    """`python -m module arguments` until the end of the context at the latest, its standard error at the end of `log`.

    The module prints a ready line and, should this process die first, stops when its standard input ends.
    """
    began = time.perf_counter()
    with (
        log.open("ab") as errors,
        subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            port = _wait_until_ready(process, log)
            yield Server(process, port, time.perf_counter() - began)
        finally:
            process.kill()


def serving(data_dir: Path) -> Sequence[str]:
    """The server on a free port, as arguments of `running`."""
    return ("licensesvc", "serve", "--data-dir", str(data_dir), "--port", "0", "--exit-with-parent")


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> int:
    assert process.stdout is not None
    heard, _, _ = select.select([process.stdout], [], [], START_LIMIT_S)
    ready = _READY.search(process.stdout.readline()) if heard else None
    if ready is None:
        raise AssertionError(f"no ready line within {START_LIMIT_S} s:\n{log.read_text(errors='replace')[-2000:]}")
    return int(ready[1])
