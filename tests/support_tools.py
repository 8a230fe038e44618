"""Other people's programs that check what we ship: found, run, and skipped where they are not installed."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from licensesvc.settings import ENVIRONMENT_PREFIX, Settings


def tool(name: str) -> str:
    """Where a tool is, beside the interpreter or on the path; skips when it is nowhere."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    return found or pytest.skip(f"{name} is not installed")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """One program to its end, with its output."""
    return subprocess.run([*map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def setting_names() -> set[str]:
    """Every environment variable that is a setting."""
    return {ENVIRONMENT_PREFIX + name.upper() for name in Settings.__struct_fields__}
