"""The process around a draining service: signals, exit status, the watchdog, and the prompt end.

The first signal begins the drain. The second, at least half a second later, cuts what is left, and the third kills the
process. The exit status is 0 if nothing was cut, otherwise 1. The process ends within two seconds of its deadline,
whatever a handler or a thread does.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning

from twisted_node._seconds import LONGEST_SECONDS
from twisted_node.drain import Drain, Phase, Statistics
from twisted_node.names import name_oldest
from twisted_node.server import DrainingService
from twisted_node.server._shutdown import MAX_GRACE

__all__ = ["SIGNALS", "own_process"]

#: The signals that begin the drain. One that is ignored at the start (nohup does that, and so does a shell for what it
#: runs in the background) stays ignored.
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: A signal this soon after the last one counts as the same: supervisors and terminals send several at once.
_ESCALATION_SECONDS = 0.5

#: The watchdog ends the process this long after the deadline. It is half a second less than the two seconds that are
#: promised, for a busy machine.
_WATCHDOG_SECONDS = MAX_GRACE + 0.5


def own_process(service: DrainingService, reactor: Any) -> None:
    """End this process when the service ends, with a status that tells whether something was cut.

    Call it once, before the reactor runs, in the main thread. It takes over SIGTERM, SIGINT and SIGHUP. When the
    service has ended, it stops the reactor, lets whatever runs the reactor tidy up (twistd removes its pidfile), and
    ends the process without Python's own teardown, which takes 50 to 100 ms.

    Args:
        service: the service.
        reactor: is stopped when the service has ended.
    """
    _Owner(service, reactor)


class _Owner:
    """Handles the signals of the process, and ends it."""

    def __init__(self, service: DrainingService, reactor: Any) -> None:
        self._service = service
        self._reactor = reactor
        self._reason = "the reactor was stopped"
        self._signals = 0
        self._last_signal = 0.0
        self._cut = False
        self._watchdog = _Watchdog(service.drain)
        service.watch_end(self._watchdog.end_moved)
        service.when_ended().addCallback(self._ended)
        self._handle_signals()
        # Twisted installs handlers of its own when it starts.
        reactor.callWhenRunning(self._handle_signals)
        # twistd forks to become a daemon, and a thread that was started before would stay in the parent.
        reactor.callWhenRunning(self._watchdog.start)
        # Registered before the trigger of twistd and twist, which stops the service without a reason.
        reactor.addSystemEventTrigger("before", "shutdown", self._shut_down)
        reactor.addSystemEventTrigger("after", "shutdown", self._end_promptly)

    def _handle_signals(self) -> None:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._signalled)

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal.

        Python may call this between any two bytecodes, so it neither logs nor takes a lock, and leaves the rest to
        ``callFromThread``.
        """
        now = time.monotonic()
        if self._signals and now - self._last_signal < _ESCALATION_SECONDS:
            return
        self._signals += 1
        self._last_signal = now
        name = signal.Signals(number).name
        service = self._service
        if self._signals == 1:
            self._end_within(service.lame_duck + service.drain_timeout)
            self._reactor.callFromThread(self._stop, name)
        elif service.drain.phase is Phase.LAME_DUCK:
            self._end_within(service.drain_timeout)
            self._reactor.callFromThread(service.end, name)
        elif not self._cut:
            self._cut = True
            self._watchdog.end_moved(min(now, service.ends_by or now))
            self._reactor.callFromThread(service.cut, f"a second {name}")
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            # Still here: process 1, as in a container, is not killed by a signal that it sends to itself.
            os._exit(128 + number)

    def _end_within(self, seconds: float) -> None:
        """Start the watchdog, in case the reactor is too busy to; the service corrects the time when it is not."""
        if self._service.ends_by is None:
            self._watchdog.end_moved(time.monotonic() + seconds)

    def _stop(self, reason: str) -> None:
        self._reason = reason
        with suppress(ReactorNotRunning):
            self._reactor.stop()
        # A reactor that was stopping already has called this before the signal.
        self._shut_down()

    def _shut_down(self) -> Deferred[Statistics]:
        return self._service.end(self._reason, lame_duck=self._service.lame_duck)

    def _ended(self, _: Statistics) -> None:
        with suppress(ReactorNotRunning):
            self._reactor.stop()

    def _end_promptly(self) -> None:
        # Twisted remembers a signal that came while the reactor was starting, and twistd would end the process by it
        # again, with the status of a killed process. There is no public way to make it forget.
        self._reactor._exitSignal = None
        # The exit hook that is registered last runs first.
        atexit.register(_exit, 1 if self._service.drain.counts.cut else 0)


def _exit(status: int) -> None:
    """End the process without Python's teardown, after the other exit hooks."""
    with ExitStack() as last:
        last.callback(os._exit, status)
        for stream in filter(None, (sys.stdout, sys.stderr)):
            last.callback(stream.flush)
        atexit.unregister(_exit)
        # os._exit, which is called next, would skip them. Python has no public way to run them.
        atexit._run_exitfuncs()


class _Watchdog:
    """Ends the process if it has not ended by itself; in a thread, because the reactor may be stuck."""

    def __init__(self, drain: Drain) -> None:
        self._drain = drain
        # A signal handler may call put() in the middle of another put(): SimpleQueue allows that, Queue would deadlock.
        self._ends: SimpleQueue[float] = SimpleQueue()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def end_moved(self, ends_by: float) -> None:
        """Set when the service is to have ended, on the monotonic clock; the last call counts.

        Args:
            ends_by: in seconds.
        """
        self._ends.put(ends_by)

    def _watch(self) -> None:
        bites_at = self._ends.get() + _WATCHDOG_SECONDS
        while (left := bites_at - time.monotonic()) > 0:
            with suppress(Empty):
                bites_at = self._ends.get(timeout=min(left, LONGEST_SECONDS)) + _WATCHDOG_SECONDS
        threads = ", ".join(t.name for t in threading.enumerate() if t is not self._thread)
        with suppress(Exception):
            oldest = name_oldest(self._drain.statistics().oldest)
            last_words = f"not ended in time; in flight: {oldest or 'nothing'}; threads: {threads}\n"
            # Neither the log nor sys.stderr: one of their locks may be what is stuck.
            os.write(2, last_words.encode())
        os._exit(1)
