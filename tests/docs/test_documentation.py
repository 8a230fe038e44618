"""What the documentation says is true: generated pages are current, links lead somewhere, examples and commands work."""

import asyncio
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support_process import CHECKOUT, running, serving
from tests.support_stock import Stock, make_stock

DOCS = CHECKOUT / "docs"
PAGES = sorted(
    [
        *CHECKOUT.glob("*.md"),
        *DOCS.rglob("*.md"),
        *(CHECKOUT / "keys").glob("*.md"),
        *(CHECKOUT / "deploy").glob("*.md"),
    ]
)


def _generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", sorted(_generator().PAGES))
def test_a_generated_page_is_current(name: str):
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == _generator().PAGES[name](), (
        "run: PYTHONPATH=. python docs/generate.py"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_link_to_a_file_leads_to_one(page: Path):
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_every_place_that_the_divergences_name_exists():
    page = (DOCS / "marketplace-divergences.md").read_text(encoding="utf-8")
    places = set(re.findall(r"`([a-z_0-9]+(?:/[a-z_0-9]+)+\.py)`", page))
    assert len(places) > 10
    assert [place for place in sorted(places) if not (CHECKOUT / "licensesvc" / place).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_every_test_that_a_page_calls_proof_exists(page: Path):
    named = re.findall(r"`(tests/[\w/]+(?:\.py)?)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (CHECKOUT / name).exists()] == []


def test_every_make_target_that_the_readme_names_exists():
    named = set(re.findall(r"\bmake ([a-z]+)", (CHECKOUT / "README.md").read_text(encoding="utf-8")))
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"run", "demo", "test"} <= named <= targets


def test_the_chinese_readme_has_the_commands_of_the_english_one():
    english, chinese = (
        set(
            re.findall(
                r"^(?:make|node|python3|sh|\.venv)\b.*$", (CHECKOUT / name).read_text(encoding="utf-8"), re.MULTILINE
            )
        )
        for name in ("README.md", "README.zh-CN.md")
    )
    assert english == chinese


def test_every_command_that_the_documentation_names_exists():
    known = _help_tree([])
    for page in PAGES:
        for call in re.findall(
            r"(?:`|-m )licensesvc ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)", page.read_text(encoding="utf-8")
        ):
            assert call in known or call.split()[0] in known, f"{page.name}: licensesvc {call}"


def _help_tree(path: list[str]) -> set[str]:
    """Every command, `admin create-token` for one, as its group knows it."""
    from licensesvc.cli.program import program

    found = set()
    for name, command in program.commands.items():
        found.add(name)
        found |= {f"{name} {sub}" for sub in getattr(command, "commands", {})}
    return found


@pytest.fixture(scope="module")
def stock(tmp_path_factory) -> Stock:
    return asyncio.run(make_stock(tmp_path_factory.mktemp("docs") / "data", licenses=len(EXAMPLES)))


EXAMPLES = ["activate.py", "activate.sh", "activate.mjs"]


@pytest.mark.parametrize("program", EXAMPLES)
def test_a_signing_example_activates_a_code_on_a_real_server(program: str, stock: Stock, tmp_path: Path):
    needed = {"activate.py": [], "activate.sh": ["curl", "openssl"], "activate.mjs": ["node"]}[program]
    if absent := [tool for tool in needed if shutil.which(tool) is None]:
        pytest.skip(f"not installed: {', '.join(absent)}")
    interpreter = {".py": sys.executable, ".sh": "sh", ".mjs": "node"}[Path(program).suffix]
    code = list(stock.licenses)[EXAMPLES.index(program)]
    with running(*serving(stock.data_dir), log=tmp_path / "server.log") as server:
        arguments = [f"http://127.0.0.1:{server.port}", stock.access_key, stock.secret_key, code]
        done = subprocess.run(
            [interpreter, str(DOCS / "examples" / program), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        again = subprocess.run(
            [interpreter, str(DOCS / "examples" / program), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert json.loads(done.stdout)["error_code"] == "92020000", done.stderr
    assert json.loads(again.stdout)["error_code"] == "92020003", again.stderr


def test_the_story_in_the_readme_is_the_one_that_the_demo_tells():
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    block = readme.split("<!-- demo -->\n```\n")[1].split("```")[0]
    told = subprocess.run(
        [sys.executable, "-m", "licensesvc", "demo"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert _titles(block) == _titles(told.stdout)


def _titles(story: str) -> list[str]:
    return re.findall(r"s  ✓ (.+?)(?:  |$)", story, re.MULTILINE)


def test_the_first_product_example_makes_what_the_marketplace_needs_and_can_be_repeated(tmp_path: Path):
    data = tmp_path / "data"
    command = [sys.executable, "-m", "licensesvc"]
    token = json.loads(
        subprocess.run(
            [*command, "admin", "create-token", "--name", "me", "--json", "--data-dir", str(_initialized(data))],
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
    )["token"]
    keys = {"CALLBACK_KEY": "k" * 16, "API_ACCESS_KEY": "AK", "API_SECRET": "SK"}
    with running(*serving(data), log=tmp_path / "server.log") as server:
        example = [sys.executable, str(DOCS / "examples" / "first_product.py"), f"http://127.0.0.1:{server.port}"]
        told = [
            subprocess.run(
                [*example, token, "OFFI1"],
                env=os.environ | keys,
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            for _ in range(2)
        ]
        refused = subprocess.run(
            [*example, "x", "OFFI1"], env=os.environ | keys, capture_output=True, text=True, timeout=60, check=False
        )
    assert re.search(r"product prd_\w{26}; .*/callbacks/con_\w{26}$", told[0].stdout)
    assert told[1].stdout == told[0].stdout
    assert refused.returncode == 1
    assert "UNAUTHENTICATED" in refused.stderr


def _initialized(data: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "licensesvc", "init", "--data-dir", str(data)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    return data
