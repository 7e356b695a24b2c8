"""``python -m benchmarks.shutdown [--stops N] [--write]``: stop servers under a storm of clients, count what is lost.

Once on one machine, and once with the clients 40 ms away and the server as an ordinary user, which needs root. How a
server is started and stopped is in ``benchmarks/one_stop.py``. ``--write`` also writes docs/shutdown.md and
docs/shutdown.png.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.delay_line import FAR, DelayLine, why_not
from benchmarks.http_storm import CLIENTS, CROSSING, Result
from benchmarks.one_stop import GRACE, ROOT, SERVERS, Stop, stop_once
from benchmarks.ordinary_user import READER

PACKAGES = {"DrainingSite": "twisted-node", "twisted.web Site": "Twisted"}

#: Seconds from a client at a distance to the server and back.
ROUND_TRIP = 0.04

#: The stops of each server.
Stops = dict[str, list[Stop]]


def stop_far(line: DelayLine, name: str, seed: int) -> Stop:
    """Stop a server on the far side, with the clients on the near one."""
    program = [sys.executable, "-m", "benchmarks.one_stop", name, str(seed), FAR, str(ROUND_TRIP)]
    command = [*line.command("near"), *program, *line.command("far"), *READER]
    stop = json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    return Stop(**{**stop, "result": Result(**stop["result"])})


def spread(values: Sequence[float]) -> str:
    """The median, and the least and the most if they differ."""
    least, most, median = round(min(values)), round(max(values)), round(statistics.median(values))
    return f"{median}" if least == most else f"{median} ({least} to {most})"


def table(near: Stops, far: Stops) -> str:
    """Write a row for each server; of what is far only the losses, since times there are those of the way."""
    half_sent = CLIENTS["half_sent"]
    head = ["server", "lost per stop", "lost, 40 ms away", "of these may have crossed"]
    rows = [[*head, "refused (503)", f"half-sent answered, of {half_sent}", "last answer to end, ms", "exit status"]]
    for name, runs in near.items():
        rows.append(
            [
                f"{name} {version(PACKAGES.get(name, name))}",
                spread([run.lost for run in runs]),
                spread([run.lost for run in far[name]]) if far else "",
                spread([run.result.crossed for run in far[name]]) if far else "",
                spread([run.result.refused for run in runs]),
                spread([run.result.half_sent_answered for run in runs]),
                spread([run.lag * 1000 for run in runs]),
                ", ".join(sorted({str(run.status) for run in runs})),
            ]
        )
    if not far:
        for row in rows:
            del row[2:4]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows)


def draw(near: Stops, far: Stops, path: Path) -> None:
    """Draw the losses here and far away, and the times."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    names = list(near)
    charts = {"requests lost per stop (mean)": [statistics.mean(run.lost for run in near[name]) for name in names]}
    if far:
        charts["the same, clients 40 ms away"] = [statistics.mean(run.lost for run in far[name]) for name in names]
    lags = [statistics.median(run.lag for run in near[name]) * 1000 for name in names]
    charts["ms from last answer to end (median)"] = lags
    figure, rows = pyplot.subplots(
        1, len(charts), figsize=(3 + 2.5 * len(charts), 2.8), sharey=True, layout="constrained"
    )
    colours = ["#2a7d4f" if name == "DrainingSite" else "#9aa5b1" for name in names]
    for axes, (title, values) in zip(rows, charts.items(), strict=True):
        labels = [f"{value:.1f}" if 0 < value < 10 else f"{value:.0f}" for value in values]
        axes.bar_label(axes.barh(names, values, color=colours), labels, padding=3, fontsize=8)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    rows[-1].set_xscale("symlog", linthresh=10)
    rows[-1].set_xlim(0, 10 * max(lags))
    rows[-1].set_xticks([0, 10, 100, 1000], ["0", "10", "100", "1000"])
    for axes in rows[:-1]:
        axes.set_xlim(0, 1.15 * max(max(values) for values in list(charts.values())[:-1]))
    rows[0].invert_yaxis()
    figure.savefig(path, dpi=110)


