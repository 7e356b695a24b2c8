"""Throughput on TCP: connections times outstanding requests, against asyncio streams, on its own loop and on uvloop."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from benchmarks.measure import LOOPBACK, NODE, PATIENCE, Process, in_turn, python, ratios
from benchmarks.report import Figure

TITLE = "TCP, connections x outstanding on each, requests without latency"

#: Connections, outstanding requests on each, requests in all, and how many times as fast we want to be.
_SHAPES = [(10, 100, 40_000, 5), (100, 10, 40_000, 4), (10, 1, 10_000, 1.2), (1, 1, 5_000, 1.2)]


@dataclass(frozen=True)
class Served:
    """What one load took: seconds by the client's clock, and seconds of the server's CPU."""

    seconds: float
    cpu: float


def measure(*, quick: bool = False) -> Iterator[Figure]:
    """Compare with asyncio streams."""
    commands = {"ours": (*NODE, "--listen", LOOPBACK), "streams": python("streams")}
    if find_spec("uvloop"):
        commands["uvloop"] = python("streams", "uvloop")
    rounds, part = (1, 100) if quick else (5, 1)
    with ExitStack() as stack:
        # All of them all the time; those that have nothing to do take nothing.
        servers = {name: stack.enter_context(Process(command)) for name, command in commands.items()}
        ports = {name: server.port() for name, server in servers.items()}
        for connections, outstanding, requests, target in _SHAPES:
            shape = connections, outstanding, max(requests // part, connections)
            variants = {name: partial(serve, servers[name], ports[name], shape) for name in servers}
            in_turn(1, variants)
            served = in_turn(rounds, variants)
            yield from _figures(served, shape, target)


def serve(server: Process, port: int, shape: tuple[int, int, int]) -> Served:
    """Have a process of its own put a load on a server."""
    before = server.cpu()
    command = python("load", str(port), *map(str, shape))
    load = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return Served(float(load.stdout), server.cpu() - before)


def _figures(served: dict[str, list[Served]], shape: tuple[int, int, int], target: float) -> Iterator[Figure]:
    connections, outstanding, requests = shape
    seconds = {name: [one.seconds for one in results] for name, results in served.items()}
    cpu = {name: [one.cpu for one in results] for name, results in served.items()}
    name = f"{connections} x {outstanding}"
    yield Figure(f"{name}: as fast as streams", ratios(seconds["streams"], seconds["ours"]), at_least=target)
    if "uvloop" in served:
        yield Figure(f"{name}: as fast as streams on uvloop", ratios(seconds["uvloop"], seconds["ours"]))
    yield Figure(f"{name}: less CPU than streams", ratios(cpu["streams"], cpu["ours"]))
    yield Figure(f"{name}: requests a second", [requests / one for one in seconds["ours"]], "/s")
    yield Figure(f"{name}: CPU a request", [one / requests * 1e6 for one in cpu["ours"]], "µs")
