"""The Kubernetes manifests, built by the real Kustomize and held against the schema of Kubernetes."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from licensesvc.cli.program import program
from licensesvc.cli.program import run as licensesvc
from licensesvc.services.supervision.proof_store import put_proof
from licensesvc.settings import Settings
from licensesvc.signing import keyset, vault
from licensesvc.signing.privatefiles import private_directory
from tests.support_process import CHECKOUT
from tests.support_tools import run, setting_names, tool

OVERLAY = CHECKOUT / "deploy/kubernetes/overlays/production"


@pytest.fixture(scope="module")
def built() -> str:
    outcome = run(tool("kubectl"), "kustomize", OVERLAY)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


@pytest.fixture(scope="module")
def manifests(built: str) -> dict[str, Any]:
    """By kind and name."""
    return {f"{made['kind']}/{made['metadata']['name']}": made for made in yaml.safe_load_all(built)}


@pytest.fixture(scope="module")
def pods(manifests: dict[str, Any]) -> list[Any]:
    return [made["spec"]["template"]["spec"] for made in manifests.values() if "template" in made.get("spec", {})]


def test_every_manifest_fits_the_schema(built: str, tmp_path: Path):
    (tmp_path / "built.yaml").write_text(built)
    outcome = run(tool("kubernetes-validate"), "--strict", tmp_path / "built.yaml")

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr


def test_a_misspelt_manifest_would_not_fit(built: str, tmp_path: Path):
    (tmp_path / "built.yaml").write_text(built.replace("readinessProbe:", "readynessProbe:"))

    assert run(tool("kubernetes-validate"), "--strict", tmp_path / "built.yaml").returncode != 0


def test_every_container_is_closed_and_pinned(pods: list[Any]):
    assert len(pods) == 2
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"] + pod["initContainers"]:
            assert re.fullmatch(r"\S+@sha256:[0-9a-f]{64}", container["image"])
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]


def test_all_that_is_set_are_settings_and_all_that_runs_are_commands(pods: list[Any], manifests: dict[str, Any]):
    (parameters,) = [made["data"] for name, made in manifests.items() if name.startswith("ConfigMap/licensesvc-")]

    assert parameters.keys() <= setting_names()
    assert {container["args"][0] for pod in pods for container in pod["containers"]} == {"serve", "migrate"}
    assert {"serve", "migrate"} <= program.commands.keys()
    for pod in pods:
        for container in pod["containers"]:
            assert {variable["name"] for variable in container["env"]} <= setting_names()
            assert container["envFrom"][0]["configMapRef"]["name"].startswith("licensesvc-")


def test_the_server_is_probed_kept_apart_and_never_wholly_drained(manifests: dict[str, Any]):
    server = manifests["StatefulSet/licensesvc"]["spec"]
    (container,) = server["template"]["spec"]["containers"]
    labels = server["template"]["metadata"]["labels"]

    assert server["replicas"] >= 2
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert manifests["PodDisruptionBudget/licensesvc"]["spec"]["maxUnavailable"] == 1
    for selector in (
        manifests["PodDisruptionBudget/licensesvc"]["spec"]["selector"]["matchLabels"],
        manifests["Service/licensesvc"]["spec"]["selector"],
        manifests["Service/licensesvc-pods"]["spec"]["selector"],
        manifests["NetworkPolicy/licensesvc"]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
        assert (
            not selector.items()
            <= manifests["Job/licensesvc-migrate"]["spec"]["template"]["metadata"]["labels"].items()
        )


def test_no_secret_is_in_the_repository(built: str):
    assert "kind: Secret" not in built
    assert "postgresql://" not in built


def test_the_mounted_keys_become_files_that_a_server_takes(pods: list[Any], tmp_path: Path):
    seed, mounted, data, proofs = (tmp_path / name for name in ("seed", "keys", "home/data", "proofs"))
    assert licensesvc(["init", "--data-dir", str(seed)]) == 0
    mounted.mkdir()
    for name in ("signing-keys.json", "vault-keys.json"):  # a mounted Secret: links, readable by the group
        (mounted / f"..{name}").write_bytes((seed / name).read_bytes())
        (mounted / f"..{name}").chmod(0o440)
        (mounted / name).symlink_to(f"..{name}")
    data.parent.mkdir()
    data.parent.chmod(0o2777)
    proofs.mkdir(mode=0o2775)

    for pod in pods:
        (script,) = pod["initContainers"][0]["args"]
        script = script.replace("/keys/", f"{mounted}/").replace("/proofs/", f"{proofs}/")
        command = [*pod["initContainers"][0]["command"], script]
        for _restart in range(2):
            subprocess.run(command, env={"LICENSESVC_DATA_DIR": str(data), "PATH": "/usr/bin:/bin"}, check=True)

    settings = Settings(data_dir=str(data))
    assert private_directory(settings.data) == data
    assert keyset.load(settings.signing_keys_file).active
    assert vault.load(settings.vault_keys_file)
    digest = put_proof(settings.proofs_dir, b"delivered")
    assert (proofs / "store" / digest[:2] / digest).read_bytes() == b"delivered"


def test_the_instance_file_is_what_the_server_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    for line in (OVERLAY / "instance.env").read_text().splitlines():
        monkeypatch.setenv(*line.split("=", 1))
    monkeypatch.setenv("LICENSESVC_NODE", "licensesvc-0")
    code = licensesvc(["check-config", "--json", "--data-dir", str(tmp_path / "none")])

    assert code == 2  # there is no data directory here; the settings themselves are fine
    assert json.loads(capsys.readouterr().out)["node"] == "licensesvc-0"
