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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyrage
import pytest
import trustme

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


@dataclass(frozen=True)
class Runs:
    """Run by a shell in a house of its own; exit code 0 and `says`, a pattern, in its output are expected.

    `instead` holds what stands here for a placeholder or for something that only an installation has.
    """

    says: str = ""
    instead: Mapping[str, str] = field(default_factory=dict)
    beside: Literal["", "server", "demonstration"] = ""
    until_stopped: bool = False
    """It says so once it serves, and ends with exit code 0 when it is asked to."""


@dataclass(frozen=True)
class Named:
    """Named in passing, without its arguments: `whole` is the command with them, which runs here."""

    whole: str


@dataclass(frozen=True)
class Elsewhere:
    """Cannot run here; `proof` is the test that holds it against what can be known without running it."""

    reason: str
    proof: str


CLUSTER = Elsewhere(
    "needs a cluster", "tests/docs/test_commands.py::test_what_is_named_in_a_cluster_is_in_the_manifests"
)
MANIFESTS = Elsewhere("needs a cluster", "tests/deploy/test_deploy_kubernetes.py::test_every_manifest_fits_the_schema")
IMAGE = Elsewhere(
    "needs a container runtime", "tests/deploy/test_deploy_files.py::test_hadolint_finds_nothing_in_the_containerfile"
)
COMPOSE = Elsewhere(
    "needs a container runtime", "tests/deploy/test_deploy_files.py::test_dclint_finds_nothing_in_the_compose_file"
)
REGISTRY = Elsewhere(
    "needs a registry of images",
    "tests/deploy/test_deploy_files.py::test_the_image_is_pinned_runs_as_nobody_in_particular_and_tells_its_health",
)
UNIT = Elsewhere("needs systemd as process 1", "tests/deploy/test_deploy_files.py::test_systemd_accepts_the_unit")
EXAMPLE = Elsewhere(
    "runs there", "tests/docs/test_documentation.py::test_a_signing_example_activates_a_code_on_a_real_server"
)
LOCKS = Elsewhere(
    "needs a package index",
    "tests/docs/test_packaging.py::test_a_lock_pins_every_package_with_hashes_and_names_no_index",
)
WHEEL = Elsewhere(
    "needs the environment that could not be filled without an index",
    "tests/docs/test_packaging.py::test_the_wheel_holds_migrations_the_api_page_and_the_type_marker",
)
TARGETS = "tests/docs/test_documentation.py::test_every_make_target_that_the_readme_names_exists"

ON_DATA = {"/var/lib/licensesvc": "data"}
AT_SERVER = {"http://127.0.0.1:8080": "{server}"}
FREE_PORT = {"serve": "serve --port 0"}
TO_BACKUP = "licensesvc backup today.age --recipient age1…"
TO_COMPROMISE = 'licensesvc keys compromise KID --reason "…"'
TO_SEND = 'licensesvc license send-code LICENSE --reason "…"'
TO_RESTORE = "licensesvc restore today.age --data-dir data --identity-file backup-identity.txt"
TO_ORDER = "licensesvc sandbox order --data-dir data --product-id OFFI-DEMO-0001"
OFFLINE = {"kubectl": "kubectl --dry-run=client"}
SEEDED = {"kubectl": "licensesvc init --data-dir seed && kubectl --dry-run=client"}

