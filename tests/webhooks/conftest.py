import ssl
from pathlib import Path

import pytest

from licensesvc.services.runtime import Runtime
from licensesvc.signing.privatefiles import private_directory
from licensesvc.storage.port import Database
from tests.support_edges import Shop, open_shop
from tests.support_web import Clock, make_runtime


@pytest.fixture(autouse=True)
def _no_system_trust(monkeypatch):
    """Reading the system's certificates is slow, and no test here trusts any."""
    monkeypatch.setattr(
        "licensesvc.outbound.transport.ssl.create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def rt(database: Database, tmp_path: Path, clock: Clock) -> Runtime:
    return await make_runtime(database, private_directory(tmp_path / "data"), clock)


@pytest.fixture
async def shop(rt: Runtime) -> Shop:
    return await open_shop(rt, seats=10)
