"""What ``twisted-node`` shows of a drain: a bar on a terminal, plain lines elsewhere, and a last line.

Names and reasons come from clients, so that what is not printable in them is replaced.
"""

from __future__ import annotations

import sys
from typing import Protocol

from twisted_node.names import name_oldest, printable, summarise
from twisted_node.server import Picture

__all__ = ["Display", "best_display", "table", "verdict"]

#: Milliseconds between two plain lines while only the time changes.
_QUIET_MS = 5000


class Display(Protocol):
    """Where a drain is shown."""

    #: Seconds between two calls of ``show``.
    seconds: float

    def show(self, picture: Picture) -> None:
        """Show the state of the node."""

    def close(self) -> None:
        """Stop showing, and leave the terminal as it was."""


def best_display() -> Display:
    """Make the bar if standard output is a terminal and the ``cli`` extra is installed, otherwise plain lines."""
    if sys.stdout.isatty():
        try:
            return _Bar()
        except ImportError:
            pass
    return _Lines()


def verdict(picture: Picture) -> str:
    """Say in one line how a drain has ended."""
    how = "timed out after" if picture.phase == "timed_out" else "drained in"
    return f"{how} {picture.took_ms / 1000:.3f} s: {summarise(picture)}{_oldest(picture, '; cut: ')}"


def table(picture: Picture) -> str:
    """Say everything that is known of a node, one figure on each line."""
    left = "" if picture.left_ms is None else f"in {_seconds(picture.left_ms)}: "
    rows = [
        *([] if picture.node_id is None else [("node", printable(picture.node_id))]),
        ("pid", picture.pid),
        ("version", picture.version),
        *([] if picture.uptime_s is None else [("up", f"{picture.uptime_s:.1f} s")]),
        ("phase", _phase(picture)),
        ("in flight", picture.in_flight),
        ("connections", picture.connections),
        ("finished", picture.finished),
        ("refused", picture.refused),
        ("cut", picture.cut),
        ("undelivered", picture.undelivered),
        ("took", f"{picture.took_ms / 1000:.3f} s"),
        ("deadline", left + picture.at_deadline),
        *(("oldest", f"{printable(each.name)}  {_seconds(each.age_ms)}") for each in picture.oldest),
    ]
    return "\n".join(f"{name:<12} {value}" for name, value in rows)


class _Lines:
    """A line each second while something changes, and every few seconds while only the time does."""

    seconds = 1.0

    def __init__(self) -> None:
        self._said: tuple[object, ...] = ()
        self._said_at = 0

    def show(self, picture: Picture) -> None:
        news = (picture.phase, picture.remaining, [each.name for each in picture.oldest[:1]])
        if news != self._said or picture.took_ms - self._said_at >= _QUIET_MS:
            self._said, self._said_at = news, picture.took_ms
            print(
                f"{_phase(picture)}: {picture.remaining} remaining, {_seconds(picture.left_ms or 0)} left"
                f"{_oldest(picture, '; the oldest: ')}",
                flush=True,
            )

    def close(self) -> None:
        """Do nothing."""


class _Bar:
    """A bar, with the oldest requests below."""

    seconds = 0.25

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._most = 1
        self._live = Live(console=Console(highlight=False), auto_refresh=False, transient=True)

    def show(self, picture: Picture) -> None:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        self._most = max(self._most, picture.remaining)
        done = self._most - picture.remaining
        head = Table.grid(padding=(0, 2))
        head.add_column(ratio=1)
        head.add_column(no_wrap=True)
        head.expand = True
        figures = f"{picture.remaining} remaining  {_seconds(picture.left_ms or 0)} left"
        head.add_row(ProgressBar(total=self._most, completed=done), Text(figures))
        oldest = Table.grid(padding=(0, 2))
        for each in picture.oldest[:3]:
            oldest.add_row(Text("oldest", style="dim"), Text(printable(each.name)), Text(_seconds(each.age_ms)))
        self._live.start()
        self._live.update(Group(Text(_phase(picture), style="bold"), head, oldest), refresh=True)

    def close(self) -> None:
        self._live.stop()


def _phase(picture: Picture) -> str:
    phase = picture.phase.replace("_", " ")
    return f"{phase} ({printable(picture.reason)})" if picture.reason else phase


def _oldest(picture: Picture, before: str) -> str:
    names = name_oldest((each.name, each.age_ms / 1000) for each in picture.oldest[:3])
    return before + names if names else ""


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.1f} s"