def document(near: Stops, far: Stops, count: int) -> str:
    """Write the page."""
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    paragraphs = {
        "how": f"""Written by `python -m benchmarks.shutdown --stops {count} --write`; `make bench-shutdown` passes
            `--stops 10`. Each server is stopped {count} times by SIGTERM, in turn, on Python
            {platform.python_version()} and {os.cpu_count()} cores shared with the clients, in one process or worker.
            The load averages when it ended were {load}. The median, and in brackets the least and the most:""",
        "settings": f"""Each drains as its documents say, for as long as a setting says. {
            "; ".join(f"{name}: {grace}" for name, grace in GRACE.items())
        }. twisted.web's own Site has no such setting. All have a queue of 1,024
            connections (`backlog`), so that none overflows; all else is at its default.""",
        "storm": f"""The storm: {CLIENTS["in_flight"]} clients with a request of 50 to 400 ms in flight;
            {CLIENTS["keep_alive"]} that keep their connection and ask every 5 to 15 ms; {CLIENTS["reconnecting"]} that
            make a connection for each request; {CLIENTS["idle"]} idle ones; {CLIENTS["half_sent"]} that send half a
            request before the stop, and the rest 150 ms later.""",
        "lost": """Lost is a request that was sent whole on a connection that had been made, and got no whole response;
            or a connection that was made, and reset before its first request could be sent. A client that keeps its
            connection looks whether the server has closed it before each request. A connection refused is not lost, nor
            is a 503: nothing was started, and the client knows.""",
        "far": f"""40 ms away: the same storm, in a network namespace of its own, on a line to the server's that takes
            20 ms each way. The server runs there as an ordinary user, without privileges (but that it may read all
            files). A connection is made on its client's side 20 ms before it is on the server's, and a close takes 20
            ms to its client. A request that meets it on its way has crossed it: counted here is what was sent on a kept
            connection whose client then read a clean end within {(ROUND_TRIP + CROSSING) * 1000:.0f} ms. It is lost all
            the same, but its client may know that it was not started.""",
    }
    text = {
        name: textwrap.fill(" ".join(paragraph.split()), 120, break_on_hyphens=False)
        for name, paragraph in paragraphs.items()
    }
    return f"""# Stopped under load

{text["how"]}

{table(near, far)}

{text["settings"]}

{text["storm"]}

{text["lost"]}
{f"{chr(10)}{text['far']}{chr(10)}" if far else ""}
![Requests lost per stop, and time to the end](shutdown.png)
"""


def report(where: str, name: str, stop: Stop) -> Stop:
    """Say what came of a stop."""
    result = stop.result
    lost = ", ".join(f"{count} {kind}" for kind, count in sorted(result.lost.items()))
    print(f"{name}{where}: {result.answered} answered, lost: {lost or 'none'}", file=sys.stderr)
    return stop


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stops", type=int, default=5, help="how often each server is stopped")
    parser.add_argument("--only", nargs="*", default=list(SERVERS), choices=list(SERVERS), help="not all servers")
    parser.add_argument("--write", action="store_true", help="write docs/shutdown.md and docs/shutdown.png")
    options = parser.parse_args()
    near: Stops = {name: [] for name in options.only}
    for number in range(options.stops):
        for name, runs in near.items():
            runs.append(report("", name, asyncio.run(stop_once(name, number))))
    far: Stops = {}
    if reason := why_not():
        print(f"not measured at a distance: {reason}", file=sys.stderr)
    else:
        far = {name: [] for name in options.only}
        with DelayLine(ROUND_TRIP) as line:
            for number in range(options.stops):
                for name, runs in far.items():
                    runs.append(report(", 40 ms away", name, stop_far(line, name, number)))
    print(table(near, far))
    if options.write:
        (ROOT / "docs" / "shutdown.md").write_text(document(near, far, options.stops))
        draw(near, far, ROOT / "docs" / "shutdown.png")


if __name__ == "__main__":
    main()
