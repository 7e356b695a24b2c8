"""The tables, the page and the picture of restart.py."""

from __future__ import annotations

import os
import platform
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.restart_servers import LOOK, SERVERS
from benchmarks.restart_storm import CLIENTS, LATE, VERY_LATE, Counts

__all__ = ["Result", "Results", "table", "write"]


@dataclass
class Result:
    """What came of the restarts of a server."""

    #: By the kind of client.
    counts: dict[str, Counts] = field(default_factory=lambda: {kind: Counts() for kind in CLIENTS})
    #: How many restarts did not come to their end.
    undone: int = 0

    def add(self, other: Result) -> None:
        """Add another round."""
        self.undone += other.undone
        for kind, counts in other.counts.items():
            self.counts[kind].add(counts)

    @property
    def total(self) -> Counts:
        """All kinds of clients together."""
        total = Counts()
        for counts in self.counts.values():
            total.add(counts)
        return total

    def by_kind(self, what: str) -> str:
        """Write a count of each kind of client, or 0 if all are."""
        values: list[int] = [getattr(counts, what) for counts in self.counts.values()]
        return " / ".join(f"{value:,}" for value in values) if any(values) else "0"


#: By the name of the server, by the round trip in seconds.
Results = dict[str, dict[float, Result]]

BEGIN = "<!-- From here to the end of what was measured, `make bench-restart` writes. -->"
END = "<!-- The end of what was measured. -->"

_COLUMNS = {
    "refused": "refused",
    "lost": "lost",
    "told": "told 5xx",
    "late": f"over {LATE:g} s late",
    "very_late": f"over {VERY_LATE:g} s late",
}


def table(results: Results, round_trip: float) -> str:
    """Write a row for each server, with what became of each kind of client."""
    rows = [["server, and its way", "requests", *_COLUMNS.values(), "worst, ms late", "undone"]]
    for name, by_distance in results.items():
        result = by_distance[round_trip]
        total = result.total
        cells = [result.by_kind(what) for what in _COLUMNS]
        worst = f"{total.worst * 1000:,.0f}"
        rows.append([SERVERS[name].label, f"{total.requests:,}", *cells, worst, str(result.undone)])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows)


def write(results: Results, rounds: int, restarts: int, folder: Path) -> None:
    """Write the picture, and the part of the page that is measured.

    Args:
        results: what was measured.
        rounds: how many storms each server had.
        restarts: how often it was restarted under each.
        folder: of both files.
    """
    round_trips = list(next(iter(results.values())))
    _draw(results, round_trips, rounds * restarts, folder / "restart.png")
    page = folder / "restart.md"
    text = page.read_text() if page.exists() else f"# Restarted under load\n\n{BEGIN}\n{END}\n"
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{page}: there is no place between {BEGIN} and {END}")
    page.write_text(f"{before}{begin}\n\n{_measured(results, round_trips, rounds, restarts)}\n{end}{after}")


