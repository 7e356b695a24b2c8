"""Many requests in flight at once: what each costs, and how long beginning a drain and cutting them block the node."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from functools import partial
from statistics import median

from benchmarks.lines import INIT, long_requests, message, request
from benchmarks.measure import NODE, MeasuredProcess, in_turn
from benchmarks.report import Figure

TITLE = "In flight at once"

#: Milliseconds that nothing waits for: these requests are cut.
_FOR_EVER = 600_000


def measure(*, quick: bool = False) -> Iterator[Figure]:
    """Answer, and cut, several numbers of requests."""
    counts = (20, 50, 100) if quick else (1_000, 10_000, 100_000)
    lines = {count: b"".join(long_requests(count, 0.1 if quick else 3)) for count in counts}
    costs = in_turn(
        1 if quick else 3,
        {f"{count:,}": partial(_cpu_a_request, lines[count], count) for count in counts},
    )
    for name, cpu in costs.items():
        yield Figure(f"{name} requests of 3 to 4 s: CPU a request", [one * 1e6 for one in cpu], "µs")
    fewer, many = (costs[f"{count:,}"] for count in counts[1:])
    yield Figure(
        f"CPU a request at {counts[2]:,}, of that at {counts[1]:,}", [one / median(fewer) for one in many], at_most=1.5
    )
    held = [_hold(counts[2]) for _ in range(1 if quick else 3)]
    size, begin, begin_cpu, cut, cut_cpu = zip(*held, strict=True)
    name = f"{counts[2]:,} in flight"
    yield Figure(f"{name}: memory a request", size, "bytes", at_most=2_500)
    yield Figure(f"{name}: beginning a drain, until answered", begin, "s", at_most=0.1)
    yield Figure(f"{name}: CPU of that", begin_cpu, "s")
    yield Figure(f"{name}: cutting all, until the first is answered", cut, "s", at_most=1)
    yield Figure(f"{name}: CPU of that", cut_cpu, "s")


def _cpu_a_request(lines: bytes, count: int) -> float:
    """Seconds of CPU for each of some requests, from before the first line to after the last answer."""
    with MeasuredProcess(NODE) as process:
        process.send(INIT)
        process.read_lines(1)
        before = process.cpu()
        # The first answers may come before the last request has gone in.
        feeder = threading.Thread(target=process.send, args=[lines])
        feeder.start()
        process.read_lines(count)
        feeder.join()
        return (process.cpu() - before) / count


def _hold(count: int) -> tuple[float, float, float, float, float]:
    """Have requests in flight that do not end.

    Returns:
        Bytes for each; seconds, and seconds of CPU, to begin a drain; the same to cut them.
    """
    # A virtual machine may get memory from its host only when it is touched, at 10 microseconds a page: be that now.
    bytearray(count * 4_000)
    with MeasuredProcess((*NODE, "--max-in-flight", str(count))) as process:
        process.send(INIT)
        process.read_lines(1)
        before = process.resident()
        process.send(b"".join(request(msg_id, _FOR_EVER) for msg_id in range(2, count + 2)))
        process.send(message("tcp_drain_status", 2))
        status = json.loads(process.read_lines(1))["body"]
        if status["remaining"] != count:
            raise RuntimeError(f"not all in flight: {status}")
        size = (process.resident() - before) / count
        begin = _ask(process, message("tcp_shutdown", 3, drain_timeout_ms=_FOR_EVER))
        # All were cut once the first is answered: the answers of a chunk leave together.
        cut = _ask(process, message("tcp_shutdown", 4, drain_timeout_ms=0))
        return size, *begin, *cut


def _ask(process: MeasuredProcess, line: bytes) -> tuple[float, float]:
    """Seconds, and seconds of its CPU, until something is answered."""
    began, cpu = time.perf_counter(), process.cpu()
    process.send(line)
    process.read()
    return time.perf_counter() - began, process.cpu() - cpu
