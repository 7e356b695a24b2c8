"""``python -m benchmarks.restart [--rounds M] [--restarts N] [--write]``: restart servers under a storm of clients.

The storm, and what counts as lost and as late, is in ``benchmarks/restart_storm.py``; the servers, and the way in which
each is restarted, in ``benchmarks/restart_servers.py``. Each is restarted N times under one storm, on this machine and,
as root, with 40 ms to the clients and back; all that M times, in turn, so that a noisy machine is noisy for all.
``--write`` also writes docs/restart.png, and its part of docs/restart.md. What root starts runs as an ordinary user.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from benchmarks import restart_report
from benchmarks.delay_line import FAR, DelayLine, why_not
from benchmarks.one_stop import ROOT
from benchmarks.ordinary_user import READER
from benchmarks.restart_processes import PATIENCE, adopt_orphans
from benchmarks.restart_report import Result, Results
from benchmarks.restart_servers import BACKEND, SERVERS, Run, Server, find
from benchmarks.restart_storm import Counts

#: Seconds of the round trip at a distance.
DISTANCE = 0.04

#: Seconds from the first request to the first restart, and from the end of one to the next.
PAUSE = 1.0


def measure(server: Server, restarts: int, round_trip: float) -> Result:
    """Restart a server under a storm; return what came of it.

    Raises:
        SystemExit: the server did not start, or has ended.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="restart-")))
        host, near, before = "127.0.0.1", list[str](), list[str]()
        if round_trip:
            line = stack.enter_context(DelayLine(round_trip))
            host, near, before = FAR, line.command("near"), line.command("far")
        if os.getuid() == 0:
            before += READER
            folder.chmod(0o777)
        run = Run(server, host, before, folder)
        # Before the line and the folder go.
        stack.callback(run.remove)
        try:
            return _measure(run, restarts, near, round_trip)
        except (OSError, RuntimeError) as error:
            said = run.log.read_text(errors="replace")[-3000:]
            raise SystemExit(f"{said}\n{server.label}: {error}") from error


def _measure(run: Run, restarts: int, near: Sequence[str], round_trip: float) -> Result:
    if run.server.is_proxy:
        run.spawn(BACKEND)
    run.server.start(run)
    command = [*near, sys.executable, "-m", "benchmarks.restart_storm", run.host, str(run.port), str(round_trip)]
    undone = 0
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as storm:
        try:
            assert storm.stdout is not None
            if storm.stdout.readline() != "ready\n":
                raise RuntimeError("the storm did not begin")
            for _ in range(restarts):
                time.sleep(PAUSE)
                try:
                    run.restart()
                except TimeoutError as error:
                    print(f"{run.server.label}: {error}", file=sys.stderr)
                    undone += 1
            time.sleep(PAUSE)
            said, _ = storm.communicate(timeout=PATIENCE)
        finally:
            storm.kill()
    return Result({kind: Counts(**counts) for kind, counts in json.loads(said).items()}, undone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="how many storms each server has, in turn")
    parser.add_argument("--restarts", type=int, default=3, help="how often it is restarted under each")
    parser.add_argument("--only", nargs="*", default=list(SERVERS), choices=list(SERVERS), help="not all servers")
    parser.add_argument("--near", action="store_true", help="not at a distance too")
    parser.add_argument("--write", action="store_true", help="write docs/restart.md and docs/restart.png")
    options = parser.parse_args()
    round_trips = [0.0]
    if not options.near:
        if reason := why_not():
            print(f"not measured at a distance: {reason}", file=sys.stderr)
        else:
            round_trips.append(DISTANCE)
    for name in options.only:
        find(SERVERS[name].command[0])
    adopt_orphans()
    # Otherwise what has been started would outlive a SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    results: Results = {name: {round_trip: Result() for round_trip in round_trips} for name in options.only}
    for name, round_trip in (*product(options.only, round_trips),) * options.rounds:
        began = time.monotonic()
        results[name][round_trip].add(measure(SERVERS[name], options.restarts, round_trip))
        took = time.monotonic() - began
        so_far = results[name][round_trip]
        print(f"{SERVERS[name].label}, {round_trip * 1000:.0f} ms, {took:.0f} s: {so_far}", file=sys.stderr)
    for round_trip in round_trips:
        print(f"\n{restart_report.table(results, round_trip)}")
    if options.write:
        restart_report.write(results, options.rounds, options.restarts, ROOT / "docs")


if __name__ == "__main__":
    main()
