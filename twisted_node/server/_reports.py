"""What the log says of a shutdown: a few lines that an operator can read, and every few seconds what is left."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger, LogLevel

from twisted_node.drain import Drain, Statistics
from twisted_node.names import name_oldest, summarise
from twisted_node.server._connection import Connection
from twisted_node.server._connections import Connections

__all__ = ["SECONDS_BETWEEN_REPORTS", "Reports"]

#: Pieces of work, each with its age in seconds.
Work = tuple[tuple[object, float], ...]

_log = Logger()

#: How often the log says what is left.
SECONDS_BETWEEN_REPORTS = 5.0

#: At most so many connections are named in one line.
_NAMES = 10


class Reports:
    """Tells the log of one shutdown, step by step.

    Args:
        drain: the work in flight.
        connections: those that are open.
        ends_by: tells by when the shutdown is over, on the drain's monotonic clock; None if that is not known.
    """

    def __init__(self, drain: Drain, connections: Connections, ends_by: Callable[[], float | None]) -> None:
        self._drain = drain
        self._connections = connections
        self._ends_by = ends_by
        self._loop = LoopingCall(self._report)
        self._loop.clock = drain.timers

    def lame_duck(self, seconds: float, reason: str) -> None:
        """Say that the service goes on for so many seconds, as a lame duck."""
        _log.info("lame duck for {seconds} s: {reason}", seconds=seconds, reason=reason)

    def draining(self, accepted: int) -> None:
        """Say that the drain has begun, with so many connections accepted from the listeners' queues."""
        statistics = self._drain.statistics()
        _log.info(
            "draining, at most {left:.1f} s: {reason}{from_queue}; {in_flight} in flight{oldest}",
            left=(self._drain.deadline or 0) - self._drain.monotonic(),
            reason=statistics.reason,
            accepted=accepted,
            from_queue=f"; {accepted} accepted from the queue" if accepted else "",
            in_flight=statistics.in_flight,
            oldest=_name(statistics.oldest),
        )
        self._loop.start(SECONDS_BETWEEN_REPORTS, now=False)

    def cut(self, count: int, oldest: Work, cause: str) -> None:
        """Say that so many pieces of work were cut, which they were, and what cut them."""
        _log.warn("{count} cut by {cause}{oldest}", count=count, cause=cause, oldest=_name(oldest))

    def going_on(self, statistics: Statistics) -> None:
        """Say that the service goes on, drained; no more is said until it closes."""
        self._loop.stop()
        _tell(LogLevel.info, "drained; going on until the end of input", statistics)

    def closing(self) -> None:
        """Learn that the connections close now; what is left of them is said from now on."""
        if not self._loop.running:
            self._loop.start(SECONDS_BETWEEN_REPORTS, now=False)

    def lost(self, connections: list[Connection], cause: str) -> None:
        """Say which connections are closed though their clients have not taken everything, and what closes them."""
        _log.warn(
            "{count} connections closed by {cause} with answers that their clients did not read: {names}",
            count=len(connections),
            cause=cause,
            names=_list(connections),
        )

    def ended(self, statistics: Statistics) -> None:
        """Say how it ended; nothing is said after that."""
        self._loop.stop()
        if statistics.cut:
            _tell(LogLevel.warn, "cut", statistics)
        else:
            _tell(LogLevel.info, "clean", statistics)

    def _report(self) -> None:
        statistics = self._drain.statistics()
        _log.info(
            "{in_flight} in flight, {connections} connections, {left:.1f} s left{oldest}",
            in_flight=statistics.in_flight,
            connections=len(self._connections),
            left=max(0.0, (self._ends_by() or self._drain.deadline or 0.0) - self._drain.monotonic()),
            oldest=_name(statistics.oldest),
        )


def _tell(level: Any, outcome: str, statistics: Statistics) -> None:
    """Say what has become of the work, as a text and as numbers."""
    _log.emit(
        level,
        "{outcome}: {summary}, in {took:.3f} s",
        outcome=outcome,
        summary=summarise(statistics),
        finished=statistics.finished,
        refused=statistics.refused,
        cut=statistics.cut,
        undelivered=statistics.undelivered,
        took=statistics.took,
    )


def _list(connections: list[Connection]) -> str:
    """Name some connections."""
    names = ", ".join(str(connection) for connection in connections[:_NAMES])
    return names if len(connections) <= _NAMES else f"{names}, and {len(connections) - _NAMES} more"


def _name(oldest: Work) -> str:
    names = name_oldest(oldest)
    return f"; the oldest: {names}" if names else ""
