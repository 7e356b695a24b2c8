"""Throughput on standard input and output: requests without latency through a pipe, the whole process timed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.lines import INIT, request
from benchmarks.measure import NODE, in_turn, python, ratios, run_through_pipes
from benchmarks.report import Figure

TITLE = "Standard input and output, requests without latency, whole process"


def measure(*, quick: bool = False) -> Iterator[Figure]:
    """Compare with the naive loop."""
    requests, rounds = (1_000, 1) if quick else (300_000, 5)
    with tempfile.TemporaryDirectory() as directory:
        lines = Path(directory, "lines")
        lines.write_bytes(INIT + b"".join(map(request, range(2, requests + 2))))
        costs = in_turn(
            rounds,
            {
                name: partial(run_through_pipes, command, lines, requests + 1)
                for name, command in (("ours", NODE), ("naive", python("naive")))
            },
        )
    ours, naive = costs["ours"], costs["naive"]
    seconds = ratios([cost.seconds for cost in naive], [cost.seconds for cost in ours])
    cpu = ratios([cost.cpu for cost in naive], [cost.cpu for cost in ours])
    yield Figure("as fast as the naive loop", seconds, at_least=4)
    yield Figure("less CPU than the naive loop", cpu)
    yield Figure("requests a second", [requests / cost.seconds for cost in ours], "/s")
    yield Figure("CPU a request, start included", [cost.cpu / requests * 1e6 for cost in ours], "µs")
