"""How fast the hot routes are, measured against a bare Litestar handler on the same core in the same minute (see README.md).

In: the plan of a run, its rounds, what makes it void, its figures. Out: load, processes and seeding (`tests/support_*`).
"""

import argparse
import itertools
import os
import signal
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
import uvloop
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from tests.support_load import ACTIVATE, HEARTBEAT, SUCCESS, Load, post, send
from tests.support_process import CHECKOUT, Server, running, serving
from tests.support_stock import Stock, make_stock

BARE, ACTIVATION, BEAT = KINDS = ("bare", "activate", "heartbeat")
TIMES: Final = {BARE: 3, ACTIVATION: 1, BEAT: 2}
"""Requests of a slice for one activation: a license is activated only once, the faster kinds need more for as long a slice."""
GENERATOR_LIMIT: Final = 0.8
"""Part of its core that the load generator may use; beyond it would measure itself."""
SHARED_CORE: Final = 0.1
"""Part of the servers' core that other processes may use before a run says so: a handler that never waits suffers more from them."""
STARTS: Final = 3
AIMS: Final = {"activate_ratio_64": 0.30, "heartbeat_ratio_64": 0.45, "start_seconds": 1.5, "idle_rss_mb": 120}
"""The ratios at least, the others at most."""


class VoidError(Exception):
    """The run proves nothing; the text says why."""


@dataclass(frozen=True)
class Plan:
    """Rounds of a run, and activations of one slice by number of connections."""

    rounds: int
    activations: Mapping[int, int]

    @property
    def licenses(self) -> int:
        """Every round and one to warm up."""
        return (self.rounds + 1) * sum(self.activations.values())


FULL: Final = Plan(rounds=9, activations={1: 150, 16: 500, 64: 1_200})
QUICK: Final = Plan(rounds=2, activations={1: 30, 16: 100, 64: 250})


@dataclass(frozen=True)
class Slice:
    """One kind of request at one number of connections for a moment; latencies in seconds, ascending."""

    per_second: float
    latencies: Sequence[float]
    generator: float


