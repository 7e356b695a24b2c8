"""What connections cost: memory when idle, and the CPU of a request as they grow in number."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.load import connect
from benchmarks.measure import LOOPBACK, NODE, MeasuredProcess, allow_many_files, in_turn
from benchmarks.report import Figure
from benchmarks.tcp import Served, Shape, serve

TITLE = "Connections"

#: Outstanding requests in all, however many connections they are on.
_OUTSTANDING = 1_000


def measure(*, quick: bool = False) -> Iterator[Figure]:
    """Count what is added by idle connections and by busy ones."""
    allow_many_files()
    idle, requests, rounds = (20, 1_000, 1) if quick else (1_000, 30_000, 3)
    with MeasuredProcess((*NODE, "--listen", LOOPBACK)) as server:
        port = server.port()
        # What the first requests leave behind is no connection's.
        serve(server, port, Shape(10, 10, requests))
        before = server.resident()
        clients = connect(port, idle)
        yield Figure("memory of an idle connection", [(server.resident() - before) / idle], "bytes")
        beside_idle = [serve(server, port, Shape(10, 10, requests)) for _ in range(rounds)]
        for client in clients:
            client.close()
        alone = [serve(server, port, Shape(10, 10, requests)) for _ in range(rounds)]
        for name, served in ((f"beside {idle:,} idle ones", beside_idle), ("alone", alone)):
            yield Figure(
                f"CPU a request, 10 outstanding on each of 10 connections, {name}", _cpu(served, requests), "µs"
            )
        # Enough that opening and closing 1,000 connections hardly counts.
        requests *= 1 if quick else 7
        variants = {
            number: partial(serve, server, port, Shape(number, _OUTSTANDING // number, requests))
            for number in (1, 10, 100, 1_000)
        }
        in_turn(1, variants)
        for number, served in in_turn(rounds, variants).items():
            name = f"CPU a request, {_OUTSTANDING:,} outstanding on {number:,} connections"
            yield Figure(name, _cpu(served, requests), "µs")


def _cpu(served: list[Served], requests: int) -> list[float]:
    return [one.cpu / requests * 1e6 for one in served]
