"""A time that can be brought nearer, and never pushed away: the deadline of a drain, and the end of a lame duck."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Deadline"]


class Deadline:
    """One deadline, with its one timer.

    Args:
        clock: for the timer.
        monotonic: tells the time in seconds. The clock may be the wall clock, which somebody may set.
        passed: called once, when the deadline has passed.
    """

    def __init__(self, clock: IReactorTime, monotonic: Callable[[], float], passed: Callable[[], object]) -> None:
        #: When it is, on ``monotonic``; None until it is set.
        self.at: float | None = None
        self._clock = clock
        self._monotonic = monotonic
        self._passed = passed
        self._watchers: list[Callable[[float], object]] = []
        self._timer: IDelayedCall | None = None
        self._stopped = False

    @property
    def left(self) -> float | None:
        """The seconds until then; 0 when it has passed, and None until it is set."""
        return None if self.at is None else max(0.0, self.at - self._monotonic())

    def watch(self, watcher: Callable[[float], object]) -> None:
        """Have a function called with the time whenever it is set or brought nearer."""
        self._watchers.append(watcher)

    def bring_near(self, at: float) -> None:
        """Set the deadline, unless it is nearer already.

        Args:
            at: when, on ``monotonic``.
        """
        if self.at is not None and at >= self.at:
            return
        self.at = at
        self._cancel()
        if not self._stopped:
            self._check()
        for watcher in self._watchers:
            watcher(at)

    def stop(self) -> None:
        """Set no timer any more: what was to be done by then is done."""
        self._stopped = True
        self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        if self.left:
            # This can happen even though the timer has fired: if it follows the wall clock, and somebody has set that
            # forward, it fires too early. Then we wait for the rest.
            self._timer = self._clock.callLater(self.left, self._check)
        else:
            self._passed()
