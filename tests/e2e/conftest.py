"""Real processes of the command line, and data directories made by it."""

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from licensesvc.cli.program import run

PATIENCE_S = 60


def environment(**changes):
    """Nobody's own settings, and an output that is no terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LICENSESVC_")}
    return {**kept, **changes}


class Running:
    """A started `licensesvc …`; `url` is the one of its ready line."""

    def __init__(self, process, url):
        self.process = process
        self.url = url

    def stop(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def licensesvc():
    """Run a command to its end in a process of its own."""

    def call(*arguments, cwd=None, **changes):
        return subprocess.run(
            [sys.executable, "-m", "licensesvc", *map(str, arguments)],
            env=environment(PYTHONPATH=os.pathsep.join(sys.path), **changes),
            cwd=cwd,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE_S,
            check=False,
        )

    return call


@pytest.fixture
def command(capsys):
    """Run a command in this process: exit code, the JSON document on stdout, stderr."""

    def call(*arguments):
        capsys.readouterr()
        code = run([*map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return call


@pytest.fixture
def start(tmp_path):
    """Start a command that keeps running, wait for its ready line, kill it at the end of the test."""
    with ExitStack() as stack:

        def launch(*arguments, ready="ready on ", **changes):
            log = stack.enter_context((tmp_path / "stderr.log").open("ab"))
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "licensesvc", *map(str, arguments)],
                    env=environment(PYTHONPATH=os.pathsep.join(sys.path), **changes),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    encoding="utf-8",
                )
            )
            stack.callback(process.kill)
            for line in process.stdout:
                if ready in line:
                    return Running(process, line.partition(ready)[2].split()[0])
            pytest.fail((tmp_path / "stderr.log").read_text())

        yield launch


@pytest.fixture
def data(tmp_path):
    """A data directory that `init` has made."""
    directory = tmp_path / "data"
    assert run(["init", "--data-dir", str(directory)]) == 0
    return directory


@pytest.fixture
def contents():
    """What a directory holds, to tell whether a command changed anything."""

    def read(directory: Path):
        return {str(path): path.is_file() and path.read_bytes() for path in directory.rglob("*")}

    return read
