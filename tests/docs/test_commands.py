"""Every command that the documentation shows is run as it stands there, or is known to be checked by another test.

In: the commands of `sh` blocks and of running text. Out: links, examples and generated pages (`test_documentation`).
"""

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyrage
import pytest
import trustme

from tests.support_commands import TABLE, Elsewhere, Named, Runs
from tests.support_process import CHECKOUT
from tests.support_tools import run, tool

PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "README.zh-CN.md",
    *sorted(CHECKOUT.glob("deploy/**/*.md")),
    *sorted(page for page in CHECKOUT.glob("docs/**/*.md") if not {"reference", "adr"} & set(page.parts)),
    CHECKOUT / "keys/README.md",
]
"""All that people wrote: `reference` is generated, `adr` tells of the past."""
PATIENCE_S = 60
OVERLAY = CHECKOUT / "deploy/kubernetes/overlays/production"


def commands(text: str) -> set[str]:
    """The commands of a page: each line of its shell blocks, and each in running text that begins with a program of ours or an operator's."""
    fence = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
    lines = [
        line
        for language, block in fence.findall(text)
        if language in {"sh", "bash", "shell", "console"}
        for line in block.replace("\\\n", " ").splitlines()
    ]
    programs = "licensesvc|make|curl|docker|kubectl|systemctl|journalctl"
    lines += re.findall(rf"`((?:{programs}) [^`]+)`", fence.sub("", text))
    shown = (" ".join(line.removeprefix("$ ").split()) for line in lines)
    return {line.replace(".venv/bin/python -m licensesvc", "licensesvc") for line in shown if line}


def documented() -> set[str]:
    return set().union(*(commands(page.read_text(encoding="utf-8")) for page in PAGES))


