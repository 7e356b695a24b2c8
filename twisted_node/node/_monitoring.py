"""What a node reports about its requests: to its observer, and to the log."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from twisted_node.node._wire import UnreadableLine

__all__ = ["Monitoring", "Observer"]

_log = Logger()

#: Called for each request that has ended: its type, its outcome (``ok``, ``error``, ``refused`` or ``cut``), and the
#: seconds that it took. Requests of a type without a handler are left out.
Observer = Callable[[str, str, float], object]

#: Every unreadable line is counted, but logged at most once in so many seconds, so that junk does not fill a disk.
_SECONDS_BETWEEN_WARNINGS = 5.0


class Monitoring:
    """Tells an observer of the requests that have ended, and counts the lines that could not be read."""

    def __init__(self) -> None:
        self.observer: Observer | None = None
        self.unreadable_lines = 0
        self._next_warning = 0.0

    def ended(self, type_: str, outcome: str, seconds: float) -> None:
        """Report a request that has ended."""
        if self.observer is not None:
            with _log.failuresHandled("while telling of a request"):
                self.observer(type_, outcome, seconds)

    def unreadable(self, fault: UnreadableLine, now: float) -> None:
        """Count a line that could not be read.

        Args:
            fault: what is wrong with it.
            now: in seconds, on a clock that nobody sets.
        """
        self.unreadable_lines += 1
        if now >= self._next_warning:
            self._next_warning = now + _SECONDS_BETWEEN_WARNINGS
            _log.warn("unreadable line, {count} so far: {fault.text}", count=self.unreadable_lines, fault=fault)
