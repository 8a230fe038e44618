"""Who may read `/metrics`, and what stands there."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from licensesvc.domain.reconciliation import Difference, FindingKind
from licensesvc.storage import reconciliation
from licensesvc.storage.port import StorageUnavailable
from licensesvc.web import metrics_page
from tests.support_edges import ACTIVATE, call
from tests.support_observed import METRICS_PORT, Served, open_served
from tests.support_web import Clock


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with open_served(tmp_path) as opened:
        yield opened


async def get(served: Served, path: str, *, port: int = METRICS_PORT, control: Any = None) -> tuple[int, str]:
    """One request that arrived on this port."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", f"localhost:{METRICS_PORT}".encode())],
        "client": ("127.0.0.1", 40000),
        "server": ("127.0.0.1", port),
        "state": {},
    }
    await served.app({**scope, "licensesvc.control": control} if control is not None else scope, receive, send)
    return sent[0]["status"], sent[1]["body"].decode()


@pytest.mark.parametrize(
    ("path", "port", "control", "status"),
    [
        ("/metrics", METRICS_PORT, None, 200),
        ("/metrics", 8080, True, 200),
        ("/metrics", 8080, None, 404),
        ("/metrics", 8080, False, 404),
        ("/metrics", 8080, "True", 404),
        ("/metrics/", METRICS_PORT, None, 404),
        ("/healthz", METRICS_PORT, None, 404),
        ("/admin/v1/tokens", METRICS_PORT, None, 404),
        ("/healthz", 8080, None, 200),
    ],
)
async def test_metrics_are_served_on_their_port_and_the_control_socket_alone(
    served: Served, path: str, port: int, control: Any, status: int
):
    answered, body = await get(served, path, port=port, control=control)

    assert answered == status
    assert ("licensesvc_build_info" in body) is (status == 200 and path == "/metrics")


async def test_what_happened_is_counted(served: Served):
    served.edge.rt.signer._on_sign = served.metrics.signed
    served.edge.rt.db._writer._on_batch = served.metrics.batch
    code = await served.edge.shop.sell_code()
    await call(served.app, served.edge.pair, ACTIVATE, {"license": code}, served.edge.clock.now)
    await get(served, "/metrics")

    assert served.value("licensesvc_licenses", state="ACTIVE") == 1
    assert served.value("licensesvc_licenses", state="ISSUED") == 0
    assert served.value("licensesvc_outbox_items", state="open") == 0
    assert served.value("licensesvc_write_batch_commands_count") >= 2
    assert served.value("licensesvc_write_wait_seconds_sum") > 0
    assert served.value("licensesvc_write_commit_seconds_sum") > 0
    assert served.value("licensesvc_signing_seconds_count") >= 1
    assert served.value("licensesvc_http_request_duration_seconds_count", route=ACTIVATE, status="200") == 1
    assert served.value("licensesvc_write_queue_length") == 0
    assert served.value("licensesvc_ready") == 1
    assert served.value("licensesvc_disk_free_bytes") > 0


async def test_open_findings_are_counted_until_somebody_settles_them(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metrics_page, "FIGURES_KEPT_S", 0)
    await get(served, "/metrics")
    before = served.value("licensesvc_reconciliation_findings")

    async def add(tx: Any) -> None:
        difference = Difference(kind=FindingKind.UNKNOWN_THERE, ours="NEW", theirs="MKT.0150")
        for order in ("CS1", "CS2", "CS3"):
            await reconciliation.add(tx, served.edge.shop.connection.id, order, difference, f"fnd_{order}", 0)
        await reconciliation.resolve(tx, 2, "dismissed", by="op", now=1)

    await served.edge.rt.db.write(add)
    await get(served, "/metrics")

    assert (before, served.value("licensesvc_reconciliation_findings")) == (0, 2)


async def test_the_database_is_asked_once_in_15_seconds(served: Served, monkeypatch: pytest.MonkeyPatch):
    clock = Clock(now=1_000)
    monkeypatch.setattr(metrics_page.time, "monotonic", clock)
    asked = 0
    measure = metrics_page.measure

    async def counted(rt: Any) -> Any:
        nonlocal asked
        asked += 1
        return await measure(rt)

    monkeypatch.setattr(metrics_page, "measure", counted)
    for seconds in (0, 14, 14, 15, 29, 30):
        clock.now = 1_000 + seconds
        await get(served, "/metrics")

    assert asked == 3


async def test_a_database_that_is_away_leaves_the_old_figures_and_says_not_ready(
    served: Served, monkeypatch: pytest.MonkeyPatch
):
    await served.edge.shop.sell_code()
    await get(served, "/metrics")

    async def gone(*_args: Any) -> Any:
        raise StorageUnavailable("gone")

    monkeypatch.setattr(served.edge.rt.db, "read", gone)
    monkeypatch.setattr(metrics_page, "FIGURES_KEPT_S", 0)
    monkeypatch.setattr(served.readiness, "_asked_at", -10.0)
    status, _ = await get(served, "/metrics")

    assert status == 200
    assert served.value("licensesvc_licenses", state="ISSUED") == 1
    assert served.value("licensesvc_ready") == 0
