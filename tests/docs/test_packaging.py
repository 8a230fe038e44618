"""The wheel holds everything that the program reads beside its own code, and the locks say what they must."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support_process import CHECKOUT

LOCKS = ["runtime.lock", "dev.lock"]


def test_the_wheel_holds_migrations_the_api_page_and_the_type_marker(tmp_path: Path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    beside = {
        path.relative_to(CHECKOUT).as_posix()
        for path in (CHECKOUT / "licensesvc").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert beside <= names


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_every_package_with_hashes_and_names_no_index(lock: str):
    text = (CHECKOUT / "requirements" / lock).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[a-z])", text)
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[a-z0-9.-]+==", entry), entry[:60]
        assert "--hash=sha256:" in entry, entry[:60]
    assert "index-url" not in text
    assert "://" not in text


def test_every_direct_dependency_is_locked():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
    locked = (CHECKOUT / "requirements" / "dev.lock").read_text(encoding="utf-8")
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    names = {re.split(r"[><=\[ ]", requirement)[0].lower() for requirement in wanted}
    assert {name for name in names if not re.search(rf"^{re.escape(name)}==", locked, re.MULTILINE)} == set()
