from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from licensesvc.services.runtime import Runtime
from licensesvc.signing.privatefiles import private_directory
from licensesvc.storage.port import Database
from tests.support_relay import Rig, open_rig
from tests.support_web import Clock, make_runtime


@pytest.fixture(params=["sqlite"])
def engine(request: pytest.FixtureRequest) -> str:
    """Most rules have nothing to do with the engine; the tests that do name both."""
    return request.param


@pytest.fixture
def mode() -> str:
    return "single"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def rig(database: Database, tmp_path: Path, mode: str, clock: Clock) -> AsyncIterator[Rig]:
    rt: Runtime = await make_runtime(database, private_directory(tmp_path / "data"), clock)
    async with open_rig(rt, clock, mode) as opened:
        yield opened