@dataclass(frozen=True)
class House:
    """A directory where a reader of the documentation could stand, and what its placeholders are there."""

    path: Path
    facts: Mapping[str, str]

    def process(self, command: str) -> subprocess.Popen[str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("LICENSESVC_")}
        first = os.pathsep.join([str(self.path / "bin"), str(Path(sys.executable).parent)])
        with (self.path / "server.log").open("a") as log:
            return subprocess.Popen(
                ["sh", "-c", command],
                cwd=self.path,
                env={**own, "PATH": f"{first}:{own['PATH']}", "PYTHONPATH": str(CHECKOUT), "DSN": "postgresql://db/l"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def run(self, command: str) -> tuple[int, str]:
        """Exit code and output of a command that ends."""
        with self.process(command) as process:
            out, _ = process.communicate(timeout=PATIENCE_S)
        return process.returncode, out

    @contextmanager
    def serving(self, command: str, ready: str) -> Iterator[str]:
        """A command that ends when it is asked to, with exit code 0; gives its output up to the line where `ready` is."""
        with self.process(f"exec {command}") as process:
            try:
                heard = ""
                for line in process.stdout:
                    heard += line
                    if re.search(ready, line):
                        break
                assert re.search(ready, heard), heard + self.log()
                yield heard
                process.send_signal(signal.SIGTERM)
                process.communicate(timeout=PATIENCE_S)
            finally:
                process.kill()
        assert process.returncode == 0, self.log()

    def log(self) -> str:
        return (self.path / "server.log").read_text(errors="replace")[-2000:]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> House:
    """Made by the demonstration: a connection, a product, a license, a buyer; and the files that commands are given."""
    path = tmp_path_factory.mktemp("house")
    (path / "bin").mkdir()
    (path / "bin/licensesvc").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m licensesvc "$@"\n')
    (path / "bin/licensesvc").chmod(0o700)
    (path / "deploy").symlink_to(CHECKOUT / "deploy")
    (path / "orders.csv").write_text(
        "order_id,marketplace_product_id,period_unit,period_count\nCS1,OFFI-DEMO-0001,YEAR,1\n"
    )
    certificate = trustme.CA().issue_cert("licenses.example.com")
    certificate.cert_chain_pems[0].write_to_path(path / "fullchain.pem")
    certificate.private_key_pem.write_to_path(path / "privkey.pem")
    identity = pyrage.x25519.Identity.generate()
    (path / "identity.txt").write_text(f"{identity}\n")
    for private in ("privkey.pem", "identity.txt"):
        (path / private).chmod(0o600)
    code, told = House(path, {}).run("licensesvc demo --data-dir data")
    assert code == 0, told
    with closing(sqlite3.connect(path / "data/licensesvc.db")) as db:
        facts = {
            table.removesuffix("s"): db.execute(f"SELECT public_id FROM {table}").fetchone()[0]  # noqa: S608 - our own names
            for table in ("connections", "products", "licenses", "buyers")
        }
        db.execute("UPDATE buyers SET email = 'buyer@example.com'")  # the sandbox tells of none
        db.commit()
    return House(path, {**facts, "recipient": str(identity.to_public())})


@pytest.fixture
def house(model: House, tmp_path: Path) -> House:
    """A copy, for one command to change."""
    shutil.copytree(model.path, tmp_path / "house", symlinks=True)
    return House(tmp_path / "house", model.facts)


@pytest.mark.parametrize("command", [command for command, how in TABLE.items() if isinstance(how, Runs)])
def test_a_command_of_the_documentation_works_as_it_stands_there(command: str, house: House):
    how = TABLE[command]
    if (program := command.split(maxsplit=1)[0]) in {"curl", "kubectl"}:
        tool(program)
    server = ""
    with ExitStack() as stack:
        if how.beside == "server":
            ready = stack.enter_context(house.serving("licensesvc serve --port 0", "ready on "))
            server = re.search(r"ready on (\S+)", ready)[1]
        elif how.beside == "demonstration":
            serve = "licensesvc demo --serve --data-dir data --port 0 --sandbox-port 0"
            stack.enter_context(house.serving(serve, "Ctrl-C"))
        line = command
        for shown, here in how.instead.items():
            assert shown in line
            line = line.replace(shown, here.format(server=server, **house.facts), 1)
        if how.until_stopped:
            stack.enter_context(house.serving(line, how.says))
        else:
            code, told = house.run(line)
            assert code == 0, told + house.log()
            assert re.search(how.says, told, re.MULTILINE), told


def unknown(shown: set[str]) -> set[str]:
    return shown - TABLE.keys()


def stale(shown: set[str]) -> set[str]:
    return TABLE.keys() - shown


def test_every_command_of_the_documentation_is_in_the_table():
    assert unknown(documented()) == set()


def test_every_command_of_the_table_is_in_the_documentation():
    assert stale(documented()) == set()


def test_the_control_planted_commands_and_a_removed_one_are_noticed():
    page = "Try `licensesvc levitate --now`, then\n\n 1. so:\n    ```sh\n    rm -rf \\\n      build\n    ```\n`licensesvc/` is a folder.\n"
    assert unknown(commands(page)) == {"licensesvc levitate --now", "rm -rf build"}
    assert stale(documented() - {"licensesvc prune"}) == {"licensesvc prune"}


def test_a_command_named_in_passing_runs_in_full():
    for command, how in TABLE.items():
        if isinstance(how, Named):
            assert how.whole.startswith(f"{command} ")
            assert isinstance(TABLE[how.whole], Runs)


def test_what_does_not_run_here_has_its_proof_and_the_files_that_it_names():
    for command, how in TABLE.items():
        if isinstance(how, Elsewhere):
            file, _, name = how.proof.partition("::")
            assert re.search(rf"^(async )?def {name}\(", (CHECKOUT / file).read_text(encoding="utf-8"), re.MULTILINE)
            for path in re.findall(r"(?<!\S)(?:deploy|docs|requirements)/\S+", command):
                assert (CHECKOUT / path).exists(), command


def test_what_is_named_in_a_cluster_is_in_the_manifests():
    outcome = run(tool("kubectl"), "kustomize", OVERLAY)
    assert outcome.returncode == 0, outcome.stderr
    manifests = re.sub(r"\s+", " ", outcome.stdout)
    objects = re.findall(r"\b(job|statefulset)[ /]([\w-]+)", " ".join(TABLE))
    assert {kind for kind, _ in objects} == {"job", "statefulset"}
    for kind, name in objects:
        assert re.search(rf"kind: {kind} metadata: (?:(?!kind:).)*?name: {name} ", manifests, re.IGNORECASE), name
    for secret in re.findall(r"secret generic (\S+)", " ".join(TABLE)):
        assert re.search(rf"(secretName|name): {secret} ", manifests), secret
    assert set(re.findall(r"kubectl -n (\S+)", " ".join(TABLE))) == {"licensesvc"}
    assert "namespace: licensesvc " in manifests
