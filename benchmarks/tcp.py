"""Throughput on TCP: connections times outstanding requests, against asyncio streams, on its own loop and on uvloop.

Beside it stands what Twisted itself allows: a server that does nothing but send back what came.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

from benchmarks.measure import LOOPBACK, NODE, PATIENCE, MeasuredProcess, in_turn, python, ratios
from benchmarks.report import Figure

TITLE = "TCP, connections x outstanding on each, requests without latency"


@dataclass(frozen=True)
class Shape:
    """A load: connections, outstanding requests on each, requests in all, and whether all share one core."""

    connections: int
    outstanding: int
    requests: int
    one_core: bool = False

    def __str__(self) -> str:
        return f"{self.connections} x {self.outstanding}" + (", all on one core" if self.one_core else "")


#: Loads, and how many times as fast as streams we want to be. With one request in all, client and server take turns: on
#: two cores most of the time is one of them waking the other's, on one core it is what they do.
_SHAPES = {
    Shape(10, 100, 100_000): 5,
    Shape(100, 10, 60_000): 4,
    Shape(10, 1, 20_000): 1.2,
    Shape(1, 1, 10_000): 1.2,
    Shape(1, 1, 10_000, one_core=True): 1.2,
}


@dataclass(frozen=True)
class Served:
    """What one load took: seconds by the client's clock, and seconds of the server's CPU."""

    seconds: float
    cpu: float


def measure(*, quick: bool = False) -> Iterator[Figure]:
    """Compare with asyncio streams, and with a bare echo."""
    commands = {"ours": (*NODE, "--listen", LOOPBACK), "streams": python("streams"), "echo": python("echo")}
    if find_spec("uvloop"):
        commands["uvloop"] = python("streams", "uvloop")
    with ExitStack() as stack:
        # All of them all the time; those that have nothing to do take nothing.
        servers = {name: stack.enter_context(MeasuredProcess(command)) for name, command in commands.items()}
        ports = {name: server.port() for name, server in servers.items()}
        for full, target in _SHAPES.items():
            shape = replace(full, requests=400) if quick else full
            variants = {name: partial(serve, servers[name], ports[name], shape) for name in servers}
            in_turn(1, variants)
            yield from _figures(in_turn(1 if quick else 7, variants), shape, target)


def serve(server: MeasuredProcess, port: int, shape: Shape) -> Served:
    """Have a process of its own put a load on a server."""
    cores = _cores(shape)
    os.sched_setaffinity(server.pid, cores)
    command = python("load", str(port), str(shape.connections), str(shape.outstanding), str(shape.requests))
    before = server.cpu()
    load = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        preexec_fn=partial(os.sched_setaffinity, 0, cores),
    )
    return Served(float(load.stdout), server.cpu() - before)


def _cores(shape: Shape) -> Collection[int]:
    ours = os.sched_getaffinity(0)
    return {min(ours)} if shape.one_core else ours


def _figures(served: dict[str, list[Served]], shape: Shape, target: float) -> Iterator[Figure]:
    seconds = {name: [one.seconds for one in results] for name, results in served.items()}
    cpu = {name: [one.cpu for one in results] for name, results in served.items()}
    yield Figure(f"{shape}: as fast as streams", ratios(seconds["streams"], seconds["ours"]), at_least=target)
    if "uvloop" in served:
        yield Figure(f"{shape}: as fast as streams on uvloop", ratios(seconds["uvloop"], seconds["ours"]))
    yield Figure(f"{shape}: less CPU than streams", ratios(cpu["streams"], cpu["ours"]))
    if shape.outstanding == 1:
        # With more, it would be the client that is measured.
        yield Figure(f"{shape}: a bare Twisted echo, as fast as streams", ratios(seconds["streams"], seconds["echo"]))
    yield Figure(f"{shape}: requests a second", [shape.requests / one for one in seconds["ours"]], "/s")
    yield Figure(f"{shape}: CPU a request", [one / shape.requests * 1e6 for one in cpu["ours"]], "µs")
