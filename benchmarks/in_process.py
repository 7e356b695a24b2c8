"""The parts of the hot path in one process, and the price of the drain: what ``micro.py`` measures, as figures."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.report import Figure

TITLE = "In one process, CPU by pytest-benchmark (the spread is that of the quartiles)"

_MICRO = Path(__file__).with_name("micro.py")
_TARGETS = {"test_begin": 0.1, "test_cut": 1.0}


def measure(*, quick: bool = False) -> Iterator[Figure]:
    """Run the benchmarks, and set those with the drain against those without."""
    if not find_spec("pytest_benchmark"):
        print("left out: pytest-benchmark is not installed", file=sys.stderr)
        return
    benchmarks = {one["name"]: one for one in _run(quick=quick)}
    for answer in ("at_once", "later"):
        tracked, untracked = (benchmarks.pop(f"test_price[{answer}-{drain}]") for drain in ("tracked", "untracked"))
        base = untracked["stats"]["median"]
        quartiles = [tracked["stats"][name] / base for name in ("q1", "median", "q3")]
        yield Figure(f"the price of the drain, answers {answer.replace('_', ' ')}: time of that without", quartiles)
        yield _figure(f"the protocol without the drain, answers {answer.replace('_', ' ')}", untracked)
    for name, one in benchmarks.items():
        yield _figure(name, one)


def _figure(name: str, benchmark: dict[str, Any]) -> Figure:
    values = [benchmark["stats"][part] / benchmark["extra_info"]["items"] for part in ("q1", "median", "q3")]
    name = name.removeprefix("test_")
    if f"test_{name}" in _TARGETS:
        return Figure(f"{name}, 100,000 in flight", values, "s", at_most=_TARGETS[f"test_{name}"])
    return Figure(f"{name}, each", [value * 1e6 for value in values], "µs")


def _run(*, quick: bool) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as directory:
        results = Path(directory, "results.json")
        # CPU time: other programs on the machine do not count.
        options = ["--benchmark-timer=time.process_time", f"--benchmark-json={results}"]
        if quick:
            options += ["--benchmark-max-time=0.001", "--benchmark-min-rounds=1", "-k", "not begin and not cut"]
        else:
            options += ["--benchmark-max-time=0.5"]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(_MICRO)]
        subprocess.run(command, capture_output=True, cwd=_MICRO.parent.parent, check=True)
        benchmarks: list[dict[str, Any]] = json.loads(results.read_text())["benchmarks"]
        return benchmarks
