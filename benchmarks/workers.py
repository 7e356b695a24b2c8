"""More than one core: several nodes that adopt one listening socket, or one each on the same port, against one node.

The client opens all its connections at once.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from benchmarks.measure import NODE, PATIENCE, MeasuredProcess, in_turn, python, ratios
from benchmarks.report import Figure

TITLE = "Several processes behind one port"

#: systemd's convention: the socket is descriptor 3, for the process with this id.
_ADOPT = 'exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'


@dataclass(frozen=True)
class _Load:
    """What one load took by the clock, and the share of its CPU that the busiest node had."""

    seconds: float
    busiest: float


def measure(*, quick: bool = False) -> Iterator[Figure]:
    """Compare as many nodes as there are cores with one, under the same load."""
    rounds, requests = (1, 1_000) if quick else (5, 60_000)
    cores = len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        nodes = {
            "one": _start(stack, [_listen(stack)]),
            "shared": _start(stack, [_listen(stack)] * cores),
            "reuse": _start(stack, _listen_together(stack, cores)),
        }
        variants = {name: partial(_load, *started, requests) for name, started in nodes.items()}
        in_turn(1, variants)
        loads = in_turn(rounds, variants)
    one = [load.seconds for load in loads["one"]]
    for name, label in (("shared", "one socket shared"), ("reuse", "SO_REUSEPORT")):
        seconds = [load.seconds for load in loads[name]]
        yield Figure(
            f"{label}: {cores} nodes and the client on {cores} cores, as fast as one node", ratios(one, seconds)
        )
        yield Figure(f"{label}: the busiest node's share of the work", [load.busiest for load in loads[name]])


def _listen(stack: ExitStack, port: int = 0, *, reuse: bool = False) -> socket.socket:
    return stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=128, reuse_port=reuse))


def _listen_together(stack: ExitStack, count: int) -> list[socket.socket]:
    """Listen with several sockets on one port, each with a queue of its own."""
    first = _listen(stack, reuse=True)
    port = first.getsockname()[1]
    return [first, *(_listen(stack, port, reuse=True) for _ in range(count - 1))]


def _start(stack: ExitStack, listeners: list[socket.socket]) -> tuple[int, list[MeasuredProcess]]:
    """Start a node on each of some sockets, which may be one and the same; return their port, and them."""
    command = ("sh", "-c", _ADOPT, "sh", *NODE, "--listen", "systemd:domain=INET:index=0")
    nodes = [stack.enter_context(MeasuredProcess(command, stdin=listener.fileno())) for listener in listeners]
    for node in nodes:
        node.port()
    return int(listeners[0].getsockname()[1]), nodes


def _load(port: int, nodes: list[MeasuredProcess], requests: int) -> _Load:
    before = [node.cpu() for node in nodes]
    command = python("load", str(port), "40", "25", str(requests))
    load = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    cpu = [node.cpu() - cpu for node, cpu in zip(nodes, before, strict=True)]
    return _Load(float(load.stdout), max(cpu) / sum(cpu))
