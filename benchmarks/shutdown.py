"""``python -m benchmarks.shutdown [--stops N] [--write]``: stop servers under a storm of clients, count what is lost.

The storm, and what counts as lost, is in ``benchmarks/http_storm.py``. Each server runs in one process (or one worker),
with its documented graceful settings on, and is stopped by SIGTERM. ``--write`` also writes docs/shutdown.md and
docs/shutdown.png.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from benchmarks.http_storm import CLIENTS, Result, Storm

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
ASGI = "benchmarks.peers:asgi"
#: Seconds after which a server that has not ended is killed.
PATIENCE = 20

#: How each server is started; PORT is replaced.
SERVERS: dict[str, list[str]] = {
    "DrainingSite": ["twistd", "-n", "--pidfile=", "-y", "examples/site.tac"],
    "twisted.web Site": ["twistd", "-n", "--pidfile=", "-y", "benchmarks/plain_site.tac"],
    "uvicorn": ["uvicorn", ASGI, "--port=PORT", "--backlog=1024", "--timeout-graceful-shutdown=10", "--no-access-log"],
    "hypercorn": ["hypercorn", ASGI, "--bind=127.0.0.1:PORT", "--backlog=1024", "--graceful-timeout=10"],
    "granian": [
        *["granian", ASGI, "--interface=asgi", "--host=127.0.0.1", "--port=PORT", "--backlog=1024"],
        "--workers-kill-timeout=10",
    ],
    "gunicorn": [
        *["gunicorn", ASGI, "--worker-class=asgi", "--bind=127.0.0.1:PORT", "--backlog=1024"],
        "--graceful-timeout=10",
    ],
    "aiohttp": ["python", "benchmarks/peers.py"],
}
PACKAGES = {"DrainingSite": "twisted-node", "twisted.web Site": "Twisted"}


@dataclass
class Stop:
    """One stop of one server."""

    result: Result
    #: Seconds from the last answer to the end of the process.
    lag: float
    status: int

    @property
    def lost(self) -> int:
        return sum(self.result.lost.values())


async def stop_once(name: str, seed: int) -> Stop:
    """Start a server, let the storm loose on it, stop it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    command = [part.replace("PORT", str(port)) for part in SERVERS[name]]
    process = subprocess.Popen(
        [BIN / command[0], *command[1:]],
        cwd=ROOT,
        env={**os.environ, "PORT": str(port)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ended = 0.0

    def wait() -> None:
        nonlocal ended
        # With a timeout it would look every 50 ms only.
        process.wait()
        ended = time.monotonic()

    async def stop() -> None:
        process.send_signal(signal.SIGTERM)
        patience = asyncio.get_running_loop().call_later(PATIENCE, process.kill)
        await asyncio.to_thread(wait)
        patience.cancel()

    try:
        await wait_until_ready(name, port, process)
        result = await Storm(port, seed).run(stop)
    finally:
        process.kill()
        process.wait()
    return Stop(result, ended - result.last_answer, process.returncode)


async def wait_until_ready(name: str, port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise SystemExit(f"{name}: ended with {process.returncode}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/")
            if connection.getresponse().read() == b"ok":
                return
        except OSError:
            await asyncio.sleep(0.05)
        finally:
            connection.close()
    raise SystemExit(f"{name}: not ready")


def spread(values: Sequence[float]) -> str:
    """The median, and the least and the most if they differ."""
    least, most, median = round(min(values)), round(max(values)), round(statistics.median(values))
    return f"{median}" if least == most else f"{median} ({least} to {most})"


def table(stops: dict[str, list[Stop]]) -> str:
    rows = [
        [
            "server",
            "lost per stop",
            "refused (503)",
            f"half-sent answered, of {CLIENTS['half_sent']}",
            "last answer to end, ms",
        ],
    ]
    rows[0].append("exit status")
    for name, runs in stops.items():
        rows.append(
            [
                f"{name} {version(PACKAGES.get(name, name))}",
                spread([run.lost for run in runs]),
                spread([run.result.refused for run in runs]),
                spread([run.result.half_sent_answered for run in runs]),
                spread([run.lag * 1000 for run in runs]),
                ", ".join(sorted({str(run.status) for run in runs})),
            ]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows)


def draw(stops: dict[str, list[Stop]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (lost, lag) = pyplot.subplots(1, 2, figsize=(8, 2.8), sharey=True, layout="constrained")
    names = list(stops)
    colours = ["#2a7d4f" if name == "DrainingSite" else "#9aa5b1" for name in names]
    for axes, title, values in (
        (lost, "requests lost per stop (mean)", [statistics.mean(run.lost for run in stops[n]) for n in names]),
        (
            lag,
            "ms from last answer to end (median)",
            [statistics.median(run.lag for run in stops[n]) * 1000 for n in names],
        ),
    ):
        bars = axes.barh(names, values, color=colours)
        axes.bar_label(
            bars, [f"{value:.1f}" if 0 < value < 10 else f"{value:.0f}" for value in values], padding=3, fontsize=8
        )
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    lag.set_xscale("symlog", linthresh=10)
    lag.set_xlim(0, 10 * max(statistics.median(run.lag for run in runs) * 1000 for runs in stops.values()))
    lag.set_xticks([0, 10, 100, 1000], ["0", "10", "100", "1000"])
    lost.invert_yaxis()
    figure.savefig(path, dpi=110)


def document(stops: dict[str, list[Stop]], count: int) -> str:
    how = (
        f"Written by `python -m benchmarks.shutdown --stops {count} --write`; `make bench-shutdown` passes `--stops"
        f" 10`. Each server is stopped {count} times by SIGTERM, in turn, on Python {platform.python_version()} and"
        f" {os.cpu_count()} cores shared with the clients, in one process or worker, its graceful settings on: 25"
        " seconds to drain for DrainingSite, 10 for the others; twisted.web's own Site has no such setting. The median,"
        " and in brackets the least and the most:"
    )
    storm = (
        f"The storm: {CLIENTS['in_flight']} clients with a request of 50 to 400 ms in flight;"
        f" {CLIENTS['keep_alive']} that keep their connection and ask every 5 to 15 ms;"
        f" {CLIENTS['reconnecting']} that make a connection for each request; {CLIENTS['idle']} idle ones;"
        f" {CLIENTS['half_sent']} that send half a request before the stop, and the rest 150 ms later."
    )
    return f"""# Stopped under load

{textwrap.fill(how, 120, break_on_hyphens=False)}

{table(stops)}

{textwrap.fill(storm, 120, break_on_hyphens=False)}

Lost is a request that was sent whole on a connection that had been made, and got no whole response. A client that keeps
its connection looks whether the server has closed it before each request. A connection refused is not lost, nor is a
503: nothing was started, and the client knows.

![Requests lost per stop, and time to the end](shutdown.png)
"""


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stops", type=int, default=5, help="how often each server is stopped")
    parser.add_argument("--only", nargs="*", default=list(SERVERS), choices=list(SERVERS), help="not all servers")
    parser.add_argument("--write", action="store_true", help="write docs/shutdown.md and docs/shutdown.png")
    options = parser.parse_args()
    stops: dict[str, list[Stop]] = {name: [] for name in options.only}
    for number in range(options.stops):
        for name, runs in stops.items():
            stop = await stop_once(name, number)
            runs.append(stop)
            lost = ", ".join(f"{count} {kind}" for kind, count in sorted(stop.result.lost.items()))
            print(f"{name}: {stop.result.answered} answered, lost: {lost or 'none'}", file=sys.stderr)
    print(table(stops))
    if options.write:
        (ROOT / "docs" / "shutdown.md").write_text(document(stops, options.stops))
        draw(stops, ROOT / "docs" / "shutdown.png")


if __name__ == "__main__":
    asyncio.run(main())
