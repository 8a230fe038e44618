"""The benchmark runs to its end, and refuses the runs that prove nothing."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks.activate import AIMS, BARE, Figures, Slice, VoidError, checked, refuse_void
from tests.support_load import Answer, Load
from tests.support_process import CHECKOUT


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the benchmark needs two cores")
def test_a_quick_run_ends_with_one_line_of_figures():
    before = set(CHECKOUT.glob(".bench-*"))
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.activate", "--quick"],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    figures = json.loads(run.stdout.splitlines()[-1])
    assert figures.keys() >= AIMS.keys() | {"activate_per_second_64", "activate_ratio_64_spread", "generator_cpu"}
    assert set(CHECKOUT.glob(".bench-*")) == before


@pytest.mark.parametrize(
    "answer",
    [
        None,
        Answer(500, b'{"error_code":"92020000"}', 0.001),
        Answer(200, b'{"error_code":"92020003"}', 0.001),
    ],
)
def test_a_load_with_an_answer_that_is_no_success_is_void(answer: Answer | None):
    good = Answer(200, b'{"error_code":"92020000"}', 0.001)
    assert checked(Load([good], 1, 0.5, 0.1)).per_second == 2
    with pytest.raises(VoidError):
        checked(Load([good, answer], 2, 0.5, 0.1))


@pytest.mark.parametrize(
    ("rows", "generator", "reason"),
    [(9, 0.5, "10 activations were acknowledged, 9 are in the database"), (10, 0.81, "used 81% of its core")],
)
def test_a_run_with_lost_rows_or_a_busy_generator_is_void(rows: int, generator: float, reason: str):
    figures = Figures(acknowledged=10)
    figures.slices[BARE, 64].append(Slice(1_000.0, [0.001], generator))
    with pytest.raises(VoidError, match=reason):
        refuse_void(figures, rows)