@dataclass
class Figures:
    """What a run has measured: slices by (kind, connections), one for each round."""

    slices: dict[tuple[str, int], list[Slice]] = field(default_factory=lambda: defaultdict(list))
    start_seconds: float = 0.0
    idle_rss_mb: float = 0.0
    others_cpu: float = 0.0
    acknowledged: int = 0

    def per_second(self, kind: str, connections: int) -> float:
        """Median over the rounds."""
        return statistics.median(part.per_second for part in self.slices[kind, connections])

    def ratios(self, kind: str, connections: int) -> list[float]:
        """Throughput by that of the bare handler in the same round, ascending."""
        pairs = zip(self.slices[kind, connections], self.slices[BARE, connections], strict=True)
        return sorted(part.per_second / bare.per_second for part, bare in pairs)

    def latency_ms(self, kind: str, connections: int, percent: int) -> float:
        """A percentile over all rounds."""
        every = sorted(itertools.chain.from_iterable(part.latencies for part in self.slices[kind, connections]))
        return every[min(len(every) * percent // 100, len(every) - 1)] * 1_000

    def generator(self, kind: str, connections: int) -> float:
        """The largest part of its core that the generator used in a slice."""
        return max(part.generator for part in self.slices[kind, connections])

    def summary(self, plan: Plan) -> dict[str, Any]:
        """The last line of a valid run."""
        facts: dict[str, Any] = {}
        for kind, connections in itertools.product((ACTIVATION, BEAT), plan.activations):
            ratios = self.ratios(kind, connections)
            facts[f"{kind}_ratio_{connections}"] = round(statistics.median(ratios), 3)
            facts[f"{kind}_ratio_{connections}_spread"] = [round(ratios[0], 3), round(ratios[-1], 3)]
        for kind, connections in itertools.product(KINDS, plan.activations):
            facts[f"{kind}_per_second_{connections}"] = round(self.per_second(kind, connections))
        facts["start_seconds"] = round(self.start_seconds, 3)
        facts["idle_rss_mb"] = round(self.idle_rss_mb, 1)
        facts["generator_cpu"] = round(max(self.generator(*key) for key in self.slices), 3)
        facts["others_cpu"] = round(self.others_cpu, 3)
        facts["activations"] = self.acknowledged
        facts["rounds"] = plan.rounds
        return facts


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run, and start processes, on one core only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def checked(load: Load) -> Slice:
    """The figures of a load whose every answer is a success; raises VoidError."""
    latencies = []
    for answer in load.answers:
        if answer is None:
            raise VoidError("a request got no answer")
        if answer.status != 200 or answer.error_code != SUCCESS:
            raise VoidError(f"an answer is no success: {answer.status} {answer.body[:200]!r}")
        latencies.append(answer.seconds)
    return Slice(len(latencies) / load.seconds, sorted(latencies), load.cpu_share)


async def run_round(
    plan: Plan, servers: Mapping[str, Server], stock: Stock, codes: Iterator[str]
) -> dict[tuple[str, int], Slice]:
    """One slice of each kind at each number of connections, the kinds in turn."""
    found = {}
    for connections, count in plan.activations.items():
        fresh = list(itertools.islice(codes, count))
        for kind in KINDS:
            if kind == BARE:
                requests = [post("/", {"license": code}) for code in fresh]
            else:
                requests = [stock.signed_post(ACTIVATE if kind == ACTIVATION else HEARTBEAT, code) for code in fresh]
            load = await send(servers[kind].port, requests * TIMES[kind], connections=connections)
            found[kind, connections] = checked(load)
    return found


async def measure(plan: Plan, home: Path, progress: Progress) -> Figures:
    """Seed, start both servers on one core, load them from another; raises VoidError."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise VoidError("the run needs two cores, one for the servers and one for the load")
    figures = Figures()
    seeding = progress.add_task("orders", total=plan.licenses)
    stock = await make_stock(
        home / "data", licenses=plan.licenses, progress=lambda made: progress.update(seeding, completed=made)
    )
    codes = iter(stock.licenses)
    log = home / "servers.log"
    with ExitStack() as opened:
        with pinned(cores[0]):
            figures.start_seconds = statistics.median(start_once(stock, log) for _ in range(STARTS))
            bare = opened.enter_context(running("benchmarks.bare", log=log))
            server = opened.enter_context(running(*serving(stock.data_dir), log=log))
        figures.idle_rss_mb = psutil.Process(server.process.pid).memory_info().rss / 1_000_000
        servers = {BARE: bare, ACTIVATION: server, BEAT: server}
        rounds = progress.add_task("rounds", total=plan.rounds + 1)
        with pinned(cores[1]):
            await run_round(plan, servers, stock, codes)
            progress.advance(rounds)
            began, others_began = time.perf_counter(), used_by_others(cores[0], [bare, server])
            for _ in range(plan.rounds):
                for key, part in (await run_round(plan, servers, stock, codes)).items():
                    figures.slices[key].append(part)
                progress.advance(rounds)
            others = used_by_others(cores[0], [bare, server]) - others_began
            figures.others_cpu = others / (time.perf_counter() - began)
        figures.acknowledged = plan.licenses
        server.stop()
    refuse_void(figures, active_rows(stock))
    return figures


def refuse_void(figures: Figures, rows: int) -> None:
    """Raise VoidError unless the database holds what was acknowledged and the generator had time to spare."""
    if rows != figures.acknowledged:
        raise VoidError(f"{figures.acknowledged} activations were acknowledged, {rows} are in the database")
    if (used := max(figures.generator(*key) for key in figures.slices)) > GENERATOR_LIMIT:
        raise VoidError(f"the load generator used {used:.0%} of its core, more than {GENERATOR_LIMIT:.0%}")


def start_once(stock: Stock, log: Path) -> float:
    """Seconds from the creation of a server process until it answers."""
    with running(*serving(stock.data_dir), log=log) as server:
        server.stop()
        return server.start_seconds


def used_by_others(core: int, servers: Sequence[Server]) -> float:
    """Seconds of a core that went to other processes and other machines, with an unknown constant."""
    times = psutil.cpu_times(percpu=True)[core]
    ours = [psutil.Process(server.process.pid).cpu_times() for server in servers]
    total = times.user + times.nice + times.system + getattr(times, "steal", 0.0)
    return float(total - sum(own.user + own.system for own in ours))


def active_rows(stock: Stock) -> int:
    """Activated licenses in the database of a stopped server."""
    with closing(sqlite3.connect(stock.data_dir / "licensesvc.db")) as connection:
        [[rows]] = connection.execute("SELECT count(*) FROM license_states WHERE state = 'ACTIVE'")
        return int(rows)


def table(figures: Figures, plan: Plan) -> Table:
    """All figures for people."""
    shown = Table(title=f"medians of {plan.rounds} rounds; ratio to the bare handler with its spread")
    for heading in ("connections", "kind", "requests/s", "p50 ms", "p99 ms", "ratio", "generator"):
        shown.add_column(heading, justify="left" if heading == "kind" else "right")
    for connections, kind in itertools.product(plan.activations, KINDS):
        ratios = figures.ratios(kind, connections)
        shown.add_row(
            str(connections),
            kind,
            f"{figures.per_second(kind, connections):,.0f}",
            f"{figures.latency_ms(kind, connections, 50):.2f}",
            f"{figures.latency_ms(kind, connections, 99):.2f}",
            "" if kind == BARE else f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} - {ratios[-1]:.2f})",
            f"{figures.generator(kind, connections):.0%}",
            end_section=kind == BEAT,
        )
    return shown


def main() -> int:
    """Measure and print; 0 unless the run is void."""
    parser = argparse.ArgumentParser(description="Measure the hot routes against a bare Litestar handler.")
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds: proves that the benchmark runs, not how fast"
    )
    plan = QUICK if parser.parse_args().quick else FULL
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped run takes its servers and its data with it
    errors = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    # In the checkout, for /tmp may be memory, where a durable commit costs nothing.
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=CHECKOUT) as home:
        try:
            with Progress(*columns, console=errors, refresh_per_second=2) as progress:
                figures = uvloop.run(measure(plan, Path(home), progress))
        except VoidError as void:
            errors.print(f"the run is void: {void}")
            sys.stdout.buffer.write(msgspec.json.encode({"void": str(void)}) + b"\n")
            return 1
        except KeyboardInterrupt:
            errors.print("interrupted")
            return 130
    summary = figures.summary(plan)
    Console(width=100).print(table(figures, plan))
    for name, aim in AIMS.items():
        print(f"{name} {summary[name]} (aim: at {'least' if 'ratio' in name else 'most'} {aim})")
    if figures.others_cpu > SHARED_CORE:
        print(f"other processes used {figures.others_cpu:.0%} of the servers' core: the ratios are worth little")
    print(msgspec.json.encode(summary).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