def _measured(results: Results, round_trips: Sequence[float], rounds: int, restarts: int) -> str:
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    kinds = " / ".join(CLIENTS)
    new, kept, slow, streaming = (CLIENTS[kind].clients for kind in CLIENTS)
    paragraphs = [
        f"""Written by `python -m benchmarks.restart --rounds {rounds} --restarts {restarts} --write`;
        `make bench-restart` passes `--rounds 2 --restarts 5`. The servers have a storm of clients each, in turn,
        {rounds} times, and are restarted {restarts} times under each, on Python {platform.python_version()} and
        {os.cpu_count()} cores shared with the clients. The load averages when it ended were {load}. Counts are of all
        {rounds * restarts} restarts together; where not all are 0 they stand by kind of client: {kinds}.""",
        *(f"{_where(round_trip)}:\n{table(results, round_trip)}" for round_trip in round_trips),
        f"""The storm: {new} clients that make a connection for each request; {kept} that keep theirs; {slow} that keep
        theirs, too, and whose answers take {CLIENTS["slow"].seconds:g} s; {streaming} that make a connection for each
        answer of {CLIENTS["streaming"].parts} parts over {CLIENTS["streaming"].seconds:g} s. Each has one request at a
        time, and the next 20 to 60 ms after the answer. One that keeps its connection looks for the end of input before
        it asks, and makes a new connection if it is there. None tries again what has failed; a refused one goes on
        after its pause, and so counts as often as it was refused.""",
        """Refused: there was no connection. Lost: a connection was made and no whole answer came, because of a reset,
        an end, or 15 s without one after the end of the storm. Told 5xx: answered by an error, such as 503. Late:
        answered well, but by so much beyond what it had to take: the time that was asked for, a round trip, and another
        one for a new connection. What the row of the server that is not restarted has is the machine's, not a
        restart's; a server that starts takes processor time from those that answer, and from the clients. Undone: a
        restart that had not come to its end after 30 s, such as one that the server gave up; it serves on.""",
        f"""Each is restarted as its documents say, and has come back when its old processes have ended and its new ones
        are there; a second later the next restart begins. uvicorn, gunicorn and granian have two workers (uvicorn
        reloads only with more than one) and 10 s for what is in flight; with SIGUSR2, gunicorn and nginx have {LOOK:g}
        s with both masters before the first is told to go. nginx has two workers and `worker_shutdown_timeout 10s`.
        HAProxy has `expose-fd listeners`, `hard-stop-after 10s`, and `option idle-close-on-response`, which its manual
        names for clients that keep connections. Envoy has `--drain-time-s 3` and `--parent-shutdown-time-s 6`, which
        are 600 and 900 by default. The proxies stand before one granian, which is not restarted; what they cost is on
        the same cores. All have a queue of 1,024 connections; all else is at its default.""",
    ]
    if len(round_trips) > 1:
        paragraphs.append(
            """40 ms away: the clients are in a network namespace of their own, on a line to the server's that takes 20
            ms each way. A close takes 20 ms to its client; a request that a client has sent meanwhile, on a connection
            that it keeps, crosses it and is lost, unless the server says with an answer that it closes behind it."""
        )
    if os.getuid() == 0:
        paragraphs.append(
            "All servers run as an ordinary user, without privileges but that they may read all files. nginx begins as"
            " a daemon, which it must for SIGUSR2; the others stay in the foreground."
        )
    text = "\n\n".join(_fill(paragraph) for paragraph in paragraphs)
    return f"{text}\n\n![Requests failed and late in restarts](restart.png)\n"


def _fill(paragraph: str) -> str:
    head, colon, rows = paragraph.partition(":\n|")
    if colon:
        return f"{head}:\n\n|{rows}"
    return textwrap.fill(" ".join(paragraph.split()), 120, break_on_hyphens=False)


def _where(round_trip: float) -> str:
    return f"With {round_trip * 1000:.0f} ms to the clients and back" if round_trip else "On one machine"


def _draw(results: Results, round_trips: Sequence[float], restarts: int, path: Path) -> None:
    """Draw for each server what failed, and what was late, here and at a distance."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    # The version is in the table.
    labels = [re.sub(r" \S*\d\S*, ", ", ", SERVERS[name].label) for name in results]
    charts = {
        "requests refused, lost or told 5xx, per restart": lambda total: (
            (total.refused + total.lost + total.told) / restarts
        ),
        f"over {LATE:g} s late, of 1,000 requests": lambda total: 1000 * total.late / max(total.requests, 1),
    }
    height = 0.8 / len(round_trips)
    figure, axes_of = pyplot.subplots(
        1, len(charts), figsize=(9, 0.8 + 0.38 * len(results)), sharey=True, layout="constrained"
    )
    for axes, (title, value) in zip(axes_of, charts.items(), strict=True):
        for number, round_trip in enumerate(round_trips):
            values = [value(by_distance[round_trip].total) for by_distance in results.values()]
            bars = axes.barh(
                [place + height * (number - (len(round_trips) - 1) / 2) for place in range(len(labels))],
                values,
                height,
                color=["#2a7d4f" if label.startswith("DrainingSite") else "#9aa5b1" for label in labels],
                alpha=0.5 if round_trip else 1.0,
            )
            texts = [f"{value:.1f}" if 0 < value < 10 else f"{value:,.0f}" for value in values]
            axes.bar_label(bars, texts, padding=3, fontsize=7)
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.set_xscale("symlog", linthresh=1)
        axes.margins(x=0.25)
        axes.set_xlim(left=0)
        axes.set_xticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1,000"])
        axes.spines[["top", "right"]].set_visible(False)
    axes_of[0].set_yticks(range(len(labels)), labels)
    axes_of[0].invert_yaxis()
    if len(round_trips) > 1:
        figure.supxlabel("above: on one machine; below, lighter: 40 ms to the clients and back", fontsize=8)
    figure.savefig(path, dpi=110)
