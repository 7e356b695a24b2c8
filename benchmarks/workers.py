"""More than one core: several nodes that adopt one listening socket, against one node."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

from benchmarks.measure import NODE, PATIENCE, Process, in_turn, python, ratios
from benchmarks.report import Figure

TITLE = "Several processes behind one listening socket"

#: systemd's convention: the socket is descriptor 3, for the process with this id.
_ADOPT = 'exec 3<&0 0</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'


def measure(*, quick: bool = False) -> Iterator[Figure]:
    """Compare as many nodes as there are cores with one, under the same load."""
    rounds, requests = (1, 1_000) if quick else (5, 60_000)
    cores = len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        ports = {count: _start(stack, count) for count in (1, cores)}
        variants = {str(count): partial(_load, port, requests) for count, port in ports.items()}
        in_turn(1, variants)
        seconds = in_turn(rounds, variants)
    speed_up = ratios(seconds["1"], seconds[str(cores)])
    yield Figure(f"as fast as one node: {cores} nodes, and the client, on {cores} cores", speed_up)


def _start(stack: ExitStack, count: int) -> int:
    """Start some nodes on one socket; return its port."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
    for _ in range(count):
        command = ("sh", "-c", _ADOPT, "sh", *NODE, "--listen", "systemd:domain=INET:index=0")
        stack.enter_context(Process(command, stdin=listener.fileno())).port()
    return int(listener.getsockname()[1])


def _load(port: int, requests: int) -> float:
    command = python("load", str(port), "40", "25", str(requests))
    load = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return float(load.stdout)
