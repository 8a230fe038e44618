"""Container, compose and systemd files, held against the tools that read them."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from licensesvc.cli.program import program
from tests.support_process import CHECKOUT
from tests.support_tools import run, setting_names, tool

DEPLOY = CHECKOUT / "deploy"
CONTAINERFILE = DEPLOY / "Containerfile"
UNIT = DEPLOY / "licensesvc.service"
MOST_EXPOSURE = 2.0
"""Of systemd's scale from 0 (closed) to 10."""


def test_hadolint_finds_nothing_in_the_containerfile():
    outcome = run(tool("hadolint"), "--no-color", CONTAINERFILE)

    assert (outcome.returncode, outcome.stdout) == (0, "")


def test_hadolint_would_find_something(tmp_path: Path):
    bad = tmp_path / "Containerfile"
    bad.write_text("FROM python:latest\nRUN cd /src && sudo pip install licensesvc\n")

    assert run(tool("hadolint"), bad).returncode != 0


def test_the_image_is_pinned_runs_as_nobody_in_particular_and_tells_its_health():
    text = CONTAINERFILE.read_text()

    assert re.search(r"^ARG PYTHON=\S+:3\.\d+-slim-\w+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${PYTHON}"}
    assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 2
    assert "--require-hashes" in text
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*\\\n  CMD .*/healthz", text, re.MULTILINE)
    assert set(re.findall(r"LICENSESVC_[A-Z_]+", text)) <= setting_names()


def test_the_build_sees_only_what_it_copies():
    ignored = (DEPLOY / "Containerfile.dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE.read_text(), re.MULTILINE)

    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line.startswith("!")} == {
        name for names in copied for name in names.split()
    }
    assert all((CHECKOUT / name).exists() for names in copied for name in names.split())


def test_compose_runs_hardened_containers_of_known_commands_and_settings():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())

    assert set(compose["services"]) == {"init", "server"}
    for service in compose["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"] == "10001:10001"
        assert service["environment"].keys() <= setting_names()
        assert service.get("command", ["serve"])[0] in program.commands
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert {volume.partition(":")[0] for volume in service["volumes"]} == set(compose["volumes"])
    assert (DEPLOY / compose["x-licensesvc"]["build"]["context"] / "deploy/Containerfile").is_file()


def test_dclint_finds_nothing_in_the_compose_file():
    outcome = run(tool("dclint"), "--max-warnings", "0", DEPLOY / "compose.yaml")

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that exists here."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/licensesvc/bin/licensesvc", "/bin/true"))
    return copy


def test_systemd_accepts_the_unit(unit: Path):
    outcome = run(tool("systemd-analyze"), "verify", "--man=no", unit)

    assert (outcome.returncode, outcome.stderr) == (0, "")


def test_systemd_would_refuse_a_misspelt_unit(unit: Path):
    unit.write_text(unit.read_text().replace("WatchdogSec=30", "WatchdogSecs=30"))

    assert "WatchdogSecs" in run(tool("systemd-analyze"), "verify", "--man=no", unit).stderr


def test_systemd_calls_the_unit_closed(unit: Path):
    outcome = run(tool("systemd-analyze"), "security", "--offline=yes", "--no-pager", unit)
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", outcome.stdout)

    if exposure is None:
        pytest.skip(f"this systemd cannot judge a file: {outcome.stderr.strip()}")
    assert float(exposure[1]) <= MOST_EXPOSURE


def test_the_unit_starts_commands_with_options_that_they_have():
    calls = re.findall(r"^ExecStart(?:Pre)?=\S+/licensesvc (\S+)(.*)$", UNIT.read_text(), re.MULTILINE)

    assert [name for name, _ in calls] == ["init", "serve"]
    for name, arguments in calls:
        known = {option for parameter in program.commands[name].params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", arguments)) <= known


def test_unit_user_settings_and_command_of_an_installation_fit_together():
    unit = UNIT.read_text(encoding="utf-8")
    (user,) = re.findall(r"^User=(\w+)$", unit, re.MULTILINE)
    assert re.search(rf"^u {user} ", (DEPLOY / "licensesvc.sysusers").read_text(encoding="utf-8"), re.MULTILINE)
    names = re.findall(r"^(\w+)=", (DEPLOY / "environment").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"LICENSESVC_DATA_DIR", "LICENSESVC_PUBLIC_URL", "LICENSESVC_ISSUER"} == set(names) <= setting_names()
    command = (DEPLOY / "licensesvc.sh").read_text(encoding="utf-8")
    assert f"runuser -u {user} " in command
    assert all("/etc/licensesvc/environment" in text for text in (unit, command))
    subprocess.run(["sh", "-n", str(DEPLOY / "licensesvc.sh")], check=True)
