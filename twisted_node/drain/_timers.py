"""Timers that go by the monotonic clock, on a reactor whose own go by the wall clock, which somebody may set.

With the wall clock set back an hour, a timer of Twisted's own fires an hour late: a drain would miss its deadline.
"""

from __future__ import annotations

import heapq
import os
import struct
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorFDSet, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.base import DelayedCall
    from twisted.python.failure import Failure

__all__ = ["MonotonicTimers", "monotonic_timers"]

_log = Logger()

#: From Linux's sys/timerfd.h: the time given is absolute, not relative to now.
_TFD_TIMER_ABSTIME = 1

#: Cancelled timers are removed from the heap once they are more than this many, and more than half of all.
_MANY_CANCELLED = 50


def monotonic_timers(clock: Any) -> IReactorTime:
    """Find what to set timers with: the reactor's file descriptors, by the monotonic clock, or else the clock itself.

    Args:
        clock: a reactor, or ``twisted.internet.task.Clock`` in a test.
    """
    # Not at import time: whoever imports the drain for something else need not pay for this.
    from twisted.internet.task import Clock

    timers: IReactorTime = clock
    if IReactorFDSet.providedBy(clock) and not isinstance(clock, Clock):
        # Not on Linux, or no file descriptor is left: the reactor's own are what there is.
        with suppress(AttributeError, OSError):
            timers = MonotonicTimers(clock)
    return timers


@implementer(IReactorTime)
class MonotonicTimers:
    """An ``IReactorTime`` on a timer of the kernel's, a timerfd, that the reactor reads like a connection.

    Args:
        reactor: reads the timer, only while something is pending.

    Raises:
        AttributeError: the kernel has no such timers.
        OSError: it can give us none.
    """

    def __init__(self, reactor: Any) -> None:
        import ctypes

        from twisted.internet.base import DelayedCall

        self._reactor = reactor
        self._make_call = DelayedCall
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "no timer")
        weakref.finalize(self, os.close, self._descriptor).atexit = False
        # A heap, the earliest first.
        self._pending: list[DelayedCall] = []
        #: Those cancelled since they were last looked through.
        self._cancelled = 0

    # What sets timers calls.

    #: Tells the time.
    seconds = staticmethod(time.monotonic)

    def callLater(  # type: ignore[override] # its interface is taken to call ``self`` what it calls the delay
        self, delay: float, function: Callable[..., object], *args: Any, **options: Any
    ) -> DelayedCall:
        """Call a function in so many seconds."""
        call = self._make_call(
            self.seconds() + delay, function, args, options, self._call_cancelled, self._call_moved, self.seconds
        )
        heapq.heappush(self._pending, call)
        if self._pending[0] is call:
            self._set()
        return call

    def getDelayedCalls(self) -> list[DelayedCall]:
        """List what is pending."""
        return [call for call in self._pending if call.active()]

    # What the reactor calls.

    def fileno(self) -> int:
        """Say what is to be read."""
        return self._descriptor

    def logPrefix(self) -> str:
        """Name this in a log."""
        return "timers"

    def doRead(self) -> None:
        """Call what is due."""
        with suppress(BlockingIOError):
            os.read(self._descriptor, 8)
        # All calls that are due are collected first. If one of them sets another timer for 0 seconds, that one fires in
        # the reactor's next turn, as Twisted does it.
        now = self.seconds()
        due: list[DelayedCall] = []
        while self._pending and self._pending[0].time <= now:
            due.append(heapq.heappop(self._pending))
        for call in due:
            if call.cancelled:
                continue
            if call.delayed_time > 0:
                call.activate_delay()
                heapq.heappush(self._pending, call)
            else:
                call.called = 1
                with _log.failuresHandled("while calling {function}", function=call.func):
                    call.func(*call.args, **call.kw)
        self._set()

    def connectionLost(self, _: Failure) -> None:
        """Do nothing: the reactor has ended, and calls nothing any more."""

    def _call_cancelled(self, call: DelayedCall) -> None:
        # Twisted sets this only after it has called us, and the filter below needs it now.
        call.cancelled = 1
        self._cancelled += 1
        if self._cancelled > max(_MANY_CANCELLED, len(self._pending) // 2):
            self._pending = [call for call in self._pending if not call.cancelled]
            heapq.heapify(self._pending)
            self._cancelled = 0
            self._set()
        elif 0 < len(self._pending) <= _MANY_CANCELLED and self._pending[0] is call:
            # Of many, it is left to fire for nothing: 10,000 connections that close cancel the earliest 10,000 times.
            self._set()

    def _call_moved(self, _: DelayedCall) -> None:
        """Learn that a timer was brought nearer."""
        heapq.heapify(self._pending)
        self._set()

    def _set(self) -> None:
        """Set the kernel's timer for the earliest that is pending, if any is."""
        while self._pending and self._pending[0].cancelled:
            heapq.heappop(self._pending)
        if not self._pending:
            self._reactor.removeReader(self)
            return
        seconds, rest = divmod(max(self._pending[0].time, 1e-9), 1)
        # A struct itimerspec: the interval (none) and the time, each as seconds and nanoseconds. A time of 0 would
        # switch the timer off.
        moment = struct.pack("4l", 0, 0, int(seconds), max(1, int(rest * 1e9)))
        self._libc.timerfd_settime(self._descriptor, _TFD_TIMER_ABSTIME, moment, None)
        self._reactor.addReader(self)
