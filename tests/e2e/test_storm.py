"""Promise 4: a repeated callback has one effect and one answer, whatever the order and however many come at once."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from tests.support_process import CHECKOUT, serving
from tests.support_storm import open_shop, storm

DELIVERIES = int(os.environ.get("LICENSESVC_STORM_DELIVERIES", "4000"))
"""100,000 before a release (`make prove`)."""


async def test_every_order_of_a_storm_has_one_license_and_one_answer(tmp_path: Path):
    connection = await open_shop(tmp_path / "data")

    outcome = await storm(tmp_path / "data", connection, serving(tmp_path / "data"), DELIVERIES)

    assert (outcome.deliveries, outcome.unanswered) == (DELIVERIES, 0)
    assert (outcome.duplicates, outcome.different_answers) == (0, 0)
    assert all(b'"resultCode":"000000"' in body for bodies in outcome.bodies.values() for body in bodies)
    audit = [sys.executable, "-m", "licensesvc", "audit", "--data-dir", str(tmp_path / "data")]
    done = await asyncio.to_thread(
        subprocess.run, audit, cwd=CHECKOUT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


async def test_control_a_server_without_the_idempotency_key_is_caught(tmp_path: Path):
    """The planted server takes businessId, which changes with every delivery, for the order."""
    connection = await open_shop(tmp_path / "data")

    outcome = await storm(
        tmp_path / "data", connection, ("tests.planted_server", str(tmp_path / "data"), "forgetful"), 300
    )

    assert outcome.duplicates > 0
    assert outcome.different_answers > 0
