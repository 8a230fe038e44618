"""Servers that the demonstration starts as real processes: `licensesvc serve` and `licensesvc sandbox`.

In: starting, waiting until they answer, stopping, never leaving one behind. Out: what is asked of them.
"""

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from licensesvc.cli.errors import Failure
from licensesvc.settings import ENVIRONMENT_PREFIX

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 20.0
"""A little more than what `serve` grants to requests in flight."""

_URL: Final = re.compile(r"http://\S+")
_TAIL_BYTES: Final = 8_000
_TAIL_LINES: Final = 6


class Child:
    """A started server; its log is a file, for its parent's terminal tells another story."""

    def __init__(self, name: str, process: Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    async def ready(self) -> str:
        """Wait until it answers requests and return its base URL; Failure with its own last word when it does not."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS):
                line = (await self._process.stdout.readline()).decode()
        except TimeoutError:
            raise Failure(f"{self.name} was not ready in {START_SECONDS:g} s; see {self._log}") from None
        found = _URL.search(line)
        if found is None:
            raise Failure(f"{self.name} did not start: {self._last_word()}")
        return found[0]

    async def ended(self) -> None:
        """Wait until it ends by itself, which it should not: raises Failure."""
        await self._process.wait()
        raise Failure(f"{self.name} stopped: {self._last_word()}")

    async def stop(self) -> None:
        """End it and wait for that."""
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def log_tail(self) -> list[str]:
        """The last lines of its log."""
        lines = self._log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").splitlines()
        return lines[-_TAIL_LINES:]

    def _last_word(self) -> str:
        return "".join(self.log_tail()[-1:]).removeprefix("licensesvc: ") or "it said nothing"


@asynccontextmanager
async def child(name: str, *arguments: str, log: Path) -> AsyncIterator[Child]:
    """Start `licensesvc` with these arguments for the length of the context.

    It stops when its standard input ends, so also when this process is killed. A session of its own keeps the terminal's Ctrl-C
    away from it: this process stops it in its time.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "licensesvc", *arguments, "--exit-with-parent"),
            stdin=PIPE,
            stdout=PIPE,
            stderr=descriptor,
            env=without_settings(os.environ),
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    started = Child(name, process, log)
    try:
        yield started
    finally:
        await started.stop()


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment without `LICENSESVC_*`: settings of somebody's real server must not reach the demonstration."""
    return {name: value for name, value in environment.items() if not name.startswith(ENVIRONMENT_PREFIX)}
