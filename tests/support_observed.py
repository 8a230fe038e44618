"""The application as the server serves it: behind request ids, access line and metrics; the lines are kept in a list."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from litestar.types import ASGIApp

from licensesvc.app import create_readiness
from licensesvc.metrics import Metrics
from licensesvc.services.guard.watch_delisting import DelistingWatch
from licensesvc.services.upkeep.readiness import Readiness
from licensesvc.settings import Settings
from licensesvc.web.metrics_page import MetricsDoor
from licensesvc.web.observed import Observed
from licensesvc.web.request_ids import RequestIds
from tests.support_edges import Edge, open_edge

METRICS_PORT = 9123


@dataclass
class Lines:
    """Stands for the access logger."""

    kept: list[dict[str, Any]] = field(default_factory=list)

    def info(self, event: str, **facts: Any) -> None:
        assert event == "request"
        self.kept.append(facts)


@dataclass(frozen=True, kw_only=True)
class Served:
    """The wrapped application; `edge.app` is what it wraps."""

    app: ASGIApp
    edge: Edge
    metrics: Metrics
    readiness: Readiness
    lines: list[dict[str, Any]]

    @property
    def line(self) -> dict[str, Any]:
        """The only line."""
        (line,) = self.lines
        return line

    def value(self, name: str, **labels: str) -> float | None:
        """One sample of the metrics; None where it was never recorded."""
        for family in self.metrics.families():
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return None


@asynccontextmanager
async def open_served(directory: Path) -> AsyncIterator[Served]:
    """Everything the server puts around the application."""
    async with open_edge(directory) as edge:
        lines, metrics = Lines(), Metrics()
        settings = Settings(data_dir=str(directory / "data"), metrics_port=METRICS_PORT)
        readiness = create_readiness(edge.rt, settings)
        observed = Observed(edge.app, metrics, lines)
        app = MetricsDoor(RequestIds(observed), edge.rt, metrics, readiness, METRICS_PORT, DelistingWatch(edge.rt))
        yield Served(app=app, edge=edge, metrics=metrics, readiness=readiness, lines=lines.kept)