TABLE: Mapping[str, Runs | Named | Elsewhere] = {
    "make run": Elsewhere(
        "serves on ports of its own until Ctrl-C",
        "tests/e2e/test_demo.py::test_serving_on_shows_a_token_that_works_and_ctrl_c_stops_everything",
    ),
    "make demo": Elsewhere(
        "runs there", "tests/docs/test_documentation.py::test_the_story_in_the_readme_is_the_one_that_the_demo_tells"
    ),
    "make test": Elsewhere("is this very run", TARGETS),
    "make bench": Elsewhere(
        "takes minutes", "tests/e2e/test_benchmark.py::test_a_quick_run_ends_with_one_line_of_figures"
    ),
    "make lock": LOCKS,
    "python3 docs/examples/activate.py http://127.0.0.1:8080 ACCESS_KEY SECRET_KEY LICENSE_CODE": EXAMPLE,
    "node docs/examples/activate.mjs http://127.0.0.1:8080 ACCESS_KEY SECRET_KEY LICENSE_CODE": EXAMPLE,
    "sh docs/examples/activate.sh http://127.0.0.1:8080 ACCESS_KEY SECRET_KEY LICENSE_CODE": EXAMPLE,
    # Setting up
    "licensesvc init": Runs(),
    "licensesvc init --data-dir seed": Runs(),
    "licensesvc serve": Runs(r"ready on http://127\.0\.0\.1", FREE_PORT, until_stopped=True),
    "licensesvc serve --data-dir /var/lib/licensesvc --host 0.0.0.0 --port 443 --tls-cert fullchain.pem --tls-key privkey.pem": Runs(
        "ready on https://", {**ON_DATA, "443": "0"}, until_stopped=True
    ),
    "licensesvc migrate": Runs(),
    "licensesvc check-config": Runs(),
    "licensesvc doctor": Runs("ok +schema"),
    "licensesvc audit": Runs("clean"),
    "licensesvc admin create-token --name NAME --role owner": Runs(),
    'licensesvc credential create --connection ID --product ID --name "my program"': Runs(
        "AK", {"connection ID": "connection {connection}", "product ID": "product {product}"}
    ),
    "licensesvc sandbox": Runs("ready on http://", {"sandbox": "sandbox --port 0"}, until_stopped=True),
    "licensesvc sandbox order": Named(TO_ORDER),
    TO_ORDER: Runs(r"LS-[0-9A-Z-]{20}", beside="demonstration"),
    # Every day
    "licensesvc license": Named(TO_SEND),
    TO_SEND: Runs(
        instead={
            "licensesvc": "LICENSESVC_SMTP_URL=smtp://127.0.0.1:1 LICENSESVC_MAIL_FROM=a@example.com licensesvc",
            "LICENSE ": "{license} ",
        }
    ),
    "licensesvc import-orders FILE --connection ID": Runs(instead={"FILE": "orders.csv", "ID": "{connection}"}),
    "licensesvc export licenses": Runs("lic_"),
    "licensesvc buyer list": Runs("buy_"),
    'licensesvc buyer erase ID --reason "…"': Runs(instead={"ID": "{buyer}"}),
    "licensesvc prune": Runs(),
    # Backups and keys
    "licensesvc backup-key backup-identity.txt": Runs("age1"),
    "licensesvc backup": Named(TO_BACKUP),
    TO_BACKUP: Runs("state of", {"age1…": "{recipient}"}, beside="server"),
    "licensesvc backup FILE --recipient age1…": Runs(instead={"FILE": "today.age", "age1…": "{recipient}"}),
    "licensesvc restore": Named(TO_RESTORE),
    TO_RESTORE: Runs(
        instead={
            "licensesvc restore": "licensesvc backup today.age --recipient {recipient} && licensesvc restore",
            "--data-dir data": "--data-dir restored",
            "backup-identity.txt": "identity.txt",
        }
    ),
    "licensesvc keys list": Runs("ACTIVE"),
    "licensesvc keys rotate": Runs("RETIRED"),
    TO_COMPROMISE: Runs("COMPROMISED", {"KID": "$(licensesvc keys list --json | grep -o '[^\"]\\{{43\\}}' | head -1)"}),
    "licensesvc vault list": Runs("True"),
    "licensesvc vault rotate": Runs(),
    # systemd
    "python3 -m venv /opt/licensesvc": Runs(instead={"venv /opt": "venv --without-pip opt"}),
    "/opt/licensesvc/bin/python -m pip install --require-hashes -r requirements/runtime.lock": LOCKS,
    "/opt/licensesvc/bin/python -m pip install --no-deps .": WHEEL,
    "cp deploy/licensesvc.service /etc/systemd/system/": Runs(instead={"/etc/systemd/system/": "."}),
    "systemctl daemon-reload && systemctl enable --now licensesvc": UNIT,
    "systemctl stop licensesvc": UNIT,
    "systemctl start licensesvc": UNIT,
    "systemctl status licensesvc": UNIT,
    "curl -s http://127.0.0.1:8080/readyz": Runs("ready", AT_SERVER, beside="server"),
    "curl -s --unix-socket /var/lib/licensesvc/control.sock http://localhost/metrics": Runs(
        "^licensesvc_build_info", ON_DATA, beside="server"
    ),
    """journalctl -u licensesvc --since -15min --output cat | grep -v '"event":"request"' | tail -50""": Runs(
        r"(?s)\A(?!.*/readyz).*startup complete",
        {"journalctl -u licensesvc --since -15min --output cat": "curl -sS {server}/readyz >&2; cat server.log"},
        beside="server",
    ),
    # Containers
    "docker build -f deploy/Containerfile -t licensesvc .": IMAGE,
    "docker build -f deploy/Containerfile --build-arg PYTHON=python:3.13-slim-trixie@sha256:… -t licensesvc .": IMAGE,
    "docker buildx imagetools inspect python:3.13-slim-trixie": REGISTRY,
    "docker push": REGISTRY,
    "docker compose -f deploy/compose.yaml up --detach": COMPOSE,
    "docker compose -f deploy/compose.yaml build --pull && docker compose -f deploy/compose.yaml up --detach": COMPOSE,
    # Kubernetes
    "kubectl kustomize": MANIFESTS,
    "kubectl apply -k deploy/kubernetes/overlays/production": MANIFESTS,
    "kubectl create namespace licensesvc": Runs("namespace/licensesvc", OFFLINE),
    "kubectl -n licensesvc create secret generic licensesvc-keys --from-file=seed/signing-keys.json --from-file=seed/vault-keys.json": Runs(
        "secret/licensesvc-keys", SEEDED
    ),
    'kubectl -n licensesvc create secret generic licensesvc-database --from-literal=url="$DSN"': Runs(
        "secret/licensesvc-database", OFFLINE
    ),
    "kubectl -n licensesvc get pods": CLUSTER,
    "kubectl -n licensesvc delete job licensesvc-migrate --ignore-not-found": CLUSTER,
    "kubectl -n licensesvc wait --for=condition=complete --timeout=10m job/licensesvc-migrate": CLUSTER,
    "kubectl -n licensesvc rollout status statefulset/licensesvc": CLUSTER,
    "kubectl rollout restart statefulset/licensesvc": CLUSTER,
}


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
